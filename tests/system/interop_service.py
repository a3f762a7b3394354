"""The service of gRPC's interoperability tests (`grpc.testing`), and server reflection, on grpcio.

The messages are described here as in the published `messages.proto`, as far as the cases need them; no code is from protoc.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import grpc
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

SERVICE = "grpc.testing.TestService"
REFLECTION = "grpc.reflection.v1.ServerReflection"
ECHO_INITIAL, ECHO_TRAILING = "x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"

#: The fields of each message: name, number and type; a type that is none of protobuf's own is another message.
FIELDS: dict[str, list[tuple[str, int, str]]] = {
    "Empty": [],
    "Payload": [("type", 1, "int32"), ("body", 2, "bytes")],
    "EchoStatus": [("code", 1, "int32"), ("message", 2, "string")],
    "SimpleRequest": [
        ("response_size", 2, "int32"),
        ("payload", 3, "Payload"),
        ("response_status", 7, "EchoStatus"),
        ("fill_server_id", 9, "bool"),
    ],
    "SimpleResponse": [("payload", 1, "Payload"), ("server_id", 4, "string")],
    "StreamingInputCallRequest": [("payload", 1, "Payload")],
    "StreamingInputCallResponse": [("aggregated_payload_size", 1, "int32")],
    "ResponseParameters": [("size", 1, "int32"), ("interval_us", 2, "int32")],
    "StreamingOutputCallRequest": [
        ("response_parameters", 2, "repeated ResponseParameters"),
        ("payload", 3, "Payload"),
        ("response_status", 7, "EchoStatus"),
    ],
    "StreamingOutputCallResponse": [("payload", 1, "Payload")],
}
#: Request and response of each method, and which of them are streams.
METHODS = {
    "EmptyCall": ("Empty", "Empty", False, False),
    "UnaryCall": ("SimpleRequest", "SimpleResponse", False, False),
    "StreamingOutputCall": ("StreamingOutputCallRequest", "StreamingOutputCallResponse", False, True),
    "StreamingInputCall": ("StreamingInputCallRequest", "StreamingInputCallResponse", True, False),
    "FullDuplexCall": ("StreamingOutputCallRequest", "StreamingOutputCallResponse", True, True),
    "HalfDuplexCall": ("StreamingOutputCallRequest", "StreamingOutputCallResponse", True, True),
    "UnimplementedCall": ("Empty", "Empty", False, False),
}
REFLECTION_FIELDS: dict[str, list[tuple[str, int, str]]] = {
    "ServerReflectionRequest": [
        ("host", 1, "string"),
        ("file_by_filename", 3, "string"),
        ("file_containing_symbol", 4, "string"),
        ("list_services", 7, "string"),
    ],
    "ServerReflectionResponse": [
        ("original_request", 2, "ServerReflectionRequest"),
        ("file_descriptor_response", 4, "FileDescriptorResponse"),
        ("list_services_response", 6, "ListServiceResponse"),
    ],
    "FileDescriptorResponse": [("file_descriptor_proto", 1, "repeated bytes")],
    "ListServiceResponse": [("service", 1, "repeated ServiceResponse")],
    "ServiceResponse": [("name", 1, "string")],
}


def _file(name: str, package: str, fields: dict[str, list[tuple[str, int, str]]]) -> FileDescriptorProto:
    made = FileDescriptorProto(name=name, package=package, syntax="proto3")
    kinds = {each: getattr(FieldDescriptorProto, f"TYPE_{each.upper()}") for each in ("int32", "bytes", "string", "bool")}
    for message, members in fields.items():
        proto: DescriptorProto = made.message_type.add(name=message)
        for field, number, kind in members:
            repeated, _, word = kind.rpartition("repeated ")
            label = FieldDescriptorProto.LABEL_REPEATED if repeated or kind != word else FieldDescriptorProto.LABEL_OPTIONAL
            own = proto.field.add(name=field, number=number, label=label)
            if word in kinds:
                own.type = kinds[word]
            else:
                own.type, own.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".{package}.{word}"
    return made


def _described() -> tuple[FileDescriptorProto, DescriptorPool]:
    described = _file("pymosn/interop.proto", "grpc.testing", FIELDS)
    service = described.service.add(name="TestService")
    for name, (asked, answered, client_streams, server_streams) in METHODS.items():
        types = {"input_type": f".grpc.testing.{asked}", "output_type": f".grpc.testing.{answered}"}
        service.method.add(name=name, **types, client_streaming=client_streams, server_streaming=server_streams)
    pool = DescriptorPool()
    pool.Add(described)
    pool.Add(_file("pymosn/reflection.proto", "grpc.reflection.v1", REFLECTION_FIELDS))
    return described, pool


FILE, _POOL = _described()


def message(name: str, package: str = "grpc.testing") -> Any:
    """The class of a message."""
    return GetMessageClass(_POOL.FindMessageTypeByName(f"{package}.{name}"))


def _reply_metadata(context: grpc.ServicerContext) -> None:
    """Sends back what the case `custom_metadata` asks for."""
    for key, value in context.invocation_metadata():
        if key == ECHO_INITIAL:
            context.send_initial_metadata(((key, value),))
        elif key == ECHO_TRAILING:
            context.set_trailing_metadata(((key, value),))


def _reply_status(request: Any, context: grpc.ServicerContext) -> None:
    """Ends the call with the status that a request asks for, if it does."""
    if request.HasField("response_status"):
        code = next(code for code in grpc.StatusCode if code.value[0] == request.response_status.code)
        context.abort(code, request.response_status.message)


class InteropServer:
    """A server on a free port of loopback. `server_id` is what it answers to the case `pick_first_unary`."""

    def __init__(self, server_id: str = "one") -> None:
        self.server_id = server_id
        #: Opened when the server stops, so that no call waits longer.
        self._stopped = Event()
        self._server = grpc.server(ThreadPoolExecutor(32), options=[("grpc.so_reuseport", 0)])
        handlers = {name: self._handler(name) for name in METHODS if name != "UnimplementedCall"}
        reflect = grpc.stream_stream_rpc_method_handler(
            self._reflect,
            message("ServerReflectionRequest", "grpc.reflection.v1").FromString,
            lambda response: response.SerializeToString(),
        )
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(SERVICE, handlers),
                grpc.method_handlers_generic_handler(REFLECTION, {"ServerReflectionInfo": reflect}),
            )
        )
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def close(self) -> None:
        self._stopped.set()
        self._server.stop(None)

    def _handler(self, name: str) -> grpc.RpcMethodHandler:
        asked, _, client_streams, server_streams = METHODS[name]
        kind = f"{'stream' if client_streams else 'unary'}_{'stream' if server_streams else 'unary'}"
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(getattr(self, f"_{name}"), message(asked).FromString, lambda response: response.SerializeToString())

    def _EmptyCall(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return message("Empty")()

    def _UnaryCall(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        _reply_metadata(context)
        _reply_status(request, context)
        response = message("SimpleResponse")()
        response.payload.body = bytes(request.response_size)
        if request.fill_server_id:
            response.server_id = self.server_id
        return response

    def _StreamingOutputCall(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:  # noqa: N802
        _reply_status(request, context)
        yield from self._responses(request)

    def _StreamingInputCall(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Any:  # noqa: N802
        size = sum(len(request.payload.body) for request in requests)
        return message("StreamingInputCallResponse")(aggregated_payload_size=size)

    def _FullDuplexCall(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:  # noqa: N802
        _reply_metadata(context)
        for request in requests:
            _reply_status(request, context)
            yield from self._responses(request)

    def _HalfDuplexCall(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:  # noqa: N802
        for request in list(requests):
            yield from self._responses(request)

    def _responses(self, request: Any) -> Iterator[Any]:
        for wanted in request.response_parameters:
            if wanted.interval_us:
                self._stopped.wait(wanted.interval_us / 1e6)
            response = message("StreamingOutputCallResponse")()
            response.payload.body = bytes(wanted.size)
            yield response

    def _reflect(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        for request in requests:
            response = message("ServerReflectionResponse", "grpc.reflection.v1")(original_request=request)
            if request.list_services:
                for name in (SERVICE, REFLECTION):
                    response.list_services_response.service.add(name=name)
            else:
                response.file_descriptor_response.file_descriptor_proto.append(FILE.SerializeToString())
            yield response


class InteropClient:
    """The cases of the interoperability tests, each a method that fails if the server's answers are not as they must be."""

    def __init__(self, port: int) -> None:
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)])

    def close(self) -> None:
        self.channel.close()

    def call(self, method: str, service: str = SERVICE) -> Any:
        """The callable of a method."""
        _, answered, client_streams, server_streams = METHODS[method]
        kind = f"{'stream' if client_streams else 'unary'}_{'stream' if server_streams else 'unary'}"
        make = getattr(self.channel, kind)
        return make(f"/{service}/{method}", lambda request: request.SerializeToString(), message(answered).FromString)
