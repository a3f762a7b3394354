"""`transcoder`: a transcoder in a Python file next to the configuration, or one of those that MOSN has.

MOSN's are `httpTohttp2`, `http2Tohttp` and rules with an upstream protocol, which need no conversion here, and
`http2bolt_simple`. `filters/loading.py` loads classes in files.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, NamedTuple

from pymosn.api.exchange import Exchange, Reply
from pymosn.api.rpc import RpcRequest, RpcResponse
from pymosn.api.stream_filter import StreamFilter
from pymosn.api.transcoder import Transcoder
from pymosn.core.headers import FRAMING, HeaderError, Headers
from pymosn.filters.settings import AnyMap, Block, ignored, works
from pymosn.filters.spec import FilterSpec, RouteSpec
from pymosn.filters.stream.problems import Problems
from pymosn.filters.stream.python import Settings as PythonSettings
from pymosn.protocol.bolt.calls import make_request

BOLT: Final = "bolt"
HTTP: Final = ("Http1", "Http2")
#: MOSN's `type`: the protocols of clients, and of the upstream.
TYPES: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "httpTohttp2": (("Http1",), "Http2"),
    "http2Tohttp": (("Http2",), "Http1"),
    "http2bolt_simple": (HTTP, BOLT),
}
#: The only matcher of MOSN.
MATCHER: Final = "simpleMatcher"
#: `trans.receiver_phase`: before the route is selected, or after it; the third phase is after the host is.
BEFORE_ROUTE: Final = 0
PHASES: Final = (0, 1, 2)


class MatcherSettings(Block, kw_only=True):
    """Which requests a rule is for."""

    matcher_type: Annotated[str, works("simpleMatcher")] = ""
    config: Annotated[AnyMap | None, works("`name` and `value` of a request header; without it the rule is for all")] = None


class RuleInfo(Block, kw_only=True):
    """What a rule does."""

    upstream_protocol: Annotated[str, works("Http1 or Http2; others need a class in Python")] = ""
    description: Annotated[str, ignored("a comment")] = ""
    config: Annotated[AnyMap, ignored("the settings of a transcoder that is a Go plugin")] = {}


class Rule(Block, kw_only=True):
    """A rule; the first that matches counts."""

    matcher_config: MatcherSettings | None = None
    rule_info: RuleInfo | None = None


class Settings(PythonSettings, kw_only=True):
    """`transcoder`: MOSN's `type` and `rules`, or a class derived from `pymosn.api.Transcoder`, which gets all of this."""

    type: Annotated[str, works("httpTohttp2, http2Tohttp or http2bolt_simple")] = ""
    trans: Annotated[AnyMap, works("`receiver_phase`: 0 before the route is selected, 1 (default) or 2 after it")] = {}
    rules: Annotated[list[Rule], works("the first that matches counts, then `type`")] = []


class Conversion(NamedTuple):
    """One rule: for which protocols of clients, with which header (empty: all), and the upstream protocol."""

    clients: tuple[str, ...]
    name: str
    value: str
    upstream: str


class Conversions:
    """The rules of a filter, or of a route."""

    def __init__(self, settings: Settings) -> None:
        """Raises FilterConfigError."""
        problems = Problems()
        self._rules: list[Conversion] = []
        for i, rule in enumerate(settings.rules):
            self._add_rule(rule, f".rules[{i}]", problems)
        if settings.type:
            problems.one_of(".type", settings.type, TYPES)
            clients, upstream = TYPES.get(settings.type, (HTTP, BOLT))
            self._rules.append(Conversion(clients, "", "", upstream))
        # Whether requests are converted before the route is selected.
        self._is_early = settings.trans.get("receiver_phase", 1) == BEFORE_ROUTE
        if settings.trans.get("receiver_phase", 1) not in PHASES:
            problems.add(".trans.receiver_phase", f"must be 0, 1 or 2, not {settings.trans['receiver_phase']!r}")
        problems.end()
        self.uses_bolt = any(rule.upstream == BOLT for rule in self._rules)

    def _add_rule(self, rule: Rule, path: str, problems: Problems) -> None:
        matcher, info = rule.matcher_config, rule.rule_info
        if matcher is None or matcher.matcher_type != MATCHER:
            problems.add(f"{path}.matcher_config.matcher_type", f"must be {MATCHER}, the only one that MOSN has")
        config = {} if matcher is None or matcher.config is None else matcher.config
        name, value = config.get("name", ""), config.get("value", "")
        if not isinstance(name, str) or not isinstance(value, str) or (config and not name):
            problems.add(f"{path}.matcher_config.config", "needs `name` and `value` of a header")
            return
        upstream = "" if info is None else info.upstream_protocol
        if upstream not in HTTP:
            text = (
                f"must be {' or '.join(HTTP)}, not {upstream!r}: other conversions are Go plugins; write a class in Python"
            )
            problems.add(f"{path}.rule_info.upstream_protocol", text)
        self._rules.append(Conversion(HTTP, name, value, upstream))

    def choose_early(self, exchange: Exchange) -> None:
        """Chooses before the route is selected, if the rules are for that phase."""
        if self._is_early:
            self._choose(exchange)

    def choose_by_route(self, exchange: Exchange) -> None:
        """Chooses by the rules of the route, if it has any, else by these."""
        own = exchange.route_config("transcoder")
        if isinstance(own, Conversions):
            own._choose(exchange)
        elif not self._is_early:
            self._choose(exchange)

    def _choose(self, exchange: Exchange) -> None:
        """Chooses the upstream protocol by the first rule that matches the request."""
        headers = exchange.request.headers
        for rule in self._rules:
            if not rule.name or rule.value in headers.get_all(rule.name):
                if exchange.protocol in rule.clients:
                    exchange.choose(protocol=rule.upstream)
                return


class HttpConversionFilter(StreamFilter):
    """Chooses HTTP/1 or HTTP/2 for the upstream. Cost per request: one lookup for each rule with a header."""

    protocols: ClassVar[tuple[str, ...]] = HTTP

    def __init__(self, conversions: Conversions) -> None:
        super().__init__(None)
        self._conversions = conversions

    def on_request(self, exchange: Exchange) -> None:
        self._conversions.choose_early(exchange)

    def on_route(self, exchange: Exchange) -> None:
        self._conversions.choose_by_route(exchange)


class HttpToBolt(Transcoder):
    """MOSN's `http2bolt_simple`: the header fields and the body of a request become those of a Bolt request, and back.

    As in MOSN, a response with another status than success is a 500.
    """

    upstream_protocol: ClassVar[str] = BOLT

    def __init__(self, conversions: Conversions) -> None:
        super().__init__(None)
        self._conversions = conversions

    def on_request(self, exchange: Exchange) -> None:
        self._conversions.choose_early(exchange)

    def on_route(self, exchange: Exchange) -> None:
        self._conversions.choose_by_route(exchange)

    def request(self, exchange: Exchange, body: bytes) -> RpcRequest | Reply:
        try:
            return make_request(_fields_of(exchange.request.headers), body)
        except HeaderError:
            return Reply(431, "the header fields are too long for a Bolt request\n")

    def response(self, exchange: Exchange, reply: RpcResponse) -> Reply:
        fields = [(name, value) for name, value in reply.headers.items() if name.lower().encode() not in FRAMING]
        return Reply(200 if reply.status == 200 else 500, reply.payload, fields)


def _fields_of(headers: Headers) -> list[tuple[bytes, bytes]]:
    """The fields with names in lower case, and each once: Bolt's libraries keep them in a map."""
    found: dict[bytes, bytes] = {}
    for raw, value in headers.items_raw():
        name = raw.lower()
        if name in FRAMING:
            continue
        separator = b"; " if name == b"cookie" else b", "
        found[name] = found[name] + separator + value if name in found else value
    return list(found.items())


def _make(settings: Settings) -> StreamFilter:
    """The filter for MOSN's `type` and `rules`. Raises FilterConfigError."""
    conversions = Conversions(settings)
    return HttpToBolt(conversions) if conversions.uses_bolt else HttpConversionFilter(conversions)


_NOTE: Final = "MOSN's `type` and `rules`; or classes in Python (docs/protocols.md)"
DIFFERENCES: Final = (
    (
        "`httpTohttp2`, `http2Tohttp`, rules",
        "bodies are read as a whole",
        "only choose the upstream protocol; bodies stream",
    ),
    ("`http2bolt_simple`", "only for HTTP/1 clients", "also for HTTP/2 clients; header names in lower case, each once"),
    ("rules for other protocols", "Go plugins, else the request is forwarded unconverted", "an error of the configuration"),
)
SPEC: Final[FilterSpec[Settings]] = FilterSpec(
    "transcoder", Settings, _make, _NOTE, DIFFERENCES, RouteSpec(Settings, Conversions)
)
