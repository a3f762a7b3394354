"""A worker leaves its sockets and connections to another generation: `Depart`.

It walks all connections, again and again until none is left. Each is notified once: those that can (`Listener.passage_of`)
are moved as soon as nothing is in flight, the others are drained by their kind (`NetworkFilter.on_depart`).

    moving      idle -> moved; busy: HTTP/1 offers itself after its response, RPC is held, at most for HOLD_TIME at first,
                until its calls have ended; in the second half of the time for good
    draining    `connection: close`, GOAWAY, or nothing (tunnels, tcp_proxy); silent ones are closed at the end

Held connections are not read, so their clients wait: when they cannot be moved in time, because a call takes longer or the
queues are full, they are read again for twice that time.
"""

from __future__ import annotations

import asyncio
from collections import Counter as Tally
from collections.abc import Generator, Sequence
from functools import partial
from typing import Any, Final

from pymosn.api.network import MAX_CARRIED, NetworkFilter, Passage
from pymosn.assembly.steps import run_in_slices
from pymosn.assembly.worker import WorkerRuntime
from pymosn.core.failure import INTERNAL_ERROR
from pymosn.core.foreign import report
from pymosn.network.connection import TcpConnection
from pymosn.network.listener import Listener
from pymosn.network.udp import DatagramListener
from pymosn.server import messages
from pymosn.server.channel import Channel
from pymosn.server.listener_end import stop_listening
from pymosn.server.upgrade.moving import SendingQueues, key_of, message_of
from pymosn.server.upgrade.sessions import SessionSender

#: Seconds between two walks over the connections, for which one of them may last, and between two reports.
PERIOD: Final = 0.05
SLICE: Final = 0.003
#: How many times as long as a walk the pause after it is at least: there may be thousands that cannot move.
WALK_SHARE: Final = 4
LONGEST_PAUSE: Final = 0.5
REPORT_PERIOD: Final = 1.0
#: Seconds before the next attempt to move a connection that has offered itself.
RETRY_TIME: Final = 0.002
#: Bytes of a message for which a queue may have no room although it has room for others.
LONG: Final = 4096
#: Seconds for which a connection is held whose message does not fit into a queue.
FULL_TIME: Final = 0.02
#: Seconds for which a connection is held at first, and how often that is doubled.
HOLD_TIME: Final = 0.25
DOUBLINGS: Final = 2
#: Seconds before the end at which what is left is closed, so that this is sent before the process ends.
CLOSING_TIME: Final = 0.5
#: Seconds for moving the sessions of UDP listeners; shorter than the successor waits for them.
SESSION_TIME: Final = 3.0


class _Leaver:
    """A connection that has been notified, and its filter then."""

    def __init__(self, network_filter: NetworkFilter, moves: bool) -> None:
        self.filter = network_filter
        self.moves = moves
        self.is_held = False
        self.is_drained = False
        #: When it is read again, and after that held again.
        self.until = 0.0
        self.next = 0.0
        self.rounds = 0


class Departure:
    """Stops accepting, moves and drains the connections, and reports what is left."""

    def __init__(self, loop: asyncio.AbstractEventLoop, runtime: WorkerRuntime, channel: Channel[Any]) -> None:
        self._loop = loop
        self._runtime = runtime
        self._channel = channel
        self._queues = SendingQueues([])
        self._leavers: dict[TcpConnection, _Leaver] = {}
        # The keys of the listeners whose connections may move.
        self._movable: dict[Listener, str] = {}
        self._offers: dict[TcpConnection, Listener] = {}
        self._middle = self._end = 0.0
        self._is_finishing = False
        # Whether no queue had room when a connection was last sent.
        self._is_full = False
        self._moved = runtime.metrics.group("worker", ("worker", "all")).counter("connections_moved_out")

    async def run(self, command: messages.Depart, descriptors: list[int]) -> None:
        """Returns when no connection is left; the supervisor ends this process when the time is over."""
        self._queues = SendingQueues(descriptors)
        start = self._loop.time()
        self._middle = start + command.timeout / 2
        self._end = start + max(command.timeout - CLOSING_TIME, command.timeout / 2)
        dropped = self._leave(command)
        closing = self._loop.create_task(stop_listening(dropped))
        sessions = self._loop.create_task(self._move_sessions(dropped))
        reported = 0.0
        is_done = False
        while not is_done:
            begun = self._loop.time()
            await run_in_slices(self._walk(), SLICE)
            now = self._loop.time()
            left = self._left()
            if left and now - reported >= REPORT_PERIOD:
                reported = now
                self._channel.send(messages.Departing(left))
            if now >= self._end:
                self._close_rest()
            # A socket that was accepted just now becomes a connection in the next iteration of the event loop.
            await asyncio.sleep(max(RETRY_TIME if self._is_full else PERIOD, min(WALK_SHARE * (now - begun), LONGEST_PAUSE)))
            is_done = closing.done() and not self._left()
        await closing
        await sessions
        self._queues.close()
        self._channel.send(messages.Departing({}))

    def finish(self) -> None:
        """The other generation shuts down: what is left is drained as at a shutdown, which closes what is idle soon."""
        self._is_finishing = True

    def _leave(self, command: messages.Depart) -> list[Listener]:
        """Stops accepting on the sockets that the successor has. Returns the listeners whose sockets no one else has."""
        dropped: list[Listener] = []
        for built in self._runtime.active.listeners:
            listener = built.listener
            sockets = listener.socket_ids()
            is_dropped = bool(sockets) and sockets.issubset(command.dropped)
            if is_dropped:
                dropped.append(listener)
            if isinstance(listener, DatagramListener):
                if not is_dropped:
                    listener.hold()  # it replies until its sessions have moved
                continue
            if not is_dropped:
                listener.release()
            if command.listeners.get(built.name) == (key := key_of(built.config)):
                self._movable[listener] = key
                listener.departable = partial(self._offer, listener)
        return dropped

    async def _move_sessions(self, dropped: Sequence[Listener]) -> None:
        """Moves the sessions of UDP listeners, and closes the sockets. Those that are left end when they are idle."""
        found = [built.listener for built in self._runtime.active.listeners if built.listener not in dropped]
        listeners = [listener for listener in found if isinstance(listener, DatagramListener)]
        sender = SessionSender(self._queues.ends(), self._runtime.share.index, self._runtime.share.count, self._runtime.log)
        await sender.send_all(listeners, SESSION_TIME)
        for listener in listeners:
            listener.release()

    def _streams(self) -> list[Listener]:
        """All listeners of connections. Those that a change removed drain already."""
        return [listener for listener in self._all() if not isinstance(listener, DatagramListener)]

    def _all(self) -> list[Listener]:
        return [*self._runtime.listeners, *self._runtime.retired.listeners]

    def _walk(self) -> Generator[None, None, None]:
        """Attends to each connection."""
        self._is_full = False
        for listener in self._streams():
            for connection in listener.connections():
                self._runtime.clock.tick()
                try:
                    self._attend(listener, connection)
                except BaseException as error:  # of an installed protocol
                    report("a connection cannot be left to the next generation", error)
                    connection.abort(INTERNAL_ERROR)
                yield
        self._leavers = {connection: leaver for connection, leaver in self._leavers.items() if not connection.is_closed}

    def _attend(self, listener: Listener, connection: TcpConnection) -> None:
        if connection.is_closed:
            return
        leaver = self._leavers.get(connection)
        if self._is_finishing:
            self._drain(connection, leaver)
            return
        moves = listener in self._movable and not self._queues.are_gone and connection.departs()
        present = connection.network_filter()
        if leaver is None or leaver.filter is not present or leaver.moves != moves:
            if leaver is not None and leaver.is_held:
                leaver.filter.hold(False)
            leaver = self._leavers[connection] = _Leaver(present, moves)
            connection.on_depart(moves)
        if moves and not connection.is_closed and not self._try(listener, connection, leaver) and self._queues.are_gone:
            self._attend(listener, connection)

    def _drain(self, connection: TcpConnection, leaver: _Leaver | None) -> None:
        if leaver is not None and leaver.is_drained:
            return
        if leaver is not None and leaver.is_held:
            leaver.filter.hold(False)
        if leaver is None or leaver.moves:
            connection.on_depart(False)
        leaver = self._leavers[connection] = _Leaver(connection.network_filter(), False)
        leaver.is_drained = True
        if not connection.is_closed:
            connection.drain()

    def _try(self, listener: Listener, connection: TcpConnection, leaver: _Leaver) -> bool:
        """Moves a connection, if it can go now; otherwise it is held, or read again."""
        passage = listener.passage_of(connection)
        if passage is not None and len(passage.data) <= MAX_CARRIED and self._send(listener, connection, passage):
            listener.depart(connection)
            self._leavers.pop(connection, None)
            self._moved.value += 1
            return True
        now = self._loop.time()
        if passage is not None:
            leaver.until = min(leaver.until, now + FULL_TIME)
        if leaver.is_held:
            if now >= leaver.until:
                leaver.rounds += 1
                leaver.next = min(now + 2 * self._hold_time(leaver), max(now, self._middle))
                leaver.is_held = leaver.filter.hold(False)
        elif passage is None and now >= leaver.next and leaver.filter.hold(True):
            self._note_held(leaver)
        return False

    def _send(self, listener: Listener, connection: TcpConnection, passage: Passage) -> bool:
        if self._is_full:
            return False
        message = message_of(listener.name, self._movable[listener], passage)
        if self._queues.send(message, int(connection.descriptor())):
            return True
        self._is_full = len(passage.data) < LONG  # a long one may be too long at present
        return False

    def _note_held(self, leaver: _Leaver) -> None:
        now = self._loop.time()
        leaver.is_held = True
        leaver.until = self._end if now >= self._middle else now + self._hold_time(leaver)

    def _hold_time(self, leaver: _Leaver) -> float:
        return HOLD_TIME * (1 << min(leaver.rounds, DOUBLINGS))

    def _offer(self, listener: Listener, connection: TcpConnection) -> None:
        """The connection has nothing in flight, and is not read: its last bytes are on their way to the client."""
        leaver = self._leavers.get(connection)
        if leaver is None:
            return
        self._note_held(leaver)
        if not self._offers:
            self._loop.call_soon(self._serve_offers)
        self._offers[connection] = listener

    def _serve_offers(self) -> None:
        self._runtime.clock.tick()
        self._is_full = False
        offers, self._offers = self._offers, {}
        for connection, listener in offers.items():
            leaver = self._leavers.get(connection)
            if leaver is None or connection.is_closed or not leaver.moves:
                continue
            if not self._try(listener, connection, leaver) and leaver.is_held:
                self._offers[connection] = listener
        if self._offers:
            self._loop.call_later(RETRY_TIME, self._serve_offers)

    def _close_rest(self) -> None:
        """The time is over."""
        for listener in self._streams():
            for connection in listener.connections():
                connection.end_departure()

    def _left(self) -> dict[str, int]:
        """Open connections by kind."""
        kinds: Tally[str] = Tally()
        for listener in self._all():
            if isinstance(listener, DatagramListener):
                kinds["udp"] += listener.connection_count
            else:
                kinds.update(connection.kind() for connection in listener.connections())
        return {kind: count for kind, count in sorted(kinds.items()) if count}
