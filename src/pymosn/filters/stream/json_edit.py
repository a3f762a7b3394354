"""`json_edit`, pymosn's own: removes and sets values in JSON bodies. What it cannot edit does not pass."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

import msgspec

from pymosn.api.exchange import Exchange, Reply
from pymosn.api.stream_filter import StreamFilter
from pymosn.core.failure import ACCESS_DENIED, BAD_BODY, BAD_RESPONSE, Refused
from pymosn.core.headers import Headers
from pymosn.core.message import UNKNOWN_LENGTH, RequestHead, ResponseHead
from pymosn.filters.settings import AnyMap, Positive, StrictBlock, own
from pymosn.filters.spec import FilterSpec, RouteSpec
from pymosn.filters.stream.content import OF_BYTES, content_type, is_coded, is_json
from pymosn.filters.stream.json_document import Document, Edits, InvalidDocument, split_pointer
from pymosn.filters.stream.problems import Problems

NAME: Final = "json_edit"
_PLACES: Final = "names (at any depth) and JSON Pointers, in which `*` is every member or element"
#: Headers with which a client asks for a part of a body, for another coding, or for a difference.
OF_PARTS: Final = frozenset((b"range", b"if-range", b"a-im", b"request-range"))


class Change(StrictBlock, kw_only=True):
    """What is changed in the bodies of one direction."""

    remove: Annotated[list[str], own(_PLACES)] = []
    set: Annotated[AnyMap, own("values by name or pointer; a pointer also adds a member that is missing")] = {}


class Settings(StrictBlock, kw_only=True):
    """`json_edit`: removes and sets values in JSON bodies."""

    request: Annotated[Change, own("")] = msgspec.field(default_factory=Change)
    response: Annotated[Change, own("")] = msgspec.field(default_factory=Change)
    max_bytes: Annotated[Positive, own("longer bodies are rejected: 413, or 502 for a response")] = 1048576
    pass_types: Annotated[
        list[str], own("types of responses that may pass; default: text/html, text/css, image/*, font/*, audio/*, video/*")
    ] = msgspec.field(default_factory=lambda: ["text/html", "text/css", "image/*", "font/*", "audio/*", "video/*"])


class Rules:
    """Checked settings."""

    def __init__(self, settings: Settings) -> None:
        """Raises FilterConfigError."""
        problems = Problems()
        _check(settings.request, ".request", problems)
        _check(settings.response, ".response", problems)
        self.pass_types = frozenset(kind.lower() for kind in settings.pass_types)
        for i, kind in enumerate(settings.pass_types):
            problems.require("/" in kind and ";" not in kind, f".pass_types[{i}]", f"must be type/subtype, not {kind!r}")
            problems.require("json" not in kind.lower(), f".pass_types[{i}]", "JSON is edited, and cannot pass unchanged")
        problems.end()
        self.request = Edits(settings.request.remove, settings.request.set)
        self.response = Edits(settings.response.remove, settings.response.set)
        self.max_bytes = settings.max_bytes

    def may_pass(self, kind: str) -> bool:
        """Whether responses of a content type may pass unchanged."""
        return kind in self.pass_types or f"{kind.partition('/')[0]}/*" in self.pass_types


class JsonEditFilter(StreamFilter):
    """Edits JSON bodies of requests and responses, which it reads as a whole.

    Cost: a task, and about 1 us for each object and array of a body; the worker does nothing else meanwhile.
    """

    protocols: ClassVar[tuple[str, ...]] = ("Http1", "Http2")
    timeout: ClassVar[float] = 30.0

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._rules = Rules(settings)

    def _rules_of(self, exchange: Exchange) -> Rules:
        of_route = self.context.route_config(exchange, NAME)
        return of_route if isinstance(of_route, Rules) else self._rules

    async def on_route(self, exchange: Exchange) -> Reply | None:
        rules = self._rules_of(exchange)
        request = exchange.request
        if rules.response:
            request.headers.remove_named(OF_PARTS)
            request.headers.set("Accept-Encoding", "identity")
        if rules.request and request.tunnel:
            exchange.failure = ACCESS_DENIED
            exchange.failure_detail = "json_edit: the bytes of a tunnel cannot be edited"
            return Reply(403)
        if rules.request and request.content_length != 0:
            return await self._edit_request(exchange, request, rules)
        return None

    async def _edit_request(self, exchange: Exchange, request: RequestHead, rules: Rules) -> Reply | None:
        headers = request.headers
        if not is_json(headers) or not is_plain(headers) or "content-range" in headers:
            exchange.failure = BAD_BODY
            exchange.failure_detail = _describe(headers)
            return Reply(415, "expected JSON\n", {"accept": "application/json"})
        document = Document(rules.request)
        try:
            edited = document.edit(await request.read(rules.max_bytes))
        except InvalidDocument as error:
            raise Refused(BAD_BODY, f"json_edit: {error}") from error
        if not document.is_complete():
            raise Refused(BAD_BODY, "json_edit: there is no object to set a value in")
        headers.remove_named(OF_BYTES)
        request.set_body(edited)
        self.context.counter("requests_edited").value += 1
        return None

    async def on_response(self, exchange: Exchange) -> Reply | None:
        head = exchange.response_head
        rules = self._rules_of(exchange)
        if not rules.response:
            return None
        if len(head.raw_tunnel) > 0:
            raise Refused(BAD_RESPONSE, "json_edit: the bytes of a tunnel cannot be edited")
        headers = head.headers
        if not is_json(headers) and _may_pass(exchange, head, rules):
            return None
        _weaken(headers)
        if not exchange.request.has_response_body(head):
            if head.status != 204:
                head.set_length(UNKNOWN_LENGTH)
            return None
        if head.content_length != 0 or head.new_body is not None:
            await self._edit_response(head, rules)
        return None

    async def _edit_response(self, head: ResponseHead, rules: Rules) -> None:
        headers = head.headers
        if head.status in (206, 226) or "content-range" in headers:
            raise Refused(BAD_RESPONSE, f"json_edit: a part of a body: {_describe(headers)}")
        if not is_json(headers) or not is_plain(headers):
            raise Refused(BAD_RESPONSE, f"json_edit: not JSON: {_describe(headers)}")
        body = await head.read(rules.max_bytes)
        if not body:
            return
        try:
            head.set_body(Document(rules.response).edit(body))
        except InvalidDocument as error:
            raise Refused(BAD_RESPONSE, f"json_edit: {error}") from error
        head.trailers = None
        self.context.counter("responses_edited").value += 1


def _may_pass(exchange: Exchange, head: ResponseHead, rules: Rules) -> bool:
    """Whether a response that is not JSON may pass unchanged: by its type, or because it is not the upstream's."""
    if exchange.failure is not None or exchange.response_received == 0.0:
        return True
    return head.status not in (206, 226, 304) and rules.may_pass(content_type(head.headers))


def _describe(headers: Headers) -> str:
    return f"content-type {headers.joined('content-type')!r}, content-encoding {headers.joined('content-encoding')!r}"


def is_plain(headers: Headers) -> bool:
    """Whether a body is UTF-8 without a content coding."""
    parameters = (headers.get("content-type") or "").lower().replace('"', "").replace(" ", "").split(";")[1:]
    charsets = [value for name, _, value in (part.partition("=") for part in parameters) if name == "charset"]
    if any(charset not in ("utf-8", "utf8", "us-ascii") for charset in charsets):
        return False
    return not is_coded(headers)


def _weaken(headers: Headers) -> None:
    """Adapts the head: the body is no longer byte for byte the upstream's (RFC 9110 section 8.8.1)."""
    headers.remove_named(OF_BYTES)
    etags = headers.get_all("etag")
    if etags:
        headers.remove("etag")
        if len(etags) == 1:
            headers.set("ETag", etags[0] if etags[0].startswith("W/") else f"W/{etags[0]}")


def _check(change: Change, path: str, problems: Problems) -> None:
    places = [(f"{path}.remove[{i}]", place) for i, place in enumerate(change.remove)]
    places += [(f"{path}.set.{place}", place) for place in change.set]
    for at, place in places:
        problems.require(place, at, "must be a name or a JSON Pointer, not empty")
        if place.startswith("/"):
            try:
                split_pointer(place)
            except ValueError as error:
                problems.add(at, str(error))


_NOTE: Final = "pymosn's own: also of a route"
SPEC: Final = FilterSpec(NAME, Settings, JsonEditFilter, _NOTE, route=RouteSpec(Settings, Rules), guards=True)
