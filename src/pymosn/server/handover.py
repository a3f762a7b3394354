"""A worker's end of the guardian's queue: serves connections that were accepted for another worker."""

import asyncio
import errno
import mmap
import os
import socket
from array import array
from collections.abc import Callable
from typing import Final

from pymosn.assembly.worker import WorkerRuntime
from pymosn.core.counters import Counter
from pymosn.network.admission import Acceptor
from pymosn.network.listener import Listener
from pymosn.network.progress import ACCEPTING, BEATS, PAUSED, Progress

#: Connections taken per turn of the event loop; the others are left to other workers.
BATCH: Final = 4
#: Seconds between two beats of the event loop.
BEAT_PERIOD: Final = 0.2
_NAME_SIZE: Final = 64 * 1024
_ANCILLARY_SIZE: Final = socket.CMSG_LEN(array("i").itemsize)


class HandoverReceiver(Acceptor):
    """Takes connections from the queue while its worker accepts, which it shows the guardian."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        queue: socket.socket,
        progress: Progress,
        find: Callable[[str], Listener | None],
        taken: Counter,
        lost: Counter,
        on_shortage: Callable[[int], object],
    ) -> None:
        """`find`: the listener of that name, None if it is gone. `taken`, `lost`: connections served, and not served.

        `on_shortage` is called with EMFILE when the kernel had no descriptor for a connection.
        """
        super().__init__()
        self._loop = loop
        self._queue = queue
        self._progress = progress
        self._find = find
        self._taken = taken
        self._lost = lost
        self._on_shortage = on_shortage

    def set_accepting(self, accepting: bool) -> None:
        self._progress.set_state(ACCEPTING if accepting else PAUSED)
        if accepting:
            self._loop.add_reader(self._queue.fileno(), self._receive)
        else:
            self._loop.remove_reader(self._queue.fileno())

    def beat(self) -> None:
        """Shows from now on that the event loop turns."""
        self._loop.call_later(BEAT_PERIOD, self.beat)
        self._progress.count(BEATS)

    def _receive(self) -> None:
        for _ in range(BATCH):
            try:
                name, ancillary, _, _ = self._queue.recvmsg(_NAME_SIZE, _ANCILLARY_SIZE, socket.MSG_CMSG_CLOEXEC)
            except OSError:
                return  # empty, or another worker was faster
            if not name:
                self._loop.remove_reader(self._queue.fileno())
                return
            descriptors = array("i")
            for _level, _kind, content in ancillary:
                descriptors.frombytes(content)
            if not descriptors:
                self._lost.value += 1  # the kernel closed it
                self._on_shortage(errno.EMFILE)
                return
            for descriptor in descriptors:
                self._serve(name.decode(), descriptor)

    def _serve(self, name: str, descriptor: int) -> None:
        listener = self._find(name)
        if listener is None:
            self._lost.value += 1
            os.close(descriptor)
            return
        self._taken.value += 1
        listener.adopt(socket.socket(fileno=descriptor))


def join_siblings(loop: asyncio.AbstractEventLoop, runtime: WorkerRuntime, shared: list[int]) -> HandoverReceiver | None:
    """Shows the guardian what this worker does, and begins to take connections over. `shared`: see `messages.Guard`."""
    if not shared:
        return None
    page, queue = shared
    cells = memoryview(mmap.mmap(page, 0)).cast("Q")
    os.close(page)
    runtime.admission.progress.attach(cells, runtime.share.index)
    group = runtime.metrics.group("worker", ("worker", "all"))
    taken, lost = group.counter("connections_taken_over"), group.counter("connections_lost")

    def find(name: str) -> Listener | None:
        listeners = [*runtime.listeners, *runtime.retired.listeners]
        return next((listener for listener in listeners if listener.name == name), None)

    admission = runtime.admission
    receiver = HandoverReceiver(
        loop, socket.socket(fileno=queue), admission.progress, find, taken, lost, admission.on_shortage
    )
    receiver.beat()
    receiver.set_accepting(admission.is_accepting)
    admission.add(receiver)
    return receiver
