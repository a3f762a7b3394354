"""Router tables: `servers[0].routers[]`, and the `config` of the old `connection_manager` filter."""

from typing import Annotated, Any

import msgspec

from pymosn.filters.settings import AnyMap, Block, Duration, HeaderMatch, Percent, Unsigned, ignored, own, works

_ADD = "`%variable%` may be part of a value; in MOSN only the whole value"


class HeaderPair(Block, kw_only=True):
    key: str = ""
    value: str = ""


class HeaderToAdd(Block, kw_only=True):
    """One header to add to or set on a message."""

    header: HeaderPair = msgspec.field(default_factory=HeaderPair)
    append: bool = True


class HeaderChanges(Block, kw_only=True):
    """Changes to the headers of requests and responses: of a route, a virtual host or a table."""

    request_headers_to_add: Annotated[list[HeaderToAdd], works(_ADD)] = []
    request_headers_to_remove: list[str] = []
    response_headers_to_add: Annotated[list[HeaderToAdd], works(_ADD)] = []
    response_headers_to_remove: list[str] = []


class FilterMetadata(Block, kw_only=True):
    """Metadata by owner; MOSN reads the owner `mosn.lb` only."""

    mosn_lb: AnyMap = msgspec.field(default_factory=dict, name="mosn.lb")


class Metadata(Block, kw_only=True):
    """Labels of a host, a route or a weighted cluster, for subset load balancing."""

    filter_metadata: FilterMetadata = msgspec.field(default_factory=FilterMetadata)


class VariableMatch(Block, kw_only=True):
    """A condition on one variable."""

    name: str = ""
    value: str = ""
    regex: str = ""
    model: str = ""


class DslExpression(Block, kw_only=True):
    """A CEXL expression that must be true."""

    expression: str = ""


class RouteMatch(Block, kw_only=True):
    """The requests that a route matches. The first non-empty of prefix, path, regex, ... decides the kind."""

    prefix: Annotated[str, works("case-sensitive")] = ""
    path: Annotated[str, works("compared case-insensitively, as MOSN does")] = ""
    regex: Annotated[str, works("RE2, searched anywhere in the path")] = ""
    headers: Annotated[
        list[HeaderMatch], works("in addition to any other condition; a single `service` header alone is MOSN's RPC rule")
    ] = []
    query_parameters: Annotated[list[HeaderMatch], own("conditions on the query, as `headers`; values are decoded")] = []
    variables: Annotated[
        list[VariableMatch], works("left to right, without precedence; including those set by filters")
    ] = []
    dsl_expressions: Annotated[
        list[DslExpression], works("CEL, with the extra pymosn[cel]; MOSN's own dialect only where it is valid CEL")
    ] = []


class WeightedTarget(Block, kw_only=True):
    """One of several clusters that share a route's requests."""

    name: str = ""
    weight: Unsigned = 0
    metadata_match: Annotated[Metadata | None, works("labels that hosts of this cluster must have")] = None


class WeightedCluster(Block, kw_only=True):
    """MOSN's wrapper of a weighted target."""

    cluster: WeightedTarget = msgspec.field(default_factory=WeightedTarget)


class HashHeader(Block, kw_only=True):
    key: str = ""


class HashCookie(Block, kw_only=True):
    """Hash over one cookie."""

    name: str = ""
    path: Annotated[str, works("with it or `ttl` a client without the cookie gets one; never in MOSN")] = ""
    ttl: Annotated[Duration, works("lifetime of a new cookie; 0: the session")] = 0.0


class HashPolicy(Block, kw_only=True):
    """The input of consistent-hash balancers."""

    header: HashHeader | None = None
    cookie: HashCookie | None = None
    source_ip: AnyMap | None = None


class RetryPolicy(Block, kw_only=True):
    """When and how often a request is retried."""

    retry_on: Annotated[
        bool | str | list[str],
        works("true: resets and `status_codes`. pymosn's own: conditions, as a list or with commas; see docs/grpc.md"),
    ] = False
    retry_timeout: Annotated[Duration, works("timeout per attempt, from the request's end to the response's head")] = 0.0
    num_retries: Annotated[Unsigned, works("0: 3; in MOSN at least 3")] = 0
    status_codes: Annotated[list[Unsigned], works("none: 500 and above, but only with `retry_on: true`")] = []
    retry_non_idempotent: Annotated[
        bool, own("also POST, PATCH and the like if a host may have processed them; MOSN always does")
    ] = False


class Re2Options(Block, kw_only=True):
    """Envoy's regex engine options."""

    max_program_size: Annotated[Unsigned, ignored("MOSN does not use it either")] = 0


class RegexPattern(Block, kw_only=True):
    regex: str = ""
    google_re2: Re2Options | None = None


class RegexRewrite(Block, kw_only=True):
    """A global replacement on the path."""

    pattern: RegexPattern = msgspec.field(default_factory=RegexPattern)
    substitution: str = ""


class RouteAction(HeaderChanges, kw_only=True):
    """`route`: send the request to a cluster. A timeout of 0 means the 60 s default."""

    cluster_name: str = ""
    cluster_variable: Annotated[str, works("a request without a value gets 404")] = ""
    cluster_header: Annotated[str, works("used if no other key has the cluster; MOSN never uses it")] = ""
    weighted_clusters: Annotated[list[WeightedCluster], works("selected once per request, without MOSN's bias")] = []
    upstream_protocol: Annotated[
        str,
        works(
            "Http1 or Http2 for clients of either, or the protocol of a transcoder of the listener; without such a "
            "transcoder 502. Auto, and without it: see `upstream_protocol` of the cluster"
        ),
    ] = ""
    metadata_match: Annotated[Metadata | None, works("labels that eligible hosts must have")] = None
    hash_policy: Annotated[list[HashPolicy], works("all entries are used, in order; in MOSN only the first")] = []
    timeout: Annotated[Duration, works("the request header `x-mosn-global-timeout` (milliseconds) takes precedence")] = 60.0
    retry_policy: Annotated[
        RetryPolicy | None,
        works("`retry_on: false` disables retries; without a policy only connect failures are retried, on other hosts"),
    ] = None
    prefix_rewrite: Annotated[str, works("prefix and path matches; takes precedence over regex_rewrite")] = ""
    regex_rewrite: Annotated[RegexRewrite | None, works("on any route")] = None
    host_rewrite: Annotated[str, works("takes precedence over the next two")] = ""
    auto_host_rewrite_header: Annotated[str, works("an invalid host is ignored")] = ""
    auto_host_rewrite: Annotated[bool, works("hosts with a `hostname`, in clusters of any type; MOSN: STRICT_DNS only")] = (
        False
    )


class Redirect(Block, kw_only=True):
    """`redirect`: respond with a Location; missing parts are those of the request."""

    response_code: int = 301
    path_redirect: str = ""
    host_redirect: str = ""
    scheme_redirect: str = ""


class DirectResponse(Block, kw_only=True):
    """`direct_response`: respond without an upstream."""

    status: int = 0
    body: str = ""


class MirrorPolicy(Block, kw_only=True):
    """Copies of requests to another cluster."""

    cluster: str = ""
    percent: Percent = 0
    trace_sampled: Annotated[Any, ignored("MOSN does not use it either")] = None


class Route(Block, kw_only=True):
    """One entry of `routers`: a match and one action. The first match wins."""

    match: RouteMatch = msgspec.field(default_factory=RouteMatch)
    route: RouteAction | None = None
    redirect: Redirect | None = None
    direct_response: DirectResponse | None = None
    metadata: Annotated[Metadata | None, ignored("metadata_match selects hosts")] = None
    per_filter_config: Annotated[
        AnyMap, works("for filters: `exchange.route_config(name)`; the route takes precedence over the virtual host")
    ] = {}
    request_mirror_policies: Annotated[
        MirrorPolicy | list[MirrorPolicy] | None,
        works("also without the `mirror` filter; an array is pymosn's own; see docs/operations.md"),
    ] = None

    def mirror_policies(self) -> list[MirrorPolicy]:
        """`request_mirror_policies`, in either form."""
        policies = self.request_mirror_policies
        if policies is None:
            return []
        return policies if isinstance(policies, list) else [policies]


class VirtualHost(HeaderChanges, kw_only=True):
    """The routes of a set of domains."""

    name: str = ""
    domains: list[str] = []
    routers: list[Route] = []
    per_filter_config: Annotated[
        AnyMap, works("for filters: `exchange.route_config(name)`; the route takes precedence over the virtual host")
    ] = {}
    require_tls: Annotated[Any, ignored("MOSN does not use it either")] = None


class RouterConfiguration(HeaderChanges, kw_only=True):
    """A router table; `proxy` filters refer to it by name."""

    router_config_name: str = ""
    virtual_hosts: list[VirtualHost] = []
    router_configs: Annotated[str, works("directory of one virtual host per JSON file, read at load")] = ""
