"""Router tables: `servers[0].routers[]`, and the `config` of the old `connection_manager` filter."""

from typing import Annotated, Any

import msgspec

from pymosn.config.schema.block import (
    AnyMap,
    Block,
    Duration,
    Percent,
    Unsigned,
    ignored,
    planned,
    planned_checked,
    works,
)

_HEADERS_PLANNED = "header changes by the router are not built yet; a stream filter can make them"


class HeaderPair(Block, kw_only=True):
    """A header's name and value."""

    key: str = ""
    value: str = ""


class HeaderToAdd(Block, kw_only=True):
    """One header to add to or set on a message."""

    header: HeaderPair = msgspec.field(default_factory=HeaderPair)
    append: bool = True


class FilterMetadata(Block, kw_only=True):
    """Metadata by owner; MOSN reads the owner `mosn.lb` only."""

    mosn_lb: AnyMap = msgspec.field(default_factory=dict, name="mosn.lb")


class Metadata(Block, kw_only=True):
    """Labels of a host, a route or a weighted cluster, for subset load balancing."""

    filter_metadata: FilterMetadata = msgspec.field(default_factory=FilterMetadata)


class HeaderMatch(Block, kw_only=True):
    """A condition on one request header; `method` stands for the request method."""

    name: str = ""
    value: str = ""
    regex: bool = False


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
    """Which requests a route takes. The first non-empty of prefix, path, regex, ... decides the kind."""

    prefix: Annotated[str, works("case-sensitive")] = ""
    path: Annotated[str, works("compared case-insensitively, as MOSN does")] = ""
    regex: Annotated[str, works("searched with Python's `re`, which has a little more syntax than RE2")] = ""
    headers: list[HeaderMatch] = []
    variables: Annotated[list[VariableMatch], planned_checked("refused until it is built")] = []
    dsl_expressions: Annotated[list[DslExpression], planned_checked("refused until it is built")] = []


class WeightedTarget(Block, kw_only=True):
    """One of several clusters that share a route's requests."""

    name: str = ""
    weight: Unsigned = 0
    metadata_match: Annotated[Metadata | None, planned()] = None


class WeightedCluster(Block, kw_only=True):
    """The wrapper that MOSN puts around a weighted target."""

    cluster: WeightedTarget = msgspec.field(default_factory=WeightedTarget)


class HashHeader(Block, kw_only=True):
    """Hash over one request header."""

    key: str = ""


class HashCookie(Block, kw_only=True):
    """Hash over one cookie."""

    name: str = ""
    path: Annotated[str, ignored("MOSN makes no cookie")] = ""
    ttl: Annotated[Duration, ignored("MOSN makes no cookie")] = 0.0


class HashPolicy(Block, kw_only=True):
    """What a consistent-hash balancer looks at."""

    header: HashHeader | None = None
    cookie: HashCookie | None = None
    source_ip: AnyMap | None = None


class RetryPolicy(Block, kw_only=True):
    """When and how often a request is tried again."""

    retry_on: bool = False
    retry_timeout: Duration = 0.0
    num_retries: Unsigned = 0
    status_codes: list[Unsigned] = []


class Re2Options(Block, kw_only=True):
    """Envoy's regex engine options."""

    max_program_size: Annotated[Unsigned, ignored("MOSN does not use it either")] = 0


class RegexPattern(Block, kw_only=True):
    """The pattern of a regex rewrite."""

    regex: str = ""
    google_re2: Re2Options | None = None


class RegexRewrite(Block, kw_only=True):
    """A global replacement on the path."""

    pattern: RegexPattern = msgspec.field(default_factory=RegexPattern)
    substitution: str = ""


class RouteAction(Block, kw_only=True):
    """`route`: send the request to a cluster. A timeout of 0 means the 60 s default."""

    cluster_name: str = ""
    cluster_variable: Annotated[str, planned_checked("refused where it is the only target")] = ""
    cluster_header: Annotated[str, ignored("MOSN reads it but never uses it")] = ""
    weighted_clusters: Annotated[list[WeightedCluster], works("drawn once per request, without MOSN's bias")] = []
    upstream_protocol: Annotated[str, planned_checked("Http1 only so far; anything else is refused")] = ""
    metadata_match: Annotated[Metadata | None, planned("subset load balancing")] = None
    hash_policy: Annotated[list[HashPolicy], planned("consistent hashing")] = []
    timeout: Duration = 60.0
    retry_policy: Annotated[RetryPolicy | None, planned("requests are tried once")] = None
    prefix_rewrite: Annotated[str, planned("the path goes upstream as received")] = ""
    regex_rewrite: Annotated[RegexRewrite | None, planned("the path goes upstream as received")] = None
    host_rewrite: Annotated[str, planned("Host goes upstream as received")] = ""
    auto_host_rewrite_header: Annotated[str, planned("Host goes upstream as received")] = ""
    auto_host_rewrite: Annotated[bool, planned("Host goes upstream as received")] = False
    request_headers_to_add: Annotated[list[HeaderToAdd], planned(_HEADERS_PLANNED)] = []
    request_headers_to_remove: Annotated[list[str], planned(_HEADERS_PLANNED)] = []
    response_headers_to_add: Annotated[list[HeaderToAdd], planned(_HEADERS_PLANNED)] = []
    response_headers_to_remove: Annotated[list[str], planned(_HEADERS_PLANNED)] = []


class Redirect(Block, kw_only=True):
    """`redirect`: answer with a Location; parts that are not given come from the request."""

    response_code: int = 301
    path_redirect: str = ""
    host_redirect: str = ""
    scheme_redirect: str = ""


class DirectResponse(Block, kw_only=True):
    """`direct_response`: answer here and now."""

    status: int = 0
    body: str = ""


class MirrorPolicy(Block, kw_only=True):
    """Copies of requests for another cluster."""

    cluster: str = ""
    percent: Percent = 0
    trace_sampled: Annotated[Any, ignored("MOSN does not use it either")] = None


class Route(Block, kw_only=True):
    """One entry of `routers`: a match and one action. Routes are tried from top to bottom."""

    match: RouteMatch = msgspec.field(default_factory=RouteMatch)
    route: RouteAction | None = None
    redirect: Redirect | None = None
    direct_response: DirectResponse | None = None
    metadata: Annotated[Metadata | None, planned("subset load balancing")] = None
    per_filter_config: Annotated[AnyMap, planned("filters have one configuration per listener")] = {}
    request_mirror_policies: Annotated[MirrorPolicy | None, planned("no copies are sent")] = None


class VirtualHost(Block, kw_only=True):
    """The routes of a set of domains."""

    name: str = ""
    domains: list[str] = []
    routers: list[Route] = []
    per_filter_config: Annotated[AnyMap, planned("filters have one configuration per listener")] = {}
    require_tls: Annotated[Any, ignored("MOSN does not use it either")] = None
    request_headers_to_add: Annotated[list[HeaderToAdd], planned(_HEADERS_PLANNED)] = []
    request_headers_to_remove: Annotated[list[str], planned(_HEADERS_PLANNED)] = []
    response_headers_to_add: Annotated[list[HeaderToAdd], planned(_HEADERS_PLANNED)] = []
    response_headers_to_remove: Annotated[list[str], planned(_HEADERS_PLANNED)] = []


class RouterConfiguration(Block, kw_only=True):
    """A router table, named so that `proxy` filters can refer to it."""

    router_config_name: str = ""
    virtual_hosts: list[VirtualHost] = []
    router_configs: Annotated[str, works("directory of one virtual host per JSON file, read at load")] = ""
    request_headers_to_add: Annotated[list[HeaderToAdd], planned(_HEADERS_PLANNED)] = []
    request_headers_to_remove: Annotated[list[str], planned(_HEADERS_PLANNED)] = []
    response_headers_to_add: Annotated[list[HeaderToAdd], planned(_HEADERS_PLANNED)] = []
    response_headers_to_remove: Annotated[list[str], planned(_HEADERS_PLANNED)] = []
