"""Router tables: `servers[0].routers[]`, and the `config` of the old `connection_manager` filter."""

from typing import Annotated, Any, Literal

import msgspec

from pymosn.filters.settings import (
    AnyMap,
    Block,
    Duration,
    DurationOrDefault,
    HeaderMatch,
    Port,
    Share,
    StrictBlock,
    Unsigned,
    at_most,
    ignored,
    negative,
    own,
    works,
)

_INNER = "before those of the route"
_LOGS = "switches access logs on or off by their `name`; `*`: all of them"
_ADD = "`%variable%` may be part of a value; in MOSN only the whole value"


class HeaderPair(Block, kw_only=True):
    key: str = ""
    value: str = ""


class HeaderToAdd(Block, kw_only=True):
    """One header to add to or set on a message."""

    header: HeaderPair = msgspec.field(default_factory=HeaderPair)
    append: bool = True
    append_action: Annotated[
        Literal["", "APPEND_IF_EXISTS_OR_ADD", "ADD_IF_ABSENT", "OVERWRITE_IF_EXISTS_OR_ADD", "OVERWRITE_IF_EXISTS"],
        own("instead of `append`; appending adds a field, instead of joining the values"),
    ] = ""
    keep_empty_value: Annotated[bool, own("with `append_action`: also add a field whose value is empty")] = False


class HeaderChanges(Block, kw_only=True):
    """Changes to the headers of requests and responses: of a route, a virtual host or a table."""

    request_headers_to_add: Annotated[list[HeaderToAdd], works(_ADD)] = []
    request_headers_to_remove: list[str] = []
    response_headers_to_add: Annotated[list[HeaderToAdd], works(_ADD)] = []
    response_headers_to_remove: list[str] = []


class InnerHeaderChanges(HeaderChanges, kw_only=True):
    """Changes to headers at a level that MOSN does not have."""

    request_headers_to_add: Annotated[list[HeaderToAdd], own(_INNER)] = []
    request_headers_to_remove: Annotated[list[str], own(_INNER)] = []
    response_headers_to_add: Annotated[list[HeaderToAdd], own(_INNER)] = []
    response_headers_to_remove: Annotated[list[str], own(_INNER)] = []


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
    path_separated_prefix: Annotated[str, own("`/a` matches `/a` and `/a/b`, but not `/ab`")] = ""
    path_regex: Annotated[str, own("RE2, must match the whole path")] = ""
    connect: Annotated[bool, own("CONNECT requests only")] = False
    case_sensitive: Annotated[
        bool | None, own("of `prefix`, `path` and `path_separated_prefix`; default: only `path` ignores case")
    ] = None
    percent: Annotated[Share | None, own("percentage of the requests that match, with decimals")] = None
    grpc: Annotated[bool, own("gRPC requests only, by their content type")] = False
    certificate_presented: Annotated[bool | None, own("only clients with a certificate; false: without one")] = None
    certificate_verified: Annotated[
        bool | None, own("only clients whose certificate a configured CA has signed; false: all others")
    ] = None
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


class WeightedTarget(InnerHeaderChanges, kw_only=True):
    """One of several clusters that share a route's requests."""

    name: str = ""
    weight: Unsigned = 0
    metadata_match: Annotated[Metadata | None, works("labels that hosts of this cluster must have")] = None
    host_rewrite: Annotated[str, own("instead of that of the route")] = ""
    per_filter_config: Annotated[AnyMap, own("takes precedence over that of the route")] = {}


class WeightedCluster(Block, kw_only=True):
    """MOSN's wrapper of a weighted target."""

    cluster: WeightedTarget = msgspec.field(default_factory=WeightedTarget)


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


class HashHeader(Block, kw_only=True):
    key: str = ""
    regex_rewrite: Annotated[RegexRewrite | None, own("of the value before it is hashed: every match is replaced")] = None


class CookieAttribute(StrictBlock, kw_only=True):
    """An attribute of a cookie."""

    name: Annotated[str, own("such as SameSite")] = ""
    value: Annotated[str, own("empty for an attribute that has none, such as Secure")] = ""


class HashCookie(Block, kw_only=True):
    """Hash over one cookie."""

    name: str = ""
    path: Annotated[str, works("with it or `ttl` a client without the cookie gets one; never in MOSN")] = ""
    ttl: Annotated[
        Duration,
        works("lifetime of a new cookie; 0: the session"),
        negative("no lifetime, as in MOSN, which sets no cookie"),
    ] = 0.0
    generate: Annotated[bool, own("a client without the cookie gets one also without `path` and `ttl`")] = False
    attributes: Annotated[list[CookieAttribute], own("further attributes of a new cookie")] = []


class HashQueryParameter(StrictBlock, kw_only=True):
    """Hash over the first value of a query parameter."""

    name: Annotated[str, own("of the parameter; its value is not decoded")] = ""


class HashPolicy(Block, kw_only=True):
    """The input of consistent-hash balancers."""

    header: HashHeader | None = None
    cookie: HashCookie | None = None
    source_ip: AnyMap | None = None
    query_parameter: HashQueryParameter | None = None
    terminal: Annotated[bool, own("if this entry or one before it has a value, the following ones are ignored")] = False


class BackOff(StrictBlock, kw_only=True):
    """The pause before a retry: random, up to `base_interval`, which doubles with each retry."""

    base_interval: Annotated[Duration, own("of the first retry")] = 0.025
    max_interval: Annotated[Duration, own("0 means ten times `base_interval`")] = 0.0


class RetryPolicy(Block, kw_only=True):
    """When and how often a request is retried."""

    retry_on: Annotated[
        bool | str | list[str],
        works("true: resets and `status_codes`. pymosn's own: conditions, as a list or with commas; see docs/grpc.md"),
    ] = False
    retry_timeout: Annotated[
        Duration,
        works("timeout per attempt, from the request's end to the response's head"),
        negative("no timeout of an attempt, as in MOSN"),
    ] = 0.0
    num_retries: Annotated[Unsigned, works("0: 3; in MOSN at least 3")] = 0
    status_codes: Annotated[list[Unsigned], works("none: 500 and above, but only with `retry_on: true`")] = []
    retry_non_idempotent: Annotated[
        bool, own("also POST, PATCH and the like if a host may have processed them; MOSN always does")
    ] = False
    retry_back_off: Annotated[
        BackOff | None, own("default: none before the first retry, then random, up to 25 ms, increasing to 250 ms")
    ] = None


class RouteAction(HeaderChanges, kw_only=True):
    """`route`: send the request to a cluster. A `timeout` of 0 means the 60 s default."""

    cluster_name: str = ""
    cluster_variable: Annotated[str, works("a request without a value gets 404")] = ""
    cluster_header: Annotated[str, works("used if no other key has the cluster; MOSN never uses it")] = ""
    weighted_clusters: Annotated[list[WeightedCluster], works("selected once per request, without MOSN's bias")] = []
    weighted_header: Annotated[
        str,
        own("of `weighted_clusters`: a request header whose number chooses, modulo the sum of the weights; else at random"),
    ] = ""
    upstream_protocol: Annotated[
        str,
        works(
            "Http1 or Http2 for clients of either, or the protocol of a transcoder of the listener; without such a "
            "transcoder 502. Auto, and without it: see `upstream_protocol` of the cluster"
        ),
    ] = ""
    metadata_match: Annotated[Metadata | None, works("labels that eligible hosts must have")] = None
    hash_policy: Annotated[list[HashPolicy], works("all entries are used, in order; in MOSN only the first")] = []
    hash_function: Annotated[
        Literal["", "XX_HASH"],
        own("the hash of `hash_policy` is Envoy's. Set for routes of control planes"),
    ] = ""
    timeout: Annotated[
        DurationOrDefault,
        works("the request header `x-mosn-global-timeout` (milliseconds) takes precedence"),
        negative("no timeout at all, nor of an attempt, as in MOSN; write no_timeout", -1.0),
    ] = 60.0
    no_timeout: Annotated[bool, own("no limit instead of `timeout`")] = False
    idle_timeout: Annotated[
        Duration | None, own("instead of the listener's `stream_idle_timeout`, once the request is routed; 0: no limit")
    ] = None
    max_stream_duration: Annotated[
        Duration | None, own("limit of the whole exchange, from the request's arrival, instead of the proxy's; 0: none")
    ] = None
    max_grpc_timeout: Annotated[Duration, own("the same for gRPC calls, whatever deadline the client sets; 0: none")] = 0.0
    connect: Annotated[
        str,
        own("`terminate` or `forward`: CONNECT on this route, if the listener's own `connect` allows it at all"),
    ] = ""
    cluster_not_found_response_code: Annotated[
        Unsigned, own("404, 500 or 503: the response if the cluster does not exist; MOSN responds with 404")
    ] = 404
    retry_policy: Annotated[
        RetryPolicy | None,
        works("`retry_on: false` disables retries; without a policy only connect failures are retried, on other hosts"),
    ] = None
    prefix_rewrite: Annotated[str, works("prefix and path matches; takes precedence over regex_rewrite")] = ""
    regex_rewrite: Annotated[RegexRewrite | None, works("on any route")] = None
    host_rewrite: Annotated[str, works("takes precedence over the next two")] = ""
    host_rewrite_path_regex: Annotated[RegexRewrite | None, own("the host is the path after this replacement")] = None
    append_x_forwarded_host: Annotated[bool, own("a rewritten host is appended to X-Forwarded-Host")] = False
    auto_host_rewrite_header: Annotated[str, works("an invalid host is ignored")] = ""
    auto_host_rewrite: Annotated[bool, works("hosts with a `hostname`, in clusters of any type; MOSN: STRICT_DNS only")] = (
        False
    )


class Redirect(Block, kw_only=True):
    """`redirect`: respond with a Location; missing parts are those of the request."""

    response_code: int = 301
    path_redirect: Annotated[str, works("with a query instead of the request's, if it has one; percent-encoded")] = ""
    host_redirect: Annotated[str, works("a host with an optional port; anything else is an error")] = ""
    scheme_redirect: str = ""
    port_redirect: Annotated[Port, own("replaces the port of `host_redirect`, or of the request")] = 0
    prefix_rewrite: Annotated[str, own("replaces the matched part of the path; instead of `path_redirect`")] = ""
    regex_rewrite: Annotated[RegexRewrite | None, own("on the path; instead of `path_redirect`")] = None
    strip_query: Annotated[bool, own("without the request's query")] = False


class DirectResponse(Block, kw_only=True):
    """`direct_response`: respond without an upstream."""

    status: int = 0
    body: str = ""


class MirrorPolicy(Block, kw_only=True):
    """Copies of requests to another cluster."""

    cluster: str = ""
    percent: Annotated[Share, works("with decimals; in MOSN only whole numbers"), at_most("always, as in MOSN")] = 0.0
    shadow_host_suffix: Annotated[bool, own("append `-shadow` to the host of copies, as Envoy does")] = False
    trace_sampled: Annotated[Any, ignored("MOSN does not use it either")] = None


class Route(Block, kw_only=True):
    """One entry of `routers`: a match and one action. The first match wins."""

    name: Annotated[str, own("for people: in logs as `%route_label%`; need not be unique")] = ""
    match: RouteMatch = msgspec.field(default_factory=RouteMatch)
    route: RouteAction | None = None
    redirect: Redirect | None = None
    direct_response: DirectResponse | None = None
    metadata: Annotated[Metadata | None, ignored("metadata_match selects hosts")] = None
    per_filter_config: Annotated[
        AnyMap, works("for filters: `exchange.route_config(name)`; the route takes precedence over the virtual host")
    ] = {}
    access_logs: Annotated[dict[str, bool], own(_LOGS)] = {}
    request_mirror_policies: Annotated[
        MirrorPolicy | list[MirrorPolicy] | None,
        works("also without the `mirror` filter; an array is pymosn's own; see docs/operations.md"),
    ] = None
    response_headers_to_add: Annotated[
        list[HeaderToAdd], own("also for redirects and direct responses; after those in `route`")
    ] = []
    response_headers_to_remove: Annotated[list[str], own("as `response_headers_to_add`")] = []

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
        AnyMap, works("for all of its routes; MOSN's filters read only that of a route, which takes precedence")
    ] = {}
    access_logs: Annotated[dict[str, bool], own("for all of its routes, as that of a route, which takes precedence")] = {}
    require_tls: Annotated[Any, ignored("MOSN does not use it either")] = None
    include_request_attempt_count: Annotated[
        bool, own("send `x-envoy-attempt-count`, the number of the attempt, with requests")
    ] = False


class RouterConfiguration(HeaderChanges, kw_only=True):
    """A router table; `proxy` filters refer to it by name."""

    router_config_name: str = ""
    virtual_hosts: list[VirtualHost] = []
    router_configs: Annotated[str, works("directory of one virtual host per JSON file, read at load")] = ""
    envoy_domains: Annotated[
        Literal["", "with_port", "any_port"],
        own(
            "match domains as Envoy does: exact, longest `*suffix`, longest `prefix*`, `*`; with the port of the request, "
            "or without it"
        ),
    ] = ""
    remove_headers_first: Annotated[
        bool, own("Envoy's order: each level removes headers before it adds others, instead of after")
    ] = False
    most_specific_header_mutations_wins: Annotated[
        bool, own("the table's header changes are applied first and the route's last, instead of the other way round")
    ] = False
