"""Sockets for listeners: one with SO_REUSEPORT per TCP or UDP listener and worker, one in all per unix listener.

Those for connections are bound but do not listen yet. Whoever serves a socket calls `listen` once it can answer; until then
clients are refused, and a readiness probe tells the truth.
"""

import errno
import os
import socket
import stat
from collections.abc import Iterable
from typing import Final, NamedTuple

from pymosn.api.network import join_address
from pymosn.network.listener import prepare_to_listen

#: The option that makes a socket transparent: level and name. 75: IPV6_TRANSPARENT of linux/in6.h.
TRANSPARENT: Final = {socket.AF_INET: (socket.SOL_IP, socket.IP_TRANSPARENT), socket.AF_INET6: (socket.IPPROTO_IPV6, 75)}

#: Bytes that may wait in a UDP socket while its worker is busy or replaced; the kernel limits it to net.core.rmem_max.
UDP_BUFFER: Final = 1 << 20

_RESTART: Final = "a process that has given up root (key `user`) must be restarted for it"
_REASONS: Final = {
    errno.EADDRINUSE: "the address is in use by another process",
    errno.EEXIST: "a file exists that is not a socket",
    errno.EADDRNOTAVAIL: "the address does not belong to this machine",
    errno.EACCES: f"permission denied: a port below 1024 needs root, or CAP_NET_BIND_SERVICE; {_RESTART}",
    errno.EPERM: f"not permitted: IP_TRANSPARENT needs CAP_NET_ADMIN; {_RESTART}",
}
_FILE_REASONS: Final = {
    **_REASONS,
    errno.EACCES: "the user of this process may not make a file there",
    errno.EPERM: f"not permitted: only root can make another user the owner; {_RESTART}",
}


class FileAccess(NamedTuple):
    """Who may use a unix socket. `mode`: None as the umask gives; `uid`, `gid`: -1 those of the process."""

    mode: int | None = None
    uid: int = -1
    gid: int = -1

    def apply(self, path: str) -> None:
        """Gives a socket file its owner and mode; OSError if this process may not."""
        found = os.lstat(path)
        if not stat.S_ISSOCK(found.st_mode):
            raise OSError(errno.EEXIST, "")
        if self.uid not in (-1, found.st_uid) or self.gid not in (-1, found.st_gid):
            os.chown(path, self.uid, self.gid, follow_symlinks=False)
        if self.mode is not None and stat.S_IMODE(found.st_mode) != self.mode:
            os.chmod(path, self.mode)


class BindError(Exception):
    """A socket cannot be bound; the text names its owner, its address and the reason."""


def bind_tcp(
    owner: str, host: str, port: int, count: int, is_ours: bool = False, transparent: bool = False
) -> list[socket.socket]:
    """Returns `count` bound TCP sockets that share one address; for port 0, one free port is chosen for all.

    `is_ours`: this process already listens there, and the new sockets are added. `transparent`: they also accept
    connections to foreign addresses that the kernel redirects (TPROXY), which requires CAP_NET_ADMIN. `owner` is named in
    errors ("listener clientListener"). BindError if the address is in use or not local; then none is left open.
    """
    sockets: list[socket.socket] = []
    try:
        family, address = resolve(host, port)
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
                sock.setsockopt(*TRANSPARENT[family], 1)
            _bind(sock, address)
            sock.setblocking(False)
    except OSError as error:
        close_all(sockets)
        raise BindError(f"{owner}: cannot listen on {join_address(host, port)}: {_reason(error)}") from error
    return sockets


def bind_udp(owner: str, host: str, port: int, count: int) -> list[socket.socket]:
    """Returns `count` UDP sockets that share one address; for port 0, one free port is chosen for all.

    `owner` and BindError: as for `bind_tcp`. Datagrams that arrive wait in the sockets until they are read.
    """
    sockets: list[socket.socket] = []
    try:
        family, address = resolve(host, port)
        # Without SO_REUSEPORT, to detect another process that has the address.
        with _new_udp_socket(family) as probe:
            probe.bind(address)
            address = (address[0], probe.getsockname()[1])
        for _ in range(count):
            sock = _new_udp_socket(family)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UDP_BUFFER)
            sock.bind(address)
            sock.setblocking(False)
    except OSError as error:
        close_all(sockets)
        raise BindError(f"{owner}: cannot listen on {join_address(host, port)} (udp): {_reason(error)}") from error
    return sockets


def _new_udp_socket(family: socket.AddressFamily) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    return sock


def _bind(sock: socket.socket, address: tuple[str, int]) -> None:
    """Binds a socket so that another process cannot bind the address before it listens.

    Linux lets sockets with SO_REUSEADDR share an address until one of them listens. `prepare_to_listen` sets the option.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    try:
        sock.bind(address)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        # Connections of a process that ended may be in TIME_WAIT.
        prepare_to_listen(sock)
        sock.bind(address)


def bind_unix(owner: str, path: str, access: FileAccess | None = None) -> socket.socket:
    """Returns a unix socket bound to `path`, with `access`. A stale socket file is removed first.

    `owner`: as in `bind_tcp`. BindError if another process has bound the path, or it is not a socket.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if os.path.lexists(path):
            _remove_stale(path)
        sock.bind(path)
        _give_access(path, access or FileAccess())  # before it listens
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise BindError(f"{owner}: cannot listen on {path}: {file_reason(error)}") from error
    return sock


def _remove_stale(path: str) -> None:
    """Removes a socket file that no process has bound; OSError if it is anything else."""
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise OSError(errno.EEXIST, "")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a full backlog also means that a process listens
        result = probe.connect_ex(path)
    if result != errno.ECONNREFUSED:
        raise OSError(errno.EADDRINUSE if result in (0, errno.EAGAIN) else result, "")
    if is_bound(path):
        raise OSError(errno.EADDRINUSE, "")  # by a process that is starting
    os.unlink(path)


def is_bound(path: str) -> bool:
    """Whether a living socket is bound to `path`, listening or not (proc(5), /proc/net/unix)."""
    try:
        with open("/proc/net/unix", encoding="utf-8", errors="surrogateescape") as lines:
            return any(line.rstrip("\n").split(maxsplit=7)[7:] == [path] for line in lines)
    except OSError:
        return False


def close_all(sockets: Iterable[socket.socket]) -> None:
    """Closes all `sockets`."""
    for sock in sockets:
        sock.close()


def resolve(host: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int]]:
    """Family and IP address of a socket for `host`; an empty one means all addresses. OSError if it has no address."""
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


def _give_access(path: str, access: FileAccess) -> None:
    try:
        access.apply(path)
    except OSError:
        os.unlink(path)
        raise


def file_reason(error: OSError) -> str:
    """Why a unix socket cannot be bound, or not have the owner that it should."""
    return _FILE_REASONS.get(error.errno or 0) or error.strerror or str(error)


def _reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return f"the name does not resolve ({error.strerror})"
    return _REASONS.get(error.errno) or os.strerror(error.errno) if error.errno else str(error)
