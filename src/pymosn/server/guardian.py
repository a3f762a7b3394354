"""Accepts connections that wait for a worker which gives no sign of life, and hands them to the other workers.

Each worker has its own sockets of a TCP listener, and the kernel gives every socket its share of new connections, whatever
its worker does. When a worker is hung, stopped, dead or being replaced, these connections would wait. The supervisor holds a
copy of each socket; a thread of it, the guardian, watches them and accepts what no worker does.

*Sign of life*: the worker counts the connections that it accepts on a listener (`network/progress.py`). A socket that is
readable for PATIENCE while that counter does not move is not served; the guardian accepts then, and again whenever
connections have waited so long. If not even the beats move, or the worker is known to be gone, or pauses because it lacks
descriptors or memory, it does not wait again. Nothing has to be handed back: a worker that continues accepts what it finds.
If no worker accepts, connections stay in the kernel's queue.

*Hand-over*: an accepted socket is put into a queue, a SEQPACKET socket pair whose receiving end is shared by all workers.
Whichever is alive takes it, so it does not matter whether the guardian knows that. The queue outlives each worker.

*Deaf workers*: one whose loop turns but that accepted none of several connections in `limit` seconds is reported.

The thread sleeps while no connection waits, and wakes at most each PERIOD otherwise. All methods may be called from others.
"""

import contextlib
import errno
import mmap
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from pymosn.config.schema import MosnConfig
from pymosn.control.service import Service
from pymosn.core.log import WARN, Log
from pymosn.network.listener import listens
from pymosn.network.progress import ACCEPTING, AWAY, BEATS, CELLS, PAUSED, STATE, cell_of
from pymosn.server.socket_groups import SocketGroup

#: Seconds between two checks of sockets with waiting connections; of a single worker, which can only be reported.
PERIOD: Final = 0.012
LONE_PERIOD: Final = 0.5
#: Seconds for which a connection may wait for its own worker.
PATIENCE: Final = 0.04
#: Connections accepted from one socket per check, so that none keeps the guardian from the others.
BATCH: Final = 64
#: Connections in succession that a worker must have missed, while its loop turned, to be called deaf.
DEAF_AFTER: Final = 5
#: Seconds between two checks whether a socket listens.
LISTEN_PERIOD: Final = 0.1
#: Errors of sending into a full queue (unix(7): too many descriptors in flight).
_FULL: Final = frozenset((errno.EAGAIN, errno.ENOBUFS, errno.ETOOMANYREFS, errno.EINTR))


class _Watched:
    """One listening socket."""

    def __init__(self, name: str, worker: int, sock: socket.socket) -> None:
        self.name = name
        self.worker = worker
        self.sock = sock
        self.state = worker * CELLS + STATE
        self.beats = worker * CELLS + BEATS
        self.accepted = worker * CELLS + cell_of(name)
        self.last_accepted = -1
        #: Since when a connection waits without progress, and the beats then; 0: none does.
        self.since = 0.0
        self.since_beats = 0
        #: The beats at which the worker was found lifeless; -1: it was not.
        self.lifeless = -1
        #: The connections missed since the last one that the worker accepted, and the time of the first.
        self.missed = 0
        self.missed_since = 0.0


class Guardian(Service):
    """Watches the sockets of `workers` workers."""

    name = "guardian"

    def __init__(
        self,
        workers: int,
        on_deaf: Callable[[int, str], object],
        log: Log,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_deaf` is called in the guardian's thread with the id of a deaf worker and the listener's name."""
        self.workers = workers
        # Seconds after which a worker that accepts nothing is deaf; 0: never.
        self._limit = 0.0
        #: Connections that were accepted but could not be handed over.
        self.lost = 0
        self._log = log
        self._on_deaf = on_deaf
        self._clock = clock
        self._page = os.memfd_create("pymosn-progress", os.MFD_CLOEXEC)
        os.ftruncate(self._page, workers * CELLS * 8)
        self._cells = memoryview(mmap.mmap(self._page, workers * CELLS * 8)).cast("Q")
        self._queue, self._taken = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._queue.setblocking(False)
        self._taken.setblocking(False)
        self._epoll = select.epoll()
        self._stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._stop, select.EPOLLIN)
        self._lock = threading.Lock()
        self._watched: dict[int, _Watched] = {}
        # Sockets that do not listen yet; epoll would report them all the time.
        self._silent: list[_Watched] = []
        # Those with a connection that waits for its own worker.
        self._waiting: set[_Watched] = set()
        # Accepted connections for which the queue had no room.
        self._pending: list[tuple[str, socket.socket]] = []
        self._pause = select.poll()
        self._pause.register(self._stop, select.POLLIN)
        self._thread = threading.Thread(target=self._run, name="guardian", daemon=True)
        self._is_stopping = False

    def descriptors(self) -> list[int]:
        """The page and the receiving end of the queue, for a worker."""
        return [self._page, self._taken.fileno()]

    async def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def follow(self, config: MosnConfig) -> None:
        self._limit = config.servers[0].worker_hang_limit

    async def stop(self) -> None:
        """Ends the thread, and closes what was not handed over. Workers still take what is in the queue."""
        if self._is_stopping:
            return
        self.watch({})
        self._is_stopping = True
        os.eventfd_write(self._stop, 1)
        if self._thread.is_alive():
            self._thread.join()
        self.deliver()
        self.lost += len(self._pending)
        for _, accepted in self._pending:
            accepted.close()
        if self.lost:
            self._log.write(WARN, f"{self.lost} connections could not be handed to another worker and were closed")
        self._epoll.close()
        for sock in (self._queue, self._taken):
            sock.close()
        os.close(self._stop)
        os.close(self._page)

    def on_gone(self, worker_id: int) -> None:
        """The process of a worker has ended, or its replacement begins."""
        self._cells[(worker_id - 1) * CELLS + STATE] = AWAY

    def watch(self, groups: Mapping[str, SocketGroup]) -> None:
        """Watches exactly these from now on, by listener. The others may be closed afterwards.

        A socket that several workers share is served by the living ones anyway. Datagrams wait for their worker, which may
        have a session for them.
        """
        wanted = {
            sock.fileno(): _Watched(name, owner - 1, sock)
            for name, group in groups.items()
            for index, sock in enumerate(group.sockets)
            if (owner := group.owner_of(index, self.workers)) and sock.type == socket.SOCK_STREAM
        }
        if self._is_stopping:
            return
        with self._lock:
            silent = {entry.sock.fileno(): entry for entry in self._silent}
            for number, entry in list(self._watched.items()):
                if number not in wanted or wanted[number].sock is not entry.sock:
                    del self._watched[number]
                    with contextlib.suppress(OSError):
                        self._epoll.unregister(number)
            known = {id(entry.sock) for entry in (*self._watched.values(), *silent.values())}
            kept = {id(entry.sock) for entry in wanted.values()}
            self._silent = [entry for entry in self._silent if id(entry.sock) in kept]
            self._silent += [entry for entry in wanted.values() if id(entry.sock) not in known]
            self._waiting.clear()
        os.eventfd_write(self._stop, 1)  # wakes the thread

    # ---- the thread

    def _run(self) -> None:
        period = LONE_PERIOD if self.workers == 1 else PERIOD
        while not self._is_stopping:
            waiting = bool(self._pending or self._silent)
            events = self._epoll.poll(LISTEN_PERIOD if waiting else None)
            with self._lock:
                is_busy = self.look([number for number, _ in events])
            if is_busy and not self._is_stopping:
                self._pause.poll(period * 1000.0)

    def look(self, readable: Iterable[int]) -> bool:
        """Checks once the sockets that are `readable`; returns whether any of them has a waiting connection."""
        with contextlib.suppress(OSError):
            os.eventfd_read(self._stop)
        self._watch_silent()
        self.deliver()
        now = self._clock()
        ready = [self._watched[number] for number in readable if number in self._watched]
        for entry in self._waiting.difference(ready):
            entry.since = 0.0
        busy = [entry for entry in ready if self._check(entry, now)]
        self._waiting = {entry for entry in busy if entry.since}
        return bool(busy)

    def _watch_silent(self) -> None:
        still = []
        for entry in self._silent:
            if listens(entry.sock):
                self._watched[entry.sock.fileno()] = entry
                self._epoll.register(entry.sock.fileno(), select.EPOLLIN)
            else:
                still.append(entry)
        self._silent = still

    def _check(self, entry: _Watched, now: float) -> bool:
        if not listens(entry.sock):
            number = entry.sock.fileno()
            self._epoll.unregister(number)
            del self._watched[number]
            self._silent.append(entry)
            return False
        state, beats, accepted = (self._cells[cell] for cell in (entry.state, entry.beats, entry.accepted))
        if accepted != entry.last_accepted:
            entry.last_accepted = accepted
            entry.since = 0.0
            entry.lifeless = -1
            entry.missed = 0
        if not entry.since:
            entry.since, entry.since_beats = now, beats
        if state == PAUSED:
            entry.missed = 0  # it is not deaf
        is_lifeless = state != ACCEPTING or entry.lifeless == beats
        if is_lifeless or now - entry.since >= PATIENCE:
            self._rescue(entry, now, beats)
        return True

    def _rescue(self, entry: _Watched, now: float, beats: int) -> None:
        """Accepts what waits at the socket, if another worker can have it; notes that its own did not."""
        if entry.since_beats != beats and self._cells[entry.state] == ACCEPTING:
            # Its loop has turned meanwhile. A busy machine may explain one such connection, but not many in succession.
            if entry.missed == 0:
                entry.missed_since = entry.since
            entry.missed += 1
            entry.since_beats = beats
        if entry.missed >= DEAF_AFTER and now - entry.missed_since >= self._limit > 0.0:
            entry.missed = 0
            self._on_deaf(entry.worker + 1, entry.name)
        others = [self._cells[worker * CELLS + STATE] for worker in range(self.workers) if worker != entry.worker]
        if ACCEPTING in others and not self._pending:
            entry.lifeless = beats
            entry.since = 0.0
            self._accept(entry)

    def _accept(self, entry: _Watched) -> None:
        for _ in range(BATCH):
            try:
                accepted, _ = entry.sock.accept()
            except OSError:
                break  # nothing waits any more, or there are no descriptors: it stays in the kernel's queue
            self._pending.append((entry.name, accepted))
            self.deliver()
            if self._pending:
                break

    def deliver(self) -> None:
        """Puts accepted connections into the queue, as far as it has room."""
        while self._pending:
            name, accepted = self._pending[0]
            try:
                socket.send_fds(self._queue, [name.encode()], [accepted.fileno()])
            except OSError as error:
                if error.errno in _FULL:
                    return
                self.lost += 1
            self._pending.pop(0)
            accepted.close()
