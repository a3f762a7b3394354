"""Sockets with a mark (SO_MARK), by which the kernel's routing rules and firewall can tell them apart."""

from __future__ import annotations

import errno
import socket
import sys

_NOT_PERMITTED = "SO_MARK {mark} is not permitted: the cluster's `mark` needs the capability CAP_NET_ADMIN"


def set_mark(sock: socket.socket, mark: int) -> None:
    """Sets SO_MARK before the socket connects. Raises OSError that names the missing capability."""
    try:
        # Marks have 32 bits, of which Python accepts only 31 as a number.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark.to_bytes(4, sys.byteorder))
    except PermissionError:
        raise PermissionError(errno.EPERM, _NOT_PERMITTED.format(mark=mark)) from None
