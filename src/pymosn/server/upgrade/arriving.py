"""A worker of the successor receives connections that one of the predecessor has served so far."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from array import array
from collections.abc import Callable
from typing import Final

import msgspec

from pymosn.assembly.worker import WorkerRuntime
from pymosn.config.schema import Listener as ListenerConfig
from pymosn.core.counters import Counter
from pymosn.core.errors import describe
from pymosn.core.log import WARN
from pymosn.network.admission import Acceptor
from pymosn.network.listener import Listener
from pymosn.server.upgrade.messages import MOVED, Moved, MovedConnection
from pymosn.server.upgrade.moving import key_of, passage_of

#: Messages read per turn of the event loop, so that it serves the connections in between.
BATCH: Final = 16
#: Bytes of a message, at most: those that were read (`api.network.MAX_CARRIED`), and the facts.
_SIZE: Final = 128 * 1024
_ANCILLARY_SIZE: Final = socket.CMSG_LEN(array("i").itemsize)


class ReceivingQueue(Acceptor):
    """Takes connections over while its worker accepts."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        queue: socket.socket,
        find: Callable[[str, str], Listener | None],
        taken: Counter,
        lost: Counter,
        on_shortage: Callable[[int], object],
        on_invalid: Callable[[str], object],
        on_other: Callable[[Moved, list[int]], object] | None = None,
        on_end: Callable[[], object] | None = None,
    ) -> None:
        """`find`: the listener of that name and key, None if there is none. `taken`, `lost`: connections served, and not.

        `on_shortage` is called with EMFILE when the kernel had no descriptor for a connection, `on_invalid` with what is
        wrong with a message, and `on_other` with messages that are not about connections and their descriptors. `on_end` is
        called when all of the predecessor's workers are gone.
        """
        super().__init__()
        self._loop = loop
        self._queue: socket.socket | None = queue
        self._find = find
        self._taken = taken
        self._lost = lost
        self._on_shortage = on_shortage
        self._on_invalid = on_invalid
        self._on_other = on_other
        self._on_end = on_end

    def set_accepting(self, accepting: bool) -> None:
        if self._queue is None:
            return
        if accepting:
            self._loop.add_reader(self._queue.fileno(), self._receive)
        else:
            self._loop.remove_reader(self._queue.fileno())

    def _receive(self) -> None:
        for _ in range(BATCH):
            queue = self._queue
            if queue is None:
                return
            try:
                content, ancillary, _, _ = queue.recvmsg(
                    _SIZE, _ANCILLARY_SIZE, socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT
                )
            except OSError:
                return  # empty
            if not content:
                self.close()  # all of the predecessor's workers are gone
                if self._on_end is not None:
                    self._on_end()
                return
            descriptors = array("i")
            for _level, _kind, part in ancillary:
                descriptors.frombytes(part)
            self._deliver(content, list(descriptors))

    def _deliver(self, content: bytes, descriptors: list[int]) -> None:
        try:
            message = MOVED.decode(content)
        except msgspec.MsgspecError as error:
            self._on_invalid(describe(error))
            self._lose(descriptors)
            return
        if isinstance(message, MovedConnection):
            self._serve(message, descriptors)
        elif self._on_other is not None:
            self._on_other(message, descriptors)
        else:
            self._lose(descriptors)

    def _serve(self, message: MovedConnection, descriptors: list[int]) -> None:
        if not descriptors:
            self._lost.value += 1  # the kernel closed it
            self._on_shortage(errno.EMFILE)
            return
        listener = self._find(message.listener, message.key)
        if listener is None:
            self._on_invalid(f"listener {message.listener!r} does not exist any more, or has changed")
            self._lose(descriptors)
            return
        self._taken.value += 1
        listener.take_over(socket.socket(fileno=descriptors[0]), passage_of(message))

    def _lose(self, descriptors: list[int]) -> None:
        self._lost.value += 1
        for descriptor in descriptors:
            os.close(descriptor)

    def close(self) -> None:
        """Receives no more."""
        if self._queue is not None:
            self._loop.remove_reader(self._queue.fileno())
            self._queue.close()
            self._queue = None


def receive_connections(
    loop: asyncio.AbstractEventLoop,
    runtime: WorkerRuntime,
    descriptors: list[int],
    on_other: Callable[[Moved, list[int]], object] | None = None,
    on_end: Callable[[], object] | None = None,
) -> ReceivingQueue | None:
    """Begins to take over the connections of the predecessor; `descriptors`: of the queue (`Receive`), empty for none."""
    if not descriptors:
        return None
    group = runtime.metrics.group("worker", ("worker", "all"))

    # The listener's configuration at the last arrival, and its key. It may change while connections still arrive.
    known: dict[str, tuple[ListenerConfig, str]] = {}

    def find(name: str, key: str) -> Listener | None:
        built = next((built for built in runtime.active.listeners if built.name == name), None)
        if built is None:
            return None
        if name not in known or known[name][0] is not built.config:
            known[name] = (built.config, key_of(built.config))
        return built.listener if known[name][1] == key else None

    def on_invalid(text: str) -> None:
        runtime.log.write(WARN, f"upgrade: a connection of the old generation is lost: {text}")

    admission = runtime.admission
    queue = ReceivingQueue(
        loop,
        socket.socket(fileno=descriptors[0]),
        find,
        group.counter("connections_moved_in"),
        group.counter("connections_moved_lost"),
        admission.on_shortage,
        on_invalid,
        on_other,
        on_end,
    )
    queue.set_accepting(admission.is_accepting)
    admission.add(queue)
    return queue
