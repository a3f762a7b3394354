"""Plain sockets of the tests: reads that wait for a whole message, and ends that a client may meet at any moment."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

#: Seconds for which a socket waits; a test that needs them has failed.
PATIENCE = 40.0


def connect(port: int) -> socket.socket:
    """A connection to a port of this machine."""
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def read_all(sock: socket.socket) -> bytes:
    """Reads to the end of the connection, and fails when that is a reset."""
    parts = []
    while data := sock.recv(1 << 18):
        parts.append(data)
    return b"".join(parts)


def read_until(sock: socket.socket, end: bytes) -> bytes:
    """Reads until what came holds `end`."""
    found = b""
    while end not in found:
        data = sock.recv(65536)
        assert data, f"the connection ended after {found!r}"
        found += data
    return found


def read_exactly(sock: socket.socket, size: int) -> bytes:
    """Reads `size` bytes."""
    found = b""
    while len(found) < size:
        data = sock.recv(size - len(found))
        assert data, f"the connection ended after {found!r}"
        found += data
    return found


def rejection(port: int, data: bytes = b"") -> str:
    """How a connection ends that sends `data` and must not get a byte: `eof` or `reset`.

    The server may reset it before the client's own `connect` has returned: the client learns of a reset there, when it
    sends, or when it reads, whichever comes first. A port on which nothing listens is an error still.
    """
    got = b""
    try:
        with connect(port) as sock:
            sock.sendall(data)
            while piece := sock.recv(65536):
                got += piece
        end = "eof"
    except (ConnectionResetError, BrokenPipeError):
        end = "reset"
    assert got == b""
    return end


def accepts(port: int) -> bool:
    """Whether anything listens on a port. One that resets the connection did so still."""
    try:
        connect(port).close()
    except ConnectionRefusedError:
        return False
    except ConnectionResetError:
        pass
    return True


@contextmanager
def dead_sockets(count: int) -> Iterator[list[socket.socket]]:
    """Sockets with a port that refuses connections: no other process is given it, and it does not listen yet."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        yield sockets
    finally:
        for sock in sockets:
            sock.close()


def port_of(sock: socket.socket) -> int:
    """The port that a socket is bound to."""
    port: int = sock.getsockname()[1]
    return port
