"""How a listening socket ends: when it closes, the kernel resets what is not accepted yet, and half-open handshakes."""

from __future__ import annotations

import ctypes
import socket
import struct
from contextlib import suppress
from typing import Final

#: The option of Linux's asm-generic/socket.h that attaches a program of classic BPF; Python has no name for it.
SO_ATTACH_FILTER: Final = 26
#: Drops segments with the flag SYN, in byte 13 of the TCP header, and keeps all others.
NO_SYN: Final = ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))
# In memory for good: compiled, a local variable is freed after its last use, before the call in which the kernel reads it.
_PROGRAM: Final = ctypes.create_string_buffer(b"".join([struct.pack("HBBI", *step) for step in NO_SYN]))


def refuse_new(sock: socket.socket) -> None:
    """Makes a listening socket ignore new clients, who try again after a second; handshakes that have begun complete.

    To be called only if nothing is going to serve the socket any longer.
    """
    if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM:
        with suppress(OSError):  # a kernel without it
            address = struct.pack("HP", len(NO_SYN), ctypes.addressof(_PROGRAM))
            sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, address)


def accept_last(sock: socket.socket) -> list[socket.socket]:
    """Accepts what waits at a non-blocking socket that is closed next.

    Clients that connect meanwhile get no answer, and try again after a second, when the socket is closed. Otherwise some
    would connect between the last `accept` and the end.
    """
    refuse_new(sock)
    accepted: list[socket.socket] = []
    try:
        while True:
            accepted.append(sock.accept()[0])
    except OSError:
        return accepted  # the backlog is empty
