"""Sockets with a mark (SO_MARK), by which the kernel's routing rules and firewall can tell them apart."""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
from typing import Any

_NOT_PERMITTED = "SO_MARK {mark} is not permitted: the cluster's `mark` needs the capability CAP_NET_ADMIN"


async def open_marked(host: str, port: int, bind: str, mark: int) -> socket.socket:
    """A connected socket with that mark. `host`: a name or an IP address, each of whose addresses is tried in order.

    `bind`: the local IP address; empty for the system's choice. Raises OSError: the last one.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    last: OSError | None = None
    for family, _, _, _, address in found:
        try:
            return await _open(family, address, bind, mark)
        except OSError as error:
            last = error
    raise OSError(f"no address for {host}") if last is None else last


async def _open(family: int, address: Any, bind: str, mark: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        set_mark(sock, mark)
        if bind:
            sock.bind((bind, 0))
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def set_mark(sock: socket.socket, mark: int) -> None:
    """Sets SO_MARK before the socket connects. Raises OSError that names the missing capability."""
    try:
        # Marks have 32 bits, of which Python accepts only 31 as a number.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark.to_bytes(4, sys.byteorder))
    except PermissionError:
        raise PermissionError(errno.EPERM, _NOT_PERMITTED.format(mark=mark)) from None
