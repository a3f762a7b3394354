"""The original destination of connections that the kernel redirected to this proxy.

`iptables -j REDIRECT` rewrites the destination and remembers it (SO_ORIGINAL_DST); `-j TPROXY` leaves it unchanged, so it is
the socket's own address.
"""

from __future__ import annotations

import socket
import struct
from typing import Any, Final

from pymosn.core.addresses import unmapped

#: linux/netfilter_ipv4.h, and IP6T_SO_ORIGINAL_DST of linux/netfilter_ipv6/ip6_tables.h.
SO_ORIGINAL_DST: Final = 80
#: struct sockaddr_in and sockaddr_in6 up to the address.
SOCKADDR_IN: Final = struct.Struct("=H2s4s8x")
SOCKADDR_IN6: Final = struct.Struct("=H2sI16sI")


def redirected_from(sock: Any) -> tuple[str, int] | None:
    """IP address and port before a REDIRECT; None without one. `sock`: an object with `socket.socket.getsockopt`."""
    try:
        _, port, raw = SOCKADDR_IN.unpack(sock.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, SOCKADDR_IN.size))
        return socket.inet_ntop(socket.AF_INET, raw), int.from_bytes(port, "big")
    except (OSError, struct.error):
        pass  # an IPv6 connection, or not redirected
    try:
        _, port, _, raw6, _ = SOCKADDR_IN6.unpack(sock.getsockopt(socket.IPPROTO_IPV6, SO_ORIGINAL_DST, SOCKADDR_IN6.size))
        return unmapped(socket.inet_ntop(socket.AF_INET6, raw6)), int.from_bytes(port, "big")
    except (OSError, struct.error):
        return None


class OriginalDst:
    """How a listener finds the original destination, and the listener for it when no one has exactly that address."""

    def __init__(self, is_transparent: bool = False, fallback_to_local: bool = False, hands_over: bool = True) -> None:
        """`is_transparent`: by TPROXY, not REDIRECT. `fallback_to_local`: the one on 127.0.0.1, not the one on 0.0.0.0.

        `hands_over`: that listener gets the connection; otherwise the destination is only noted.
        """
        self.is_transparent = is_transparent
        self.hands_over = hands_over
        self.fallback_to_local = fallback_to_local
