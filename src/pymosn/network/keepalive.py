"""TCP keepalive: probes on silent connections, by which the kernel detects a peer that has vanished."""

from __future__ import annotations

import socket
from typing import Any

from pymosn.api.network import TcpKeepalive


def set_keepalive(sock: Any, keepalive: TcpKeepalive) -> None:
    """Applies it to a connected socket, or an object like one; does nothing unless it is of TCP.

    Data that is not acknowledged ends the connection after the same time, because TCP does not probe while it repeats data.
    """
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, keepalive.idle)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, keepalive.interval)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, keepalive.probes)
        patience = keepalive.idle + keepalive.interval * keepalive.probes
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience * 1000)
    except OSError:
        pass  # the connection has just been closed
