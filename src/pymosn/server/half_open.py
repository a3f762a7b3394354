"""Handshakes of TCP that are half open: the kernel has answered the SYN, and the client's ACK has not arrived yet.

The kernel has no counter of them for each socket. It lists them on request (sock_diag(7)), to any user.
"""

from __future__ import annotations

import socket
import struct
from typing import Final

#: Of linux/netlink.h and linux/sock_diag.h, for which Python has no names.
NETLINK_SOCK_DIAG: Final = 4
SOCK_DIAG_BY_FAMILY: Final = 20
NLM_F_REQUEST_DUMP: Final = 0x301
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
#: The state TCP_SYN_RECV as a bit.
SYN_RECEIVED: Final = 1 << 3
#: Bytes that are read at most: a flood of SYNs may have left very many.
LIMIT: Final = 4 << 20
_HEADER: Final = struct.Struct("=LHHLL")
_PIECE: Final = 65536


def half_open_ports(with_ipv6: bool) -> set[int] | None:
    """The local ports with half-open handshakes; None if the kernel does not list them, or lists too many.

    `with_ipv6`: also those of IPv6. It takes milliseconds of CPU for each family: to be called in a thread.
    """
    found: set[int] = set()
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as sock:
            sock.settimeout(0.1)
            for family in (socket.AF_INET, socket.AF_INET6) if with_ipv6 else (socket.AF_INET,):
                # struct inet_diag_req_v2: family, protocol, no extensions, states, and any address.
                request = struct.pack("=BBBxL48x", family, socket.IPPROTO_TCP, 0, SYN_RECEIVED)
                header = _HEADER.pack(_HEADER.size + len(request), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST_DUMP, 1, 0)
                sock.send(header + request)
                if not _read(sock, found):
                    return None
    except OSError:
        return None
    return found


def _read(sock: socket.socket, found: set[int]) -> bool:
    """Adds the local ports in an answer; returns whether it was read to its end."""
    size = 0
    while size < LIMIT:
        data = sock.recv(_PIECE)
        size += len(data)
        at = 0
        while at + _HEADER.size <= len(data):
            length, kind, *_ = _HEADER.unpack_from(data, at)
            if kind == NLMSG_DONE:
                return True
            if kind == NLMSG_ERROR or length < _HEADER.size:
                return False
            # struct inet_diag_msg: family, state, timer, retransmissions, then the local port in network order.
            found.add(int.from_bytes(data[at + _HEADER.size + 4 : at + _HEADER.size + 6], "big"))
            at += (length + 3) & ~3
    return False
