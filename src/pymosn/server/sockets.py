"""Listening sockets, all bound before anything starts: one with SO_REUSEPORT for each TCP listener and worker.

A unix socket cannot be bound twice, so all workers share one.
"""

import errno
import os
import socket
import stat
from collections.abc import Iterable
from typing import Final

#: Maximum connections waiting to be accepted; the kernel limits it to net.core.somaxconn.
BACKLOG: Final = 4096
#: linux/in6.h
IPV6_TRANSPARENT: Final = 75


class BindError(Exception):
    """A socket cannot be bound; the text names its owner, its address and the reason."""


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of `ip:port`, `[ip6]:port`, `name:port` or `:port` (host "": all addresses). ValueError otherwise."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"IPv6 addresses must be in brackets: [{host}]:{port}")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f"{text!r} is not an address like 127.0.0.1:2045")
    return host, int(port)


def listen(
    owner: str, host: str, port: int, count: int, is_ours: bool = False, transparent: bool = False
) -> list[socket.socket]:
    """Returns `count` listening TCP sockets that share one address; for port 0, one free port is chosen for all.

    `is_ours`: this process already listens there, and the new sockets are added. `transparent`: they also accept
    connections to foreign addresses that the kernel redirects (TPROXY), which requires CAP_NET_ADMIN. `owner` is named in
    errors ("listener clientListener"). BindError if the address is in use or not local; then none is left open.
    """
    sockets: list[socket.socket] = []
    try:
        family, address = _resolve(host, port)
        # SO_REUSEPORT lets another process of the same user share the port unnoticed; a probe without it detects that.
        if not is_ours:
            with _new_socket(family) as probe:
                probe.bind(address)
                address = (address[0], probe.getsockname()[1])
        for _ in range(count):
            sock = _new_socket(family)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if transparent:
                _make_transparent(sock)
            sock.bind(address)
            sock.listen(BACKLOG)
            sock.setblocking(False)
    except OSError as error:
        close_all(sockets)
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        raise BindError(f"{owner}: cannot listen on {where}: {_reason(error)}") from error
    return sockets


def listen_unix(owner: str, path: str) -> socket.socket:
    """Returns a listening unix socket at `path`. A stale socket file is removed first.

    `owner`: as in `listen`. BindError if another process listens on the path, or it is not a socket.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if os.path.lexists(path):
            _remove_stale(path)
        sock.bind(path)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise BindError(f"{owner}: cannot listen on {path}: {_reason(error)}") from error
    return sock


def _remove_stale(path: str) -> None:
    """Removes a socket file on which no process listens; OSError if it is anything else."""
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise OSError(errno.EEXIST, "")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a full backlog also means that a process listens
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass
    raise OSError(errno.EADDRINUSE, "")


def close_all(sockets: Iterable[socket.socket]) -> None:
    """Closes all `sockets`."""
    for sock in sockets:
        sock.close()


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int]]:
    if not host:
        # As in Go, ":port" means IPv4 and IPv6.
        return (socket.AF_INET6, ("::", port)) if socket.has_dualstack_ipv6() else (socket.AF_INET, ("0.0.0.0", port))
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # A name such as localhost may have both; like Go, prefer IPv4.
    family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return family, (str(address[0]), port)


def _new_socket(family: socket.AddressFamily) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    return sock


def _make_transparent(sock: socket.socket) -> None:
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
    else:
        sock.setsockopt(socket.SOL_IP, socket.IP_TRANSPARENT, 1)


def _reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return f"the name does not resolve ({error.strerror})"
    if error.errno == errno.EADDRINUSE:
        return "the address is in use by another process"
    if error.errno == errno.EEXIST:
        return "a file exists that is not a socket"
    if error.errno == errno.EADDRNOTAVAIL:
        return "the address does not belong to this machine"
    return os.strerror(error.errno) if error.errno else str(error)
