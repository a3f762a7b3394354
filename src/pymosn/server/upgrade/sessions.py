"""UDP sessions that continue in the next generation: between a worker of the predecessor and one of the successor.

The successor's workers have the listeners' sockets, but do not read them. A worker of the predecessor stops reading, so that
datagrams wait in the kernel, and sends each session with its upstream socket to the worker that has the same socket, because
its client's datagrams arrive there: hosts see no other source. After the last one it sends `SessionsMoved`, and the other
begins to read the socket. It also does so when the predecessor has gone, or has taken too long (`ReadDatagrams`).

A session whose host's name is still being resolved stays, and so do those that cannot be sent; only replies reach them.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from pymosn.core.errors import reason
from pymosn.core.log import INFO, WARN, Log
from pymosn.network.datagram_session import DatagramSession, SessionState
from pymosn.network.datagrams import DatagramPort, Source
from pymosn.network.udp import DatagramListener
from pymosn.server.upgrade.messages import Moved, MovedConnection, MovedSession, SessionsMoved

#: Seconds between two attempts to send to a queue that is full.
RETRY: Final = 0.002
#: Seconds after the takeover in which sessions may come.
SESSION_LIMIT: Final = 5.0
#: Sessions that are sent before the event loop has its turn.
BATCH: Final = 32
# ETOOMANYREFS: too many descriptors are under way.
_FULL: Final = frozenset((errno.EAGAIN, errno.EINTR, errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS))


class SessionSender:
    """Sends the sessions of one worker of the predecessor."""

    def __init__(self, ends: Sequence[socket.socket], worker_index: int, workers: int, log: Log) -> None:
        """`ends`: the sending ends of the queues of the successor's workers, non-blocking. `worker_index`: from 0."""
        self._ends = ends
        self._index = worker_index
        self._workers = workers
        self._log = log

    async def send_all(self, listeners: Iterable[DatagramListener], seconds: float) -> int:
        """Stops reading, and sends all sessions for at most `seconds`; returns how many have been sent."""
        found = list(listeners)
        for listener in found:
            listener.hold()
        deadline = asyncio.get_running_loop().time() + seconds
        sent = 0
        for listener in found:
            try:
                async with asyncio.timeout_at(deadline):
                    sent += await self._send_listener(listener)
            except (OSError, TimeoutError) as error:
                self._log.write(
                    WARN, f"upgrade: sessions of listener {listener.name} stay here: {reason(error) or 'too slow'}"
                )
        if sent:
            self._log.write(INFO, f"upgrade: {sent} UDP sessions continue in the new process")
        return sent

    async def _send_listener(self, listener: DatagramListener) -> int:
        sent = 0
        if not self._ends:
            return 0
        for number, port in enumerate(listener.ports()):
            index = self._index + number * self._workers
            end = self._ends[index % len(self._ends)]
            for session in listener.sessions_at(port):
                if session.is_closed:
                    continue
                state = session.departure()
                if state is None:
                    continue
                message = _message(listener.name, index, port, session, state)
                await _send(end, message, [session.descriptor()])
                if not session.is_closed:
                    session.depart()
                sent += 1
                if sent % BATCH == 0:
                    await asyncio.sleep(0)
            await _send(end, SessionsMoved(listener.name, index, port.cookie), [])
        return sent


def _message(listener: str, index: int, port: DatagramPort, session: DatagramSession, state: SessionState) -> MovedSession:
    source = session.source
    address = source.address
    host = session.peer_address()
    return MovedSession(
        listener,
        index,
        (address[0], address[1]),
        host,
        state.cluster,
        int(state.bytes_read),
        int(state.bytes_written),
        state.age,
        state.idle,
        host_address=state.host,
        socket=port.cookie,
        flow=address[2] if len(address) > 2 else 0,
        scope=address[3] if len(address) > 3 else 0,
        local_ip=source.local_ip,
        control=source.control,
        attempts=int(state.attempts),
        sent=state.sent,
        answered=state.answered,
    )


async def _send(queue: socket.socket, message: MovedSession | SessionsMoved, descriptors: list[int]) -> None:
    """Sends a message to a queue, when it has room for it. OSError if nothing reads the queue any more."""
    data = msgspec.msgpack.encode(message)
    while True:
        try:
            socket.send_fds(queue, [data], descriptors)
            return
        except OSError as error:
            if error.errno not in _FULL:
                raise
        await asyncio.sleep(RETRY)


class SessionReceiver:
    """Continues sessions in one worker of the successor."""

    def __init__(self, readers: Mapping[int, DatagramListener], log: Log) -> None:
        """`readers`: the UDP listeners by the SO_COOKIE of their sockets."""
        self._readers = readers
        self._log = log
        # Sessions that could not be continued, by reason, since the last line of the log.
        self._ended: Counter[str] = Counter()

    def receive(self, message: Moved, descriptors: Sequence[int]) -> None:
        """Continues a session, or begins to read the socket that it was the last one of. Owns the descriptors."""
        sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        listener = None if isinstance(message, MovedConnection) else self._readers.get(message.socket)
        if listener is not None and isinstance(message, SessionsMoved):
            listener.read(message.socket)
            for failure, count in self._ended.items():
                self._log.write(WARN, f"upgrade: {count} sessions of listener {listener.name} end: {failure}")
            self._ended.clear()
        elif listener is not None and isinstance(message, MovedSession) and len(sockets) == 1:
            self._continue(listener, message, sockets.pop())
        for sock in sockets:
            sock.close()

    def read_all(self) -> None:
        """Begins to read all sockets: no sessions follow."""
        for listener in set(self._readers.values()):
            listener.is_waiting = False
            listener.read()

    def _continue(self, listener: DatagramListener, message: MovedSession, sock: socket.socket) -> None:
        sock.setblocking(False)
        failure = listener.continue_session(message.socket, _source(message), _state(message), sock)
        if failure:
            self._ended[failure] += 1


def _source(message: MovedSession) -> Source:
    ip, port = message.client
    # What the socket module gives, which depends on the family of the listener's socket, even for mapped IPv4 addresses.
    address = (ip, port, message.flow, message.scope) if ":" in ip else (ip, port)
    key: object = (address, message.local_ip) if message.local_ip else address
    return Source(key, address, message.control, message.local_ip)


def _state(message: MovedSession) -> SessionState:
    state = SessionState()
    state.cluster, state.host = message.cluster, message.host_address
    state.attempts = message.attempts
    state.bytes_read, state.bytes_written = message.bytes_received, message.bytes_sent
    state.age, state.idle = message.age, message.idle
    state.sent, state.answered = message.sent, message.answered
    return state
