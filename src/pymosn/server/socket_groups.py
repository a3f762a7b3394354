"""The sockets that share the address of one listener, and which worker serves which of them."""

from __future__ import annotations

import socket
from typing import NamedTuple

from pymosn.server.sockets import close_all


class Binding(NamedTuple):
    """The address and kind of a listening socket, which cannot be changed later. `address`: the path of a unix socket."""

    network: str
    address: str
    is_transparent: bool


class SocketGroup:
    """The sockets of one listener in this process; the workers have copies.

    The kernel binds a handshake to the socket of the group that its SYN has reached, and resets it when this socket is
    closed, even if others of the group listen. So the number of sockets is independent of the number of workers: with
    fewer workers, some serve several sockets. `is_shared`: all workers serve all of the sockets, such as a unix socket.
    `is_kept`: another process keeps them open, for example systemd, and will serve what waits there. `is_waiting`: another
    process sends the sessions of these UDP sockets.
    """

    def __init__(
        self,
        sockets: list[socket.socket],
        *,
        is_shared: bool = False,
        is_kept: bool = False,
        is_waiting: bool = False,
    ) -> None:
        self.sockets = sockets
        self.is_shared = is_shared
        self.is_kept = is_kept
        self.is_waiting = is_waiting

    def of_worker(self, worker_id: int, workers: int) -> list[socket.socket]:
        """The sockets that a worker serves, by its id from 1. None if there are more workers than UDP sockets."""
        return self.sockets if self.is_shared else self.sockets[worker_id - 1 :: workers]

    def owner_of(self, index: int, workers: int) -> int:
        """The id of the worker that serves the socket with that index; 0 if several do."""
        return 0 if self.is_shared and workers > 1 else index % workers + 1

    def copy(self) -> SocketGroup:
        """Further descriptors of the same sockets."""
        copies = [sock.dup() for sock in self.sockets]
        return SocketGroup(copies, is_shared=self.is_shared, is_kept=self.is_kept, is_waiting=self.is_waiting)

    def close(self) -> None:
        """Closes these descriptors; copies stay open."""
        close_all(self.sockets)


class GivenSockets:
    """Bound sockets that this process has from another program. This one has none."""

    def take(self, binding: Binding) -> SocketGroup | None:
        """Copies of the sockets with this address, which the caller closes; None if there are none."""
        return None
