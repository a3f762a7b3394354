"""Route actions (key reference section 6.5)."""

from __future__ import annotations

import random
from typing import Final

from mypy_extensions import i64

from pymosn.api.exchange import Exchange
from pymosn.api.routing import Route, RouteAction
from pymosn.api.upstream import NO_CONSTRAINTS, Criteria, Selection
from pymosn.api.variables import Variable
from pymosn.core.authority import DEFAULT_PORTS, Authority, split_authority
from pymosn.core.chars import PATH, decimal, escape
from pymosn.core.failure import CLUSTER_UNKNOWN, Failure
from pymosn.core.headers import Headers, to_text
from pymosn.core.message import GLOBAL_TIMEOUT, TRY_TIMEOUT, RequestHead, UnreadableHeaders
from pymosn.core.uri import Uri, parse_target
from pymosn.routing.hashing import HashPolicy
from pymosn.routing.retries import RetryConditions, by_default
from pymosn.routing.rewrites import PathRewrite, RequestChanges

#: Timeout in seconds of a route with timeout 0, as in MOSN.
DEFAULT_TIMEOUT: Final = 60.0
#: The timeout in seconds of a route without one, 31 years: it can be added to a time of the clock and counted in ticks.
NO_TIMEOUT: Final = 1e9


class Target:
    """A cluster and the metadata that its host must have."""

    def __init__(self, cluster: str, subset: Criteria | None = None, route: Route | None = None) -> None:
        """`route`: which replaces the one that has chosen this target, with header changes and settings of its own."""
        self.cluster = cluster
        self.subset = subset
        self.route = route


#: The target of a request that names its cluster more than once.
AMBIGUOUS: Final = Target("")


class RetryPolicy:
    """When and how often a request is retried.

    `per_try_timeout`: seconds, 0 for none. `status_codes`: response statuses that are retried; empty means 500 and above.
    `non_idempotent`: also retry methods such as POST when the host may have processed the request. `conditions`: instead of
    `status_codes`. `first_pause`, `longest_pause`: seconds up to which the pause before a retry is drawn; it doubles. 0: the
    default of `pymosn.proxy.attempts`.
    """

    def __init__(
        self,
        retry_on: bool,
        num_retries: int,
        per_try_timeout: float = 0.0,
        status_codes: frozenset[int] = frozenset(),
        non_idempotent: bool = False,
        conditions: RetryConditions | None = None,
        *,
        first_pause: float = 0.0,
        longest_pause: float = 0.0,
    ) -> None:
        self.retry_on = retry_on
        self.num_retries = num_retries
        self.per_try_timeout = per_try_timeout
        self.non_idempotent = non_idempotent
        self.first_pause = first_pause
        self.longest_pause = longest_pause
        self.conditions: RetryConditions = by_default(status_codes) if conditions is None else conditions
        #: Whether the outcome of calls counts: they may then be repeated, although their method is POST.
        self.judges_calls: bool = retry_on and len(self.conditions.call_statuses) > 0

    def may_repeat(self, request: RequestHead) -> bool:
        """Whether a host may get `request` although another one may have acted upon it."""
        is_chosen = self.non_idempotent or (self.judges_calls and request.has_call_status)
        return request.may_repeat(True, is_chosen)


class ForwardPlan:
    """How one request is forwarded: seconds for the response and for each attempt (0: no limit), retries, constraints."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.try_timeout = 0.0
        self.retry_policy: RetryPolicy | None = None
        self.changes: RequestChanges | None = None
        self.uses_host_name = False
        #: Whether the client has shortened the timeouts: of the request, of each attempt.
        self.has_clients_total = False
        self.has_clients_try = False
        #: Shared unless this request has constraints; see `pymosn.proxy.decision.own_plan`.
        self.selection: Selection = NO_CONSTRAINTS

    def set_timeouts(self, timeouts: Timeouts) -> None:
        """Sets the timeouts that the client or a filter asked for."""
        self.timeout = timeouts.total
        self.try_timeout = timeouts.per_attempt
        self.has_clients_total = timeouts.has_clients_total
        self.has_clients_try = timeouts.has_clients_try


class Timeouts:
    """Timeouts of a request and of each attempt in seconds (0.0: none), and which of them the client has shortened."""

    def __init__(self, total: float, per_attempt: float, has_clients_total: bool, has_clients_try: bool) -> None:
        self.total = total
        self.per_attempt = per_attempt
        self.has_clients_total = has_clients_total
        self.has_clients_try = has_clients_try

    def is_only(self, total: float) -> bool:
        """Whether there is only the timeout `total`, which no client has shortened."""
        return self.total == total and self.per_attempt == 0.0 and not self.has_clients_total and not self.has_clients_try


class Mirror:
    """Mirrors `percent` of the requests to another cluster. `marks_host`: appends `-shadow` to the host of the copies."""

    def __init__(self, cluster: str, percent: float, marks_host: bool = False) -> None:
        self.cluster = cluster
        self.percent = percent
        self.marks_host = marks_host

    def wants_one(self) -> bool:
        """Decides at random whether a request is mirrored."""
        return random.random() * 100.0 < self.percent


class ForwardOptions:
    """Optional settings of a route, in addition to cluster and timeout."""

    def __init__(
        self,
        subset: Criteria | None = None,
        changes: RequestChanges | None = None,
        retry_policy: RetryPolicy | None = None,
        hash_policies: list[HashPolicy] | None = None,
        mirrors: list[Mirror] | None = None,
        upstream_protocol: str = "",
        uses_host_name: bool = False,
        *,
        idle_timeout: float = 0.0,
        longest_exchange: float = 0.0,
        longest_call: float = 0.0,
        unknown_cluster: Failure = CLUSTER_UNKNOWN,
        connect: bytes = b"",
    ) -> None:
        """`uses_host_name`: set the Host header to the name of the selected host.

        `idle_timeout`: seconds, instead of those of the listener. `longest_exchange`, `longest_call`: seconds from the
        arrival of a request, or a gRPC call, to the end of its response. 0: no setting. `unknown_cluster`: the failure if
        the cluster does not exist. `connect`: CONNECT or CONNECT_HERE for such requests; empty if the listener decides.
        """
        self.subset = subset
        self.changes = changes
        self.retry_policy = retry_policy
        self.hash_policies: list[HashPolicy] = [] if hash_policies is None else hash_policies
        self.mirrors: list[Mirror] = [] if mirrors is None else mirrors
        self.upstream_protocol = upstream_protocol
        self.uses_host_name = uses_host_name
        self.idle_timeout = idle_timeout
        self.longest_exchange = longest_exchange
        self.longest_call = longest_call
        self.unknown_cluster = unknown_cluster
        self.connect = connect


class Forward(RouteAction):
    """Forwards to a cluster. `timeout`: seconds from the end of the request to the response head."""

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
        self.idle_timeout = options.idle_timeout
        self.longest_exchange = options.longest_exchange
        self.longest_call = options.longest_call
        self.unknown_cluster = options.unknown_cluster
        self.connect = options.connect
        #: Whether the route limits the time in other ways than by `timeout`.
        self.has_limits: bool = options.idle_timeout > 0 or options.longest_exchange > 0 or options.longest_call > 0
        #: Whether requests are forwarded unchanged, to any host of the cluster, without retries.
        self.is_plain: bool = (
            options.changes is None
            and not options.uses_host_name
            and not self.hash_policies
            and not self.mirrors
            and options.retry_policy is None
            and not self.has_limits
        )
        #: The plan of all requests without constraints; must not be changed.
        self.plain_plan: ForwardPlan = ForwardPlan(timeout)
        self._target: Target = Target(cluster, options.subset)

    def choose(self, exchange: Exchange) -> Target | None:
        """Selects a request's target; called once per request. Returns None if the cluster's name is missing.

        Returns AMBIGUOUS if the request gives several names.
        """
        return self._target

    def text(self) -> str:
        return f"forward to cluster {self.cluster}"


#: Digits of the largest number of 64 bits.
_LONGEST_NUMBER: Final = 20


class ForwardWeighted(Forward):
    """Selects one of several clusters in proportion to their weights, at random or by a number in a header."""

    def __init__(
        self,
        clusters: list[tuple[Target, int]],
        timeout: float,
        options: ForwardOptions | None = None,
        header: str = "",
    ) -> None:
        """`header`: of the request, whose number is used instead of a random one. Raises ValueError if all weights are 0."""
        self._header = header.lower()
        self._clusters = [(target, weight) for target, weight in clusters if weight > 0]
        self._total = sum([weight for _, weight in self._clusters])
        if self._total == 0:
            raise ValueError("the weights of weighted_clusters are all 0")
        super().__init__(self._clusters[0][0].cluster, timeout, options)

    def choose(self, exchange: Exchange) -> Target | None:
        draw = self._number(exchange)
        for target, weight in self._clusters:
            draw -= weight
            if draw < 0:
                return target
        return self._clusters[-1][0]

    def _number(self, exchange: Exchange) -> int:
        """From 0 to below the sum of the weights."""
        if self._header:
            values = exchange.request.headers.get_all(self._header)
            text = values[0] if len(values) == 1 else ""
            if text.isascii() and text.isdecimal() and len(text) <= _LONGEST_NUMBER:
                return int(text) % self._total
        return int(random.random() * self._total)

    def shares(self) -> list[tuple[str, int]]:
        """The clusters with a weight, and their weights."""
        return [(target.cluster, weight) for target, weight in self._clusters]

    def text(self) -> str:
        parts = [f"{name} ({weight} of {self._total})" for name, weight in self.shares()]
        return f"forward to one of {', '.join(parts)}"


class ForwardByVariable(Forward):
    """The value of a variable is the cluster's name."""

    def __init__(self, name: str, timeout: float, options: ForwardOptions | None = None) -> None:
        super().__init__("", timeout, options)
        self._variable = Variable(name)

    def choose(self, exchange: Exchange) -> Target | None:
        if self._variable.is_repeated(exchange):
            return AMBIGUOUS
        name = self._variable.value(exchange)
        return Target(name, self.subset) if name else None

    def text(self) -> str:
        return f"forward to the cluster named by variable {self._variable.name}"


class ForwardByHeader(Forward):
    """The value of a request header is the cluster's name (MOSN reads this key but ignores it)."""

    def __init__(self, name: str, timeout: float, options: ForwardOptions | None = None) -> None:
        super().__init__("", timeout, options)
        self._name = name.lower()

    def choose(self, exchange: Exchange) -> Target | None:
        values = exchange.request.headers.get_all(self._name)
        if len(values) > 1:
            return AMBIGUOUS
        return Target(values[0], self.subset) if values and values[0] else None

    def text(self) -> str:
        return f"forward to the cluster named by header {self._name}"


def asked_timeouts(action: Forward, exchange: Exchange) -> Timeouts:
    """The timeouts according to the request, its headers and variables.

    As in MOSN clients may request any timeout, and values that are not milliseconds, or repeated, are ignored. The timeout
    in an RPC message takes precedence over the header, and filters' variables over both. A timeout per attempt that is not
    shorter than the whole has no effect.
    """
    request = exchange.request
    headers = request.headers
    own_total = action.timeout or DEFAULT_TIMEOUT
    own_try = 0.0 if action.retry_policy is None else action.retry_policy.per_try_timeout
    total = request.timeout or _wish(headers, GLOBAL_TIMEOUT, own_total) or DEFAULT_TIMEOUT
    per_attempt = _wish(headers, TRY_TIMEOUT, own_try)
    has_clients_total = total < own_total
    has_clients_try = per_attempt < own_try or own_try == 0.0
    overrides = exchange.own_variables
    if overrides is not None:
        chosen = _milliseconds(overrides.get("proxy_global_timeout", "").encode(), -1.0)
        if chosen >= 0.0:
            total = chosen or DEFAULT_TIMEOUT
            has_clients_total = False
        chosen = _milliseconds(overrides.get("proxy_try_timeout", "").encode(), -1.0)
        if chosen >= 0.0:
            per_attempt = chosen
            has_clients_try = False
    if per_attempt >= total:
        per_attempt = 0.0
    return Timeouts(total, per_attempt, has_clients_total, has_clients_try and per_attempt > 0.0)


def _only(headers: Headers, name: bytes) -> bytes | None:
    """The value of `name`, unless it is repeated."""
    value = headers.get_raw(name)
    return None if value is None or len(headers.get_all(to_text(name))) > 1 else value


def _wish(headers: Headers, name: bytes, default: float) -> float:
    """The timeout in the header `name`; `default` also where the headers cannot be read: this is no judgement."""
    try:
        return _milliseconds(_only(headers, name), default)
    except UnreadableHeaders:
        return default


def _milliseconds(value: bytes | None, default: float) -> float:
    """Converts 1 to 9 digits of milliseconds to seconds; `default` for any other value."""
    count: i64 = -1 if value is None else decimal(value)
    return default if count < 0 else float(count) / 1000.0


class Redirect(RouteAction):
    """Redirects to another location; missing parts and the query come from the request."""

    def __init__(
        self,
        status: int,
        scheme: str,
        host: str,
        path: str,
        *,
        port: int = 0,
        rewrite: PathRewrite | None = None,
        strips_query: bool = False,
    ) -> None:
        """`path` takes precedence over `rewrite` of the request's path; with a query it replaces the request's.

        `port`: 0 for that of `host`, or else of the request, unless it is the default of another scheme.
        """
        self.status = status
        self._scheme: bytes = scheme.lower().encode()
        self._host: Authority | None = split_authority(host.encode()) if host else None
        self._path: Uri | None = parse_target(path.encode()) if path else None
        self._port: bytes = b"%d" % port if port else b""
        self._rewrite = rewrite
        self._strips_query = strips_query

    def text(self) -> str:
        return f"redirect with status {self.status}"

    def location(self, head: RequestHead) -> str:
        """The value of the Location field."""
        own = head.scheme.encode()
        scheme = self._scheme or own
        authority = split_authority(head.raw_host) if self._host is None else self._host
        if self._port:
            authority = Authority(authority.host, self._port)
        elif self._host is None and scheme != own and scheme in DEFAULT_PORTS:
            authority = authority.without_default_port(own)
        path = self._path
        query = None if self._strips_query else head.raw_query
        host = authority.write()
        target = self._rewritten(head) if path is None else path.path
        uri = Uri(target, query, scheme=scheme if host else b"", authority=host)  # HTTP/1.0 requests may have no host
        if path is not None:
            uri.fragment = path.fragment
            if path.query is not None:
                uri.query = path.query
        return to_text(uri.write())

    def _rewritten(self, head: RequestHead) -> bytes:
        """The path of the request, with the route's rewrite."""
        if head.raw_path == b"*":
            return b"/"
        if self._rewrite is None:
            return head.raw_path
        return escape(self._rewrite.apply(head.raw_path), PATH)


class DirectResponse(RouteAction):
    """Answers with a fixed response."""

    def __init__(self, status: int, body: str) -> None:
        self.status = status
        self.body: bytes = body.encode()

    def text(self) -> str:
        return f"answer with status {self.status}"
