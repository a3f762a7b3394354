"""`rbac`: access control by Envoy's policies (envoy.extensions.filters.http.rbac.v3; key reference section 13)."""

from __future__ import annotations

from typing import Annotated, Final

from pymosn.api.exchange import Exchange, Reply
from pymosn.api.stream_filter import FilterContext, StreamFilter
from pymosn.core.failure import ACCESS_DENIED
from pymosn.core.log import INFO
from pymosn.filters.settings import EnvoyBlock, Unsigned, own, works
from pymosn.filters.spec import FilterSpec, RouteSpec
from pymosn.filters.stream.dynamic_metadata import note_metadata
from pymosn.filters.stream.problems import Problems
from pymosn.filters.stream.rbac_policies import Policies, Rules

NAME: Final = "rbac"
#: The namespace of what `shadow_rules` have decided, in the dynamic metadata.
NAMESPACE: Final = "envoy.filters.http.rbac"


class RuleSettings(EnvoyBlock, kw_only=True):
    """Rules, and rules that are only counted."""

    rules: Rules | None = None
    shadow_rules: Annotated[Rules | None, works("counted only")] = None
    shadow_rules_stat_prefix: Annotated[
        str, own("before `shadow_effective_policy_id` and `shadow_engine_result` in the dynamic metadata of the request")
    ] = ""
    xff_num_trusted_hops: Annotated[
        Unsigned, own("trusted proxies whose X-Forwarded-For determines `remote_ip`; 0: the client's IP, per `trusted_hops`")
    ] = 0


class Settings(RuleSettings, kw_only=True):
    """`rbac`."""

    version: Annotated[str, works("not used; MOSN requires it")] = ""
    after_routing: Annotated[
        bool,
        own("judge after the filters before it have seen the route, such as jwt_authn; always so on routes with own rules"),
    ] = False


class RouteSettings(RuleSettings, kw_only=True):
    """`per_filter_config.rbac`: instead of the rules of the filter; without rules everything is allowed."""


class Judge:
    """Rules and shadow rules. `rules`: None if everything is allowed."""

    def __init__(self, settings: RuleSettings) -> None:
        """Raises FilterConfigError."""
        problems = Problems()
        hops = settings.xff_num_trusted_hops
        self.rules = None if settings.rules is None else Policies(settings.rules, ".rules", hops, problems)
        shadow = settings.shadow_rules
        self._shadow = None if shadow is None else Policies(shadow, ".shadow_rules", hops, problems)
        self._prefix = settings.shadow_rules_stat_prefix
        problems.end()

    def refuses(self, exchange: Exchange, context: FilterContext, namespace: str, what: str) -> str | None:
        """Why an exchange is not allowed, or None. `namespace`: for the result of the shadow rules. `what`: for the log."""
        shadow = self._shadow
        if shadow is not None:
            found = shadow.find(exchange)
            allows = shadow.allows(found)
            context.counter("shadow_allowed" if allows else "shadow_denied").value += 1
            noted: dict[str, object] = {f"{self._prefix}shadow_engine_result": "allowed" if allows else "denied"}
            if found is not None:
                noted[f"{self._prefix}shadow_effective_policy_id"] = found
            note_metadata(exchange, namespace, noted)
        rules = self.rules
        if rules is None:
            return None
        found = rules.find(exchange)
        if rules.action == "LOG" and found is not None:
            context.write(f"{what}: policy {found}", INFO)
        if rules.allows(found):
            context.counter("allowed").value += 1
            return None
        context.counter("denied").value += 1
        return f"policy {found}" if found is not None else "no policy"


class RbacFilter(StreamFilter):
    """Requests that the rules do not allow get 403. `shadow_rules` are only counted.

    Cost per request: the conditions of the policies up to the first match, about 0.4 us per policy; more for addresses.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._judge = Judge(settings)
        self._after_routing = self.follows_routes = settings.after_routing

    def on_request(self, exchange: Exchange) -> Reply | None:
        return None if self._after_routing else self._apply(self._judge, exchange)

    def on_route(self, exchange: Exchange) -> Reply | None:
        of_route = self.context.route_config(exchange, NAME)
        if isinstance(of_route, Judge):
            return self._apply(of_route, exchange)
        return self._apply(self._judge, exchange) if self._after_routing else None

    def _apply(self, judge: Judge, exchange: Exchange) -> Reply | None:
        request = exchange.request
        detail = judge.refuses(exchange, self.context, NAMESPACE, f"{request.method} {request.path}")
        if detail is None:
            return None
        exchange.failure = ACCESS_DENIED
        exchange.failure_detail = detail
        return Reply(403, "RBAC: access denied")


DIFFERENCES: Final = (
    ("policies that are not supported", "left out: a DENY allows everything", "the file is rejected"),
    (
        "`remote_ip`",
        "the first in X-Forwarded-For, which clients write",
        "the client's IP, per `trusted_hops` or `xff_num_trusted_hops`",
    ),
    ("`ignore_case`, regular expressions for `url_path`", "rejected, exact only", "as in Envoy"),
    ("an error in the filter", "the request passes", "500; `on_error: skip` is rejected"),
)
_NOTE: Final = "in MOSN's source tree, but not compiled into it; also of a route"
_ROUTE: Final = RouteSpec(RouteSettings, Judge)
SPEC: Final = FilterSpec("rbac", Settings, RbacFilter, _NOTE, DIFFERENCES, route=_ROUTE, guards=True)
