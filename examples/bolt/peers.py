"""A Bolt server that echoes, and a Bolt client: a minimal implementation of SOFA Bolt version 1."""

import socket
import struct
import threading


def block(headers: dict[str, str]) -> bytes:
    """Encodes headers as a Bolt header block."""
    texts = [text.encode() for pair in headers.items() for text in pair]
    return b"".join(struct.pack(">I", len(text)) + text for text in texts)


def request(request_id: int, content: bytes, headers: dict[str, str]) -> bytes:
    """A request with a timeout of 3 seconds."""
    fields = block(headers)
    return struct.pack(">BBHBIBiHHI", 1, 1, 1, 1, request_id, 1, 3000, 0, len(fields), len(content)) + fields + content


def response(request_id: int, content: bytes) -> bytes:
    """A response with status 0, success."""
    return struct.pack(">BBHBIBHHHI", 1, 0, 2, 1, request_id, 1, 0, 0, 0, len(content)) + content


def read_exactly(sock: socket.socket, size: int) -> bytes:
    """Reads `size` bytes. Raises EOFError if the peer closes earlier."""
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def read_frame(sock: socket.socket) -> tuple[int, int, int, int, bytes]:
    """Type, command, id, status (of a response) and content of the next frame."""
    _, kind, command, _, request_id, _ = struct.unpack(">BBHBIB", read_exactly(sock, 10))
    status = 0
    if kind == 0:
        (status,) = struct.unpack(">H", read_exactly(sock, 2))
    else:
        read_exactly(sock, 4)
    class_size, header_size, content_size = struct.unpack(">HHI", read_exactly(sock, 8))
    read_exactly(sock, class_size + header_size)
    return kind, command, request_id, status, read_exactly(sock, content_size)


def serve(port: int) -> None:
    """Echoes the content of every request, until the process ends."""
    listener = socket.create_server(("127.0.0.1", port))

    def answer(sock: socket.socket) -> None:
        try:
            while True:
                kind, command, request_id, _, content = read_frame(sock)
                if kind == 1:
                    ack = struct.pack(">BBHBIBHHHI", 1, 0, 0, 1, request_id, 1, 0, 0, 0, 0)
                    sock.sendall(ack if command == 0 else response(request_id, b"echo: " + content))
        except (EOFError, OSError):
            sock.close()

    def accept() -> None:
        while True:
            threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def call(port: int, count: int) -> list[str]:
    """Sends `count` requests at once on one connection; returns the responses in the order of the requests."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        headers = {"service": "testSofa"}
        sock.sendall(b"".join(request(i, b"call %d" % i, headers) for i in range(1, count + 1)))
        responses: dict[int, str] = {}
        for _ in range(count):
            _, _, request_id, status, content = read_frame(sock)
            responses[request_id] = content.decode() if status == 0 else f"status {status}"
    return [responses[request_id] for request_id in sorted(responses)]
