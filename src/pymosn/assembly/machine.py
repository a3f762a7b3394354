"""The address of this machine, for trace ids."""

from __future__ import annotations

import fcntl
import socket
import struct
from typing import Final

#: `SIOCGIFADDR` and `SIOCGIFFLAGS` of Linux, and the flag of a loopback interface.
_GET_ADDRESS: Final = 0x8915
_GET_FLAGS: Final = 0x8913
_LOOPBACK: Final = 0x8
#: Bytes of a `struct ifreq`, and of the name in it.
_SIZE: Final = 40
_NAME: Final = 16


def machine_digits() -> str:
    """The first IPv4 address of an interface that is not the loopback one, as eight hexadecimal digits; empty without."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _, name in socket.if_nameindex():
            asked = name.encode()[: _NAME - 1].ljust(_SIZE, b"\0")
            try:
                [flags] = struct.unpack_from("H", fcntl.ioctl(sock, _GET_FLAGS, asked), _NAME)
                if not flags & _LOOPBACK:
                    return fcntl.ioctl(sock, _GET_ADDRESS, asked)[_NAME + 4 : _NAME + 8].hex()
            except OSError:
                pass  # no IPv4 address, or gone meanwhile
    return ""
