"""The frames of the RPC benchmark: bodies of 1 KiB, with the header fields or attachments that real clients send."""

import struct
from typing import ClassVar

BODY = 1024
BOLT_HEADERS = {
    "service": "com.example.Echo:1.0",
    "sofa_head_target_service": "com.example.Echo:1.0",
    "sofa_head_method_name": "echo",
    "rpc_trace_context.sofaTraceId": "c00002021795562785345100115746",
    "rpc_trace_context.sofaRpcId": "0",
    "x-user": "alice",
}
ATTACHMENTS = {
    "path": "com.example.Echo",
    "remote.application": "consumer",
    "interface": "com.example.Echo",
    "version": "1.0.0",
    "timeout": "10000",
    "group": "blue",
    "x-user": "alice",
}


class Wire:
    """The frames of a protocol. Requests and responses consist of an id between two constant parts."""

    id_size: ClassVar[int]
    #: Offset of the id, and sizes of the fixed headers of a request and of a response.
    id_at: ClassVar[int]
    heads: ClassVar[tuple[int, int]]

    def __init__(self) -> None:
        self.request_parts: tuple[bytes, bytes] = (b"", b"")
        self.response_parts: tuple[bytes, bytes] = (b"", b"")

    def request(self, request_id: int) -> bytes:
        """A request with that id."""
        return self.request_parts[0] + request_id.to_bytes(self.id_size, "big") + self.request_parts[1]

    def response(self, request_id: bytes) -> bytes:
        """The response to the request with that id."""
        return self.response_parts[0] + request_id + self.response_parts[1]

    def size(self, data: bytes, at: int, head: int) -> int:
        """Size in bytes of the frame at `at`, whose fixed header has been received."""
        raise NotImplementedError


class Bolt(Wire):
    """SOFA Bolt v1."""

    id_size, id_at, heads = 4, 5, (22, 20)

    def __init__(self) -> None:
        super().__init__()
        name = b"com.alipay.sofa.rpc.core.request.SofaRequest"
        texts = [text.encode() for pair in BOLT_HEADERS.items() for text in pair]
        block = b"".join(struct.pack(">I", len(text)) + text for text in texts)
        request = b"\x01\xff\xff\xff\xff" + struct.pack(">HHI", len(name), len(block), BODY) + name + block + bytes(BODY)
        self.request_parts = (b"\x01\x01\x00\x01\x01", request)
        response = b"\x01\x00\x00" + struct.pack(">HHI", len(name), 0, BODY) + name + bytes(BODY)
        self.response_parts = (b"\x01\x00\x00\x02\x01", response)

    def size(self, data: bytes, at: int, head: int) -> int:
        return head + sum(struct.unpack_from(">HHI", data, at + head - 8))


def text(value: str) -> bytes:
    """A string of hessian 2 with up to 1023 ASCII characters."""
    size = len(value)
    return (bytes((size,)) if size < 32 else bytes((0x30 + (size >> 8), size & 255))) + value.encode()


class Dubbo(Wire):
    """Dubbo with hessian 2, as sent by a consumer of Dubbo 3."""

    id_size, id_at, heads = 8, 4, (16, 16)

    def __init__(self) -> None:
        super().__init__()
        front = b"".join(map(text, ("2.0.2", "com.example.Echo", "1.0.0", "echo", "Ljava/lang/String;")))
        argument = b"S" + struct.pack(">H", BODY) + b"x" * BODY
        pairs = b"".join(text(name) + text(value) for name, value in ATTACHMENTS.items())
        self.request_parts = (b"\xda\xbb\xc2\x00", self._body(front + argument + b"H" + pairs + b"Z"))
        self.response_parts = (
            b"\xda\xbb\x02\x14",
            self._body(b"\x94" + argument + b"H" + text("dubbo") + text("2.0.2") + b"Z"),
        )

    @staticmethod
    def _body(body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + body

    def size(self, data: bytes, at: int, head: int) -> int:
        return head + int(struct.unpack_from(">I", data, at + 12)[0])


WIRES: dict[str, type[Wire]] = {"bolt": Bolt, "dubbo": Dubbo}
