"""`grpc_json_transcoder`, pymosn's own: REST and JSON for gRPC services (`google.api.http`). The keys are Envoy's."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, TypeVar

import msgspec

from pymosn.api.exchange import Exchange, Reply
from pymosn.api.grpc import (
    CONTENT_TYPE,
    OK,
    STATUS,
    GrpcRequest,
    framed,
    is_grpc,
    of_failure,
    of_http_status,
    status_of,
    to_http_status,
)
from pymosn.api.http import HttpRequest, phrase_of
from pymosn.api.stream_filter import StreamFilter
from pymosn.core.errors import reason
from pymosn.core.failure import UNTRANSLATABLE_REPLY, Failure, Refused
from pymosn.core.headers import Headers
from pymosn.core.json_text import write_json
from pymosn.core.message import ResponseHead
from pymosn.filters.settings import Block, Positive, own
from pymosn.filters.spec import DataFile, FilterSpec
from pymosn.filters.stream.content import OF_BYTES, is_coded
from pymosn.filters.stream.grpc_messages import MessageReader, begin_call
from pymosn.filters.stream.problems import Problems

if TYPE_CHECKING:
    from pymosn.filters.stream.grpc_json_reply import Printer
    from pymosn.filters.stream.grpc_json_request import ReadOptions
    from pymosn.filters.stream.grpc_schema import Binding, Schema
    from pymosn.filters.stream.http_rules import Match

T = TypeVar("T")

JSON: Final = "application/json"
LINES: Final = "application/x-ndjson"
#: Work that is done at once, in about 3 ms; a unit is what one byte of a text costs.
_LARGE: Final = 150_000
#: The work for an object or array of JSON, for another value, and for a byte of a message, at most.
_PER_OBJECT: Final = 300
_PER_VALUE: Final = 40
_PER_BYTE: Final = 16
#: Fields of a gRPC response that mean nothing to a client of JSON.
_OF_GRPC: Final = ("grpc-status", "grpc-message", "grpc-status-details-bin", "grpc-encoding", "grpc-accept-encoding")
#: Fields that describe the messages, and not what they become. Others, such as Content-Disposition, are for clients.
_OF_MESSAGES: Final = OF_BYTES | {b"content-encoding", b"content-range", b"etag", b"last-modified"}
#: Fields of requests that would be taken for the proxy's own.
_OF_CALL: Final = ("grpc-encoding", "grpc-accept-encoding", "content-type")


class PrintSettings(Block, kw_only=True):
    """How messages become JSON."""

    add_whitespace: Annotated[bool, own("indent; not in streams")] = False
    always_print_primitive_fields: Annotated[bool, own("also fields with their default value")] = False
    always_print_enums_as_ints: Annotated[bool, own("")] = False
    preserve_proto_field_names: Annotated[bool, own("`user_name`, not `userName`")] = False
    stream_newline_delimited: Annotated[bool, own("a stream is one message per line, not an array")] = False


class Settings(Block, kw_only=True):
    """`grpc_json_transcoder`: REST and JSON for gRPC services."""

    proto_descriptor: Annotated[
        str, own("file with a FileDescriptorSet (protoc --include_imports -o); relative to the configuration file")
    ] = ""
    proto_descriptor_bin: Annotated[str, own("the FileDescriptorSet itself, in base64")] = ""
    services: Annotated[list[str], own("full names of the services that can be called")] = []
    print_options: Annotated[PrintSettings, own("")] = msgspec.field(default_factory=PrintSettings)
    match_incoming_request_route: Annotated[bool, own("routes match on the path of the client, not on that of the call")] = (
        False
    )
    auto_mapping: Annotated[bool, own("methods without a rule are `POST /package.Service/Method`")] = False
    ignored_query_parameters: Annotated[list[str], own("parameters that are not fields")] = []
    ignore_unknown_query_parameters: Annotated[bool, own("else 400")] = False
    ignore_unknown_fields: Annotated[bool, own("of a JSON body; else 400")] = False
    reject_unknown_method: Annotated[bool, own("404 or 405 without a rule; else the request passes unchanged")] = False
    max_request_body_size: Annotated[Positive, own("bytes; beyond: 413")] = 1024 * 1024
    max_response_body_size: Annotated[Positive, own("bytes of a response, and of a message of a stream; beyond: 502")] = (
        1024 * 1024
    )


class _Call:
    """One call: its binding, and how far its response is."""

    def __init__(self, binding: Binding) -> None:
        self.binding = binding
        #: The head of the response that is a stream, and its messages.
        self.head: ResponseHead | None = None
        self.reader: MessageReader | None = None
        self.has_items = False


class _JsonCall(GrpcRequest):
    """The call that a request is mapped to. Local replies stay HTTP's, because the client does not speak gRPC."""

    #: The head of the last local reply.
    local: ResponseHead | None = None

    def local_reply(self, status: int, headers: Headers, body: bytes) -> ResponseHead:
        self.local = HttpRequest.local_reply(self, status, headers, body)
        return self.local

    def streamed_reply(self, status: int, headers: Headers) -> ResponseHead:
        self.local = HttpRequest.streamed_reply(self, status, headers)
        return self.local

    def failure_reply(self, failure: Failure, headers: Headers, body: bytes) -> ResponseHead:
        headers.set("content-type", JSON)
        return self.local_reply(failure.status, headers, body)

    def failure_body(self, failure: Failure) -> bytes:
        return _status_body(int(of_failure(failure)), phrase_of(failure.status))

    def reply_body(self, head: ResponseHead, body: bytes) -> bytes:
        return HttpRequest.reply_body(self, head, body)


class GrpcJsonFilter(StreamFilter):
    """Converts requests that match a rule to gRPC calls, and their responses to JSON.

    Cost per request: one lookup of the path; for a match the body is read as a whole and converted (20 to 50 us for
    a small request and its response, in a thread above 16 KiB). Streams of responses are converted message by message.
    """

    protocols: ClassVar[tuple[str, ...]] = ("Http1", "Http2")

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        problems = Problems()
        content = _descriptor(settings, problems)
        problems.require(settings.services, ".services", "names no service")
        problems.end()
        try:
            from pymosn.filters.stream import grpc_json_reply, grpc_json_request, grpc_schema
        except ImportError as error:
            problems.add("", f"needs the package protobuf: pymosn[protobuf] ({reason(error)})")
            problems.end()
        try:
            self._schema: Schema = grpc_schema.load_schema(content, settings.services, settings.auto_mapping)
        except grpc_schema.SchemaError as error:
            where = ".services" if str(error).startswith("service ") else _source_key(settings)
            problems.add(where, reason(error))
            problems.end()
        shown = settings.print_options
        options = grpc_json_reply.PrintOptions(
            shown.add_whitespace,
            shown.always_print_primitive_fields,
            shown.always_print_enums_as_ints,
            shown.preserve_proto_field_names,
        )
        self._printer: Printer = grpc_json_reply.Printer(self._schema, options)
        self._reads: ReadOptions = grpc_json_request.ReadOptions(
            frozenset(settings.ignored_query_parameters),
            settings.ignore_unknown_query_parameters,
            settings.ignore_unknown_fields,
        )
        self._settings = settings
        self._by_lines = shown.stream_newline_delimited
        self._requests: Any = grpc_json_request
        self._replies: Any = grpc_json_reply
        # Unique per filter, because a listener may have two of them.
        self._key = f"grpc_json_transcoder {id(self)}"

    # ---- the request

    async def on_request(self, exchange: Exchange) -> Reply | None:
        request = exchange.request
        content_type = request.headers.get_raw(b"content-type") or b""
        if request.raw_tunnel or is_grpc(content_type) or content_type.lower().startswith(b"application/grpc-web"):
            exchange.skip_body(self)
            return None
        match = self._schema.rules.find(request.method, request.raw_path)
        if match is None:
            exchange.skip_body(self)
            return self._unknown(request.raw_path) if self._settings.reject_unknown_method else None
        exchange.state[self._key] = match
        if self._settings.match_incoming_request_route:
            return None
        return await self._convert(exchange, match)

    async def on_route(self, exchange: Exchange) -> Reply | None:
        match = exchange.state.get(self._key)
        if match is None or isinstance(match, _Call):
            return None
        return await self._convert(exchange, match)  # type: ignore[arg-type]

    def _unknown(self, path: bytes) -> Reply:
        methods = self._schema.rules.methods_of(path)
        if methods:
            reply = _error_reply(405, "no method of the service has this HTTP method and path")
            reply.headers.set("Allow", ", ".join(methods))
            return reply
        return _error_reply(404, "no method of the service has this path")

    async def _convert(self, exchange: Exchange, match: Match[Binding]) -> Reply | None:
        """Makes a call of the request."""
        request = exchange.request
        if is_coded(request.headers):
            return _error_reply(415, "the body must not have a content coding")
        body = await request.read(self._settings.max_request_body_size)
        content_type = request.headers.get("content-type") or ""
        query = request.raw_query or b""
        make = partial(self._requests.messages_of, match, query, body, content_type, self._reads, self._schema.pool)
        try:
            found = await _run(make, _work(body))
        except self._requests.InvalidRequest as error:
            return _error_reply(error.status, reason(error))
        binding = match.target
        call = _JsonCall(request.headers)
        begin_call(exchange, call)
        call.method = "POST"
        call.path = binding.method.path
        call.query = ""
        for name in _OF_CALL:
            call.headers.remove(name)
        call.headers.add_raw(b"content-type", CONTENT_TYPE)
        call.set_body(b"".join(framed(message) for message in found))
        exchange.state[self._key] = _Call(binding)
        return None

    # ---- the response

    async def on_response(self, exchange: Exchange) -> None:
        call = exchange.state.get(self._key)
        request = exchange.request
        head = exchange.response_head
        if not isinstance(call, _Call) or not isinstance(request, _JsonCall) or head is request.local:
            exchange.skip_body(self)
            return
        headers = head.headers
        if not is_grpc(headers.get_raw(b"content-type") or b""):
            status = head.status if head.status >= 400 else 502
            _replace(head, status, _status_body(int(of_http_status(status)), "the upstream's response is not gRPC"), JSON)
            exchange.skip_body(self)
            return
        if call.binding.method.has_response_stream and headers.get_raw(STATUS) is None:
            self._begin_stream(call, head)
            return
        exchange.skip_body(self)
        body = await head.read(self._settings.max_response_body_size)
        fields = headers if head.trailers is None else head.trailers
        status = int(status_of(fields))
        if status == OK:
            await self._print(call, head, body)
        elif status < 0:
            raise Refused(UNTRANSLATABLE_REPLY, f"filter {self.context.name}: the response has no grpc-status")
        else:
            _replace(head, int(to_http_status(status)), self._printer.error(fields), JSON)

    async def _print(self, call: _Call, head: ResponseHead, body: bytes) -> None:
        """Replaces the body of a response that has succeeded."""
        binding = call.binding
        reader = MessageReader(self._settings.max_response_body_size)
        try:
            messages = reader.feed(body)
            if binding.method.has_response_stream and not body:
                _replace(head, 200, b"" if self._by_lines else b"[]", LINES if self._by_lines else JSON)
                return
            if len(messages) != 1 or reader.has_rest():
                raise ValueError(f"{len(messages)} messages instead of one")
            shown = await _run(partial(self._printer.content, binding, messages[0]), len(body) * _PER_BYTE)
        except ValueError as error:
            raise Refused(UNTRANSLATABLE_REPLY, f"filter {self.context.name}: {reason(error)}") from None
        _replace(head, 200, shown.body, shown.content_type)

    # ---- streams

    def _begin_stream(self, call: _Call, head: ResponseHead) -> None:
        call.head = head
        call.reader = MessageReader(self._settings.max_response_body_size)
        if self._replies.is_raw(call.binding):
            kind = "application/octet-stream"
        else:
            kind = LINES if self._by_lines else JSON
        _clear(head.headers, kind)

    def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes | None:
        call = exchange.state.get(self._key)
        if not isinstance(call, _Call) or call.reader is None or call.head is not exchange.response:
            return None
        reader = call.reader
        is_raw = self._replies.is_raw(call.binding)
        out: list[bytes] = []
        try:
            for message in reader.feed(data):
                item = self._printer.item(call.binding, message)
                out.append(item if is_raw else self._item(call, item))
        except ValueError as error:
            raise Refused(UNTRANSLATABLE_REPLY, f"filter {self.context.name}: {reason(error)}") from None
        if last:
            head = exchange.response_head
            trailers = head.trailers
            head.trailers = None
            status = -1 if trailers is None else int(status_of(trailers))
            if reader.has_rest() or trailers is None or status < 0 or (is_raw and status != OK):
                # The end of the body is the only sign that the client would have: it must not seem complete.
                raise Refused(UNTRANSLATABLE_REPLY, f"filter {self.context.name}: the stream ended with status {status}")
            if status != OK:
                out.append(self._item(call, b'{"error":' + self._printer.error(trailers) + b"}"))
            if not is_raw and not self._by_lines:
                out.append(b"]" if call.has_items else b"[]")
        return b"".join(out)

    def _item(self, call: _Call, item: bytes) -> bytes:
        """One element of the array, or one line."""
        if self._by_lines:
            return item + b"\n"
        separator = b"," if call.has_items else b"["
        call.has_items = True
        return separator + item


async def _run(convert: Callable[[], T], work: int) -> T:
    """Converts a body; in a thread if that takes long, because a MiB of JSON takes 0.02 to 2 s."""
    return convert() if work <= _LARGE else await asyncio.to_thread(convert)


def _work(body: bytes) -> int:
    """The work for a JSON body, which depends more on the number of its values than on its length."""
    return len(body) + _PER_OBJECT * (body.count(b"{") + body.count(b"[")) + _PER_VALUE * body.count(b",")


def _descriptor(settings: Settings, problems: Problems) -> bytes:
    """The descriptor set; the content of the file has been put into `proto_descriptor_bin`."""
    if not settings.proto_descriptor_bin:
        problems.add(".proto_descriptor", "the descriptor set is missing: the file is empty, or none is named")
        return b""
    try:
        return base64.b64decode(settings.proto_descriptor_bin, validate=True)
    except (binascii.Error, ValueError) as error:
        problems.add(".proto_descriptor_bin", f"not base64: {reason(error)}")
        return b""


def _source_key(settings: Settings) -> str:
    return ".proto_descriptor" if settings.proto_descriptor else ".proto_descriptor_bin"


def _status_body(code: int, message: str) -> bytes:
    """A google.rpc.Status as JSON."""
    return write_json({"code": code, "message": message})


def _error_reply(status: int, message: str) -> Reply:
    """A reply to a request that is not a call."""
    code = {404: 5, 405: 12, 413: 8}.get(status, 3)
    return Reply(status, _status_body(code, message), {"content-type": JSON})


def _clear(headers: Headers, content_type: str) -> None:
    for name in _OF_GRPC:
        headers.remove(name)
    headers.set("content-type", content_type)


def _replace(head: ResponseHead, status: int, body: bytes, content_type: str) -> None:
    """Makes a response a complete one with another body."""
    _clear(head.headers, content_type)
    head.headers.remove_named(_OF_MESSAGES)
    head.status = status
    head.set_body(body)


_NOTE: Final = "pymosn's own, with Envoy's keys: REST and JSON for gRPC services (docs/grpc-web.md)"
SPEC: Final = FilterSpec(
    "grpc_json_transcoder",
    Settings,
    GrpcJsonFilter,
    _NOTE,
    guards=True,
    file=DataFile("proto_descriptor", "proto_descriptor_bin"),
)
