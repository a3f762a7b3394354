"""Sockets that a service manager has bound and passes to this process: LISTEN_FDS of sd_listen_fds(3).

One socket is all there is for an address, so all workers share it. The service manager keeps a copy: its file is not removed
at the end, and clients that connect meanwhile wait for the next start.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, MutableMapping
from typing import Final

from pymosn.api.network import join_address
from pymosn.core.addresses import split_address
from pymosn.core.log import WARN, Log
from pymosn.network.listener import listens
from pymosn.server.sockets import resolve

#: The first descriptor (sd-daemon.h).
FIRST: Final = 3
#: The variables, which are removed, because they are not meant for children.
VARIABLES: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


class ActivatedSockets:
    """The sockets, until each is taken by its owner."""

    def __init__(self, sockets: Iterable[socket.socket] = (), workers: int = 1) -> None:
        self._sockets = {(sock, *_name(sock)) for sock in sockets}
        self._workers = workers

    def take(self, network: str, address: str, is_transparent: bool = False) -> socket.socket | None:
        """The socket for an address of a configuration; None if there is none."""
        if is_transparent:
            return None  # an option that must be set before the socket is bound
        wanted = (network, _actual(network, address)) if self._sockets else ("", "")
        for found in self._sockets:
            if found[1:] == wanted and not self._splits_clients(network):
                self._sockets.remove(found)
                return found[0]
        return None

    def _splits_clients(self, network: str) -> bool:
        """Whether datagrams of one client would reach different workers, each of which has sessions of its own."""
        return network == "udp" and self._workers > 1

    def close_spare(self, log: Log) -> None:
        """Closes the sockets that no one has taken, with a warning."""
        for sock, network, address in sorted(self._sockets, key=lambda found: found[1:]):
            reason = "no listener has exactly this address, nor has the admin API"
            if self._splits_clients(network):
                reason = "only one worker can use a UDP socket"
            log.write(WARN, f"the socket {network}:{address} of the service manager is not used: {reason}")
            sock.close()
        self._sockets = set()


def activated(environment: MutableMapping[str, str], workers: int, log: Log) -> ActivatedSockets:
    """The sockets that were passed to this process. The variables are removed."""
    pid, count, _ = (environment.pop(name, "") for name in VARIABLES)
    sockets = []
    if pid == str(os.getpid()) and count.isdecimal():
        for descriptor in range(FIRST, FIRST + int(count)):
            try:
                sock = socket.socket(fileno=descriptor)
            except OSError as error:
                log.write(WARN, f"LISTEN_FDS: descriptor {descriptor} is not a socket: {error.strerror}")
                continue
            sock.set_inheritable(False)
            sock.setblocking(False)
            sockets.append(sock)
    return ActivatedSockets(sockets, workers)


def _name(sock: socket.socket) -> tuple[str, str]:
    """Network and address of a socket, as `_actual` returns it."""
    name = sock.getsockname()
    is_stream = sock.type == socket.SOCK_STREAM and listens(sock)
    if sock.family == socket.AF_UNIX and is_stream and isinstance(name, str) and name:
        return "unix", os.path.realpath(name)
    if sock.family in (socket.AF_INET, socket.AF_INET6) and (is_stream or sock.type == socket.SOCK_DGRAM):
        return "tcp" if is_stream else "udp", join_address(*name[:2])
    return f"{sock.family.name}/{sock.type.name}", str(name)


def _actual(network: str, address: str) -> str:
    """An address of a configuration as the system shows it; empty if it has none."""
    if network == "unix":
        return os.path.realpath(address)
    try:
        return join_address(*resolve(*split_address(address))[1])
    except (OSError, ValueError):
        return ""  # an error when it is bound
