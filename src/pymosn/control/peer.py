"""The process at the other end of a unix socket, according to the kernel."""

import socket
import struct
from typing import Final, NamedTuple

#: struct ucred of unix(7): process, user, group.
_CREDENTIALS: Final = struct.Struct("3i")


class Peer(NamedTuple):
    """A process and its user. `pid`: 0 if it is in a namespace that this process cannot see."""

    pid: int
    uid: int


def peer_of(sock: socket.socket) -> Peer:
    """Who connected, at that time; for a client: who serves the socket, when that process began to listen."""
    pid, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return Peer(pid, uid)
