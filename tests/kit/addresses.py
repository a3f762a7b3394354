"""Addresses of this machine."""

import socket


def outer_address() -> str:
    """An address of this machine other than loopback; empty without one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        return str(probe.getsockname()[0])
