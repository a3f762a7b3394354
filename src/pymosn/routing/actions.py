"""What a route does with a request (key reference section 6.5)."""

from __future__ import annotations

import random
from typing import Final

from mypy_extensions import i64

from pymosn.api.exchange import Exchange
from pymosn.api.routing import RouteAction
from pymosn.api.upstream import NO_CONSTRAINTS, Criteria, Selection
from pymosn.api.variables import Variable
from pymosn.core.chars import decimal
from pymosn.core.headers import lower_name, to_text
from pymosn.core.message import GLOBAL_TIMEOUT, TRY_TIMEOUT, RequestHead
from pymosn.routing.hashing import HashPolicy
from pymosn.routing.rewrites import RequestChanges

#: Variables with which filters set the timeouts of a request; they override its header fields.
GLOBAL_TIMEOUT_VARIABLE: Final = "proxy_global_timeout"
TRY_TIMEOUT_VARIABLE: Final = "proxy_try_timeout"

#: The `upstream_protocol` of a route that keeps the client's protocol.
ANY_PROTOCOL: Final = "Auto"
#: Timeout in seconds of a route with timeout 0, as in MOSN.
DEFAULT_TIMEOUT: Final = 60.0


class Target:
    """A cluster and the labels that its host must have."""

    def __init__(self, cluster: str, subset: Criteria | None = None) -> None:
        self.cluster = cluster
        self.subset = subset


class RetryPolicy:
    """When and how often a request is tried again.

    `per_try_timeout`: seconds, 0 for none. `status_codes`: answers that are tried again; empty means 500 and above.
    `non_idempotent`: also when the host may have acted upon a request whose method promises nothing, such as POST.
    """

    def __init__(
        self,
        retry_on: bool,
        num_retries: int,
        per_try_timeout: float = 0.0,
        status_codes: frozenset[int] = frozenset(),
        non_idempotent: bool = False,
    ) -> None:
        self.retry_on = retry_on
        self.num_retries = num_retries
        self.per_try_timeout = per_try_timeout
        self.status_codes = status_codes
        self.non_idempotent = non_idempotent


class ForwardPlan:
    """How one request is forwarded: seconds for the response and for each attempt (0: no limit), retries, constraints."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.try_timeout = 0.0
        self.retry_policy: RetryPolicy | None = None
        self.changes: RequestChanges | None = None
        self.uses_host_name = False
        #: Shared unless this request has constraints; see `pymosn.proxy.decision.own_plan`.
        self.selection: Selection = NO_CONSTRAINTS


class Mirror:
    """Copies of `percent` of the requests for another cluster."""

    def __init__(self, cluster: str, percent: int) -> None:
        self.cluster = cluster
        self.percent = percent

    def wants_one(self) -> bool:
        """Draws whether one request is copied."""
        return random.random() * 100.0 < float(self.percent)


class ForwardOptions:
    """What a route may ask for beside a cluster and a time."""

    def __init__(
        self,
        subset: Criteria | None = None,
        changes: RequestChanges | None = None,
        retry_policy: RetryPolicy | None = None,
        hash_policies: list[HashPolicy] | None = None,
        mirrors: list[Mirror] | None = None,
        upstream_protocol: str = "",
        uses_host_name: bool = False,
    ) -> None:
        """`uses_host_name`: the upstream is asked for the name of the chosen host, not for the one in the request."""
        self.subset = subset
        self.changes = changes
        self.retry_policy = retry_policy
        self.hash_policies: list[HashPolicy] = [] if hash_policies is None else hash_policies
        self.mirrors: list[Mirror] = [] if mirrors is None else mirrors
        self.upstream_protocol = upstream_protocol
        self.uses_host_name = uses_host_name


class Forward(RouteAction):
    """Sends the request to a cluster; the reply's head must come within `timeout` seconds of the request's end."""

    def __init__(self, cluster: str, timeout: float, options: ForwardOptions | None = None) -> None:
        options = ForwardOptions() if options is None else options
        self.cluster = cluster
        self.timeout = timeout
        self.subset = options.subset
        self.changes = options.changes
        self.retry_policy = options.retry_policy
        self.hash_policies = options.hash_policies
        self.mirrors = options.mirrors
        self.upstream_protocol = options.upstream_protocol
        self.uses_host_name = options.uses_host_name
        #: Whether the request goes on as it is, to any host of the cluster, once.
        self.is_plain: bool = (
            options.changes is None
            and not options.uses_host_name
            and not self.hash_policies
            and not self.mirrors
            and options.retry_policy is None
        )
        #: The plan of all requests without constraints; must not be changed.
        self.plain_plan: ForwardPlan = ForwardPlan(timeout)
        self._target: Target = Target(cluster, options.subset)

    def needs_transcoder(self, protocol: str) -> bool:
        """Whether a request of `protocol` must be transcoded for the upstream."""
        wanted = self.upstream_protocol
        return bool(wanted) and wanted not in (protocol, ANY_PROTOCOL)

    def choose(self, exchange: Exchange) -> Target | None:
        """Where one request goes; asked once per request. None when what should name the cluster is not there."""
        return self._target

    def text(self) -> str:
        return f"forward to cluster {self.cluster}"


class ForwardWeighted(Forward):
    """Draws one of several clusters, in proportion to their weights; one of weight 0 is never drawn."""

    def __init__(self, clusters: list[tuple[Target, int]], timeout: float, options: ForwardOptions | None = None) -> None:
        """Raises ValueError when no cluster has a weight."""
        self._bounds: list[int] = []
        self._targets: list[Target] = []
        self._total = 0
        for target, weight in clusters:
            if weight > 0:
                self._total += weight
                self._bounds.append(self._total)
                self._targets.append(target)
        if self._total == 0:
            raise ValueError("the weights of weighted_clusters are all 0")
        super().__init__(self._targets[0].cluster, timeout, options)

    def choose(self, exchange: Exchange) -> Target | None:
        draw = int(random.random() * self._total)
        for place, bound in enumerate(self._bounds):
            if draw < bound:
                return self._targets[place]
        return self._targets[-1]

    def shares(self) -> list[tuple[str, int]]:
        """The clusters that can be drawn, with their weights."""
        bounds = [0, *self._bounds]
        return [(target.cluster, bounds[at + 1] - bounds[at]) for at, target in enumerate(self._targets)]

    def text(self) -> str:
        parts = [f"{name} ({weight} of {self._total})" for name, weight in self.shares()]
        return f"forward to one of {', '.join(parts)}"


class ForwardByVariable(Forward):
    """The cluster's name is the value of a variable."""

    def __init__(self, name: str, timeout: float, options: ForwardOptions | None = None) -> None:
        super().__init__("", timeout, options)
        self._variable = Variable(name)

    def choose(self, exchange: Exchange) -> Target | None:
        name = self._variable.value(exchange)
        return Target(name, self.subset) if name else None

    def text(self) -> str:
        return f"forward to the cluster named by variable {self._variable.name}"


class ForwardByHeader(Forward):
    """The cluster's name is the value of a request header (MOSN reads this key and never uses it)."""

    def __init__(self, name: str, timeout: float, options: ForwardOptions | None = None) -> None:
        super().__init__("", timeout, options)
        self._name: bytes = lower_name(name)

    def choose(self, exchange: Exchange) -> Target | None:
        value = exchange.request.headers.get_raw(self._name)
        return Target(to_text(value), self.subset) if value else None

    def text(self) -> str:
        return f"forward to the cluster named by header {to_text(self._name)}"


def asked_timeouts(action: Forward, exchange: Exchange) -> tuple[float, float]:
    """Seconds for the whole request and for each try (0: none), as request headers and variables ask; 0 means the default.

    As in MOSN a client may ask for any time, and what is not a number of milliseconds is not heard; the time in an RPC
    message comes before that in a header. A time per try that is not shorter than the whole has no effect.
    """
    request = exchange.request
    headers = request.headers
    total = request.timeout or _milliseconds(headers.get_raw(GLOBAL_TIMEOUT), action.timeout)
    policy = action.retry_policy
    per_try = _milliseconds(headers.get_raw(TRY_TIMEOUT), 0.0 if policy is None else policy.per_try_timeout)
    own = exchange.own_variables
    if own is not None:
        total = _milliseconds(own.get(GLOBAL_TIMEOUT_VARIABLE, "").encode(), total)
        per_try = _milliseconds(own.get(TRY_TIMEOUT_VARIABLE, "").encode(), per_try)
    total = total or DEFAULT_TIMEOUT
    return total, per_try if per_try < total else 0.0


def _milliseconds(value: bytes | None, default: float) -> float:
    """The seconds in 1 to 9 plain digits of milliseconds; `default` for anything else."""
    count: i64 = -1 if value is None else decimal(value)
    return default if count < 0 else float(count) / 1000.0


class Redirect(RouteAction):
    """Answers with another location; parts that are not given are the request's own, and the query is kept."""

    def __init__(self, status: int, scheme: str, host: str, path: str) -> None:
        self.status = status
        self._scheme = scheme
        self._host = host
        self._path = path

    def text(self) -> str:
        return f"redirect with status {self.status}"

    def location(self, head: RequestHead) -> str:
        """The value of the Location field."""
        scheme = self._scheme or head.scheme
        host = self._host or head.host
        if self._scheme and self._scheme != head.scheme and not self._host:
            old_port = {"http": ":443", "https": ":80"}.get(scheme, "")
            if old_port and host.endswith(old_port):
                host = host[: -len(old_port)]
        query = "" if head.raw_query is None else f"?{head.query}"
        target = f"{self._path or head.path}{query}"
        return f"{scheme}://{host}{target}" if host else target  # an HTTP/1.0 request may name no host


class DirectResponse(RouteAction):
    """Answers by itself."""

    def __init__(self, status: int, body: str) -> None:
        self.status = status
        self.body: bytes = body.encode()

    def text(self) -> str:
        return f"answer with status {self.status}"
