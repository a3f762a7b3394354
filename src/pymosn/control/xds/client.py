"""The client of one source of xDS: an ADS server, a server of secrets, or one of a single type.

A stream is read by one task and written by another; each type has a task that applies its updates. So reading never waits
for applying, and types do not wait for each other. What is sent and applied is decided by the machines in `subscription`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from pymosn.control.xds.delta import DeltaSubscription
from pymosn.control.xds.exchanges import Response, TypeStatus
from pymosn.control.xds.pacing import Backoff, Chance
from pymosn.control.xds.sotw import SotwSubscription
from pymosn.control.xds.subscription import Subscription
from pymosn.control.xds.transport import ADS, METHODS, Server, Stream, StreamEnded, Transport
from pymosn.control.xds.types import SHORT, Consumer, Rejected, Update, type_fault
from pymosn.core.errors import describe
from pymosn.core.log import ERROR, INFO, WARN, Log
from pymosn.observe.text import one_line

#: Order in which the types of one stream are asked for and applied.
_ORDER: Final = {type_url: i for i, type_url in enumerate(SHORT)}

#: Bytes from which on a response is decoded in a thread.
LARGE: Final = 256 * 1024

IDLE: Final = "idle"  # nothing is subscribed
CONNECTING: Final = "connecting"
CONNECTED: Final = "connected"
WAITING: Final = "waiting"  # until the next attempt to connect
STOPPED: Final = "stopped"


class Options(NamedTuple):
    """How a client speaks. `type_url`: the only type of its streams; empty for ADS. `node`: a serialized Node message."""

    is_delta: bool = False
    type_url: str = ""
    node: bytes = b""
    node_on_first_message_only: bool = True


class ClientStatus(NamedTuple):
    """What the admin API shows of a client. Ages are in seconds; None: it has not happened.

    `state`: idle, connecting, connected, waiting or stopped. `server`: the current address. `error`: why the last stream
    ended. `connects`: streams that were opened; `failures`: attempts and streams that failed. `unknown`: responses of types
    that are not subscribed.
    """

    name: str
    state: str
    server: str
    is_delta: bool
    stream_age: float | None
    error: str
    error_age: float | None
    connects: int
    failures: int
    unknown: int
    types: tuple[TypeStatus, ...]


class XdsClient:
    """See the module. `name`: for logs and views. Connects once something is subscribed."""

    def __init__(
        self,
        name: str,
        servers: Sequence[Server],
        options: Options,
        transport: Transport,
        consumer: Consumer,
        log: Log,
        *,
        chance: Chance = random.random,
        now: Callable[[], float] = time.monotonic,
        backoff: Backoff | None = None,
    ) -> None:
        """`servers`: tried in turn. `now`: must have the pace of the event loop's time."""
        if not servers:
            raise ValueError(f"{name}: no server")
        self.name = name
        self._servers = list(servers)
        self._options = options
        self._methods = METHODS[options.type_url] if options.type_url else ADS
        self._transport = transport
        self._consumer = consumer
        self._log = log
        self._chance = chance
        self._now = now
        self._backoff = backoff or Backoff(chance)
        self._types: dict[str, Subscription] = {}
        self._tasks: list[asyncio.Task[None]] = []
        # Set when there may be something to send, and, by type, something to apply.
        self._send = asyncio.Event()
        self._apply: dict[str, asyncio.Event] = {}
        self._is_running = False
        self._index = 0
        self._state = IDLE
        self._opened_at: float | None = None
        # Whether a response of the current stream was accepted.
        self._has_accepted = False
        self._error = ""
        self._error_at: float | None = None
        self._failed_in_row = 0
        # By type: the reason of the last NACK that was logged, and how many with the same followed.
        self._logged: dict[str, tuple[str, int]] = {}
        self._connects = self._failures = self._unknown = 0
        self._unknown_logged: set[str] = set()

    # ---- what is wanted

    def want(self, type_url: str, names: Mapping[str, float]) -> None:
        """Replaces the subscription of a type; see `Subscription.want`. ValueError: a stream of one type has no other."""
        if self._options.type_url not in ("", type_url):
            raise ValueError(f"{self.name}: {type_url} on a stream for {self._options.type_url}")
        subscription = self._subscription(type_url)
        subscription.want(names, self._now())
        self._wake(type_url)

    def seed(self, type_url: str, held: Mapping[str, str]) -> None:
        """What the consumer has from an earlier run, name -> version; before `want`."""
        self._subscription(type_url).held.update(held)

    def reject_late(self, type_url: str, faults: Rejected) -> None:
        """See `Subscription.reject_late`."""
        subscription = self._types.get(type_url)
        if subscription is not None and subscription.reject_late(faults, self._now()):
            self._send.set()

    def _subscription(self, type_url: str) -> Subscription:
        found = self._types.get(type_url)
        if found is None:
            kind = DeltaSubscription if self._options.is_delta else SotwSubscription
            found = kind(type_url, self._chance)
            if self._state == CONNECTED:
                found.opened()
            self._types[type_url] = found
            self._types = dict(sorted(self._types.items(), key=lambda item: _ORDER.get(item[0], len(_ORDER))))
            self._apply[type_url] = asyncio.Event()
            if self._is_running:
                self._start_applying(found)
        return found

    def _wake(self, type_url: str) -> None:
        self._send.set()
        self._apply[type_url].set()

    # ---- life

    def start(self) -> None:
        """Begins; needs a running event loop."""
        self._is_running = True
        for subscription in self._types.values():
            self._start_applying(subscription)
        self._tasks.append(asyncio.get_running_loop().create_task(self._connect_for_ever()))

    def _start_applying(self, subscription: Subscription) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(self._apply_for_ever(subscription)))

    async def stop(self) -> None:
        """Ends the stream. What was accepted stays with the consumer."""
        self._is_running = False
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._state = STOPPED

    @property
    def server(self) -> str:
        """The address of the server that it is connected to, or tries."""
        return self._servers[self._index].address

    def status(self) -> ClientStatus:
        """The state for the admin API."""
        now = self._now()
        return ClientStatus(
            name=self.name,
            state=self._state,
            server=self.server,
            is_delta=self._options.is_delta,
            stream_age=None if self._opened_at is None else now - self._opened_at,
            error=self._error,
            error_age=None if self._error_at is None else now - self._error_at,
            connects=self._connects,
            failures=self._failures,
            unknown=self._unknown,
            types=tuple(subscription.status(now) for subscription in self._types.values()),
        )

    # ---- the stream

    async def _connect_for_ever(self) -> None:
        while True:
            while not any(subscription.wanted for subscription in self._types.values()):
                self._state = IDLE
                await _until(self._send, None, self._now)
            self._state = CONNECTING
            self._has_accepted = False
            try:
                await self._stream_once(self._servers[self._index])
            except StreamEnded as ended:
                end = ended
            except Exception as error:  # a fault of ours must not end the client
                end = StreamEnded(f"internal error: {describe(error)}")
            is_failure = not (end.is_normal and self._has_accepted)
            self._note_end(end, is_failure)
            if is_failure:
                self._index = (self._index + 1) % len(self._servers)
            self._state = WAITING
            await asyncio.sleep(self._backoff.next(is_failure))

    async def _stream_once(self, server: Server) -> None:
        """One stream, until it ends: always raises."""
        stream = await self._transport.open(server, self._methods[self._options.is_delta])
        self._state = CONNECTED
        self._connects += 1
        self._opened_at = self._now()
        self._unknown_logged.clear()
        for subscription in self._types.values():
            subscription.opened()
        self._send.set()
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(self._read(stream)), loop.create_task(self._write(stream))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            # Both may have ended; the reader knows the server's reason.
            for task in tasks:
                if task in done:
                    await task
        finally:
            self._opened_at = None
            for subscription in self._types.values():
                subscription.closed()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await stream.close()

    async def _read(self, stream: Stream) -> None:
        from pymosn.control.xds.wire import InvalidMessage, decode

        while True:
            data = await stream.read()
            try:
                if len(data) < LARGE:
                    response = decode(data, self._options.is_delta)
                else:
                    response = await asyncio.to_thread(decode, data, self._options.is_delta)
            except InvalidMessage as error:
                raise StreamEnded(f"invalid response: {error}") from None
            del data
            subscription = self._types.get(response.type_url)
            if subscription is None or not subscription.has_asked:
                self._note_unknown(response)
                continue
            subscription.receive(response, self._now())
            self._apply[response.type_url].set()

    async def _write(self, stream: Stream) -> None:
        from pymosn.control.xds.wire import encode

        is_first = True
        while True:
            self._send.clear()
            for subscription in list(self._types.values()):
                while (request := subscription.next_request(self._now())) is not None:
                    has_node = is_first or not self._options.node_on_first_message_only
                    is_first = False
                    await stream.send(encode(request, self._options.is_delta, self._options.node if has_node else b""))
            times = [at for subscription in self._types.values() if (at := subscription.send_at()) is not None]
            await _until(self._send, min(times, default=None), self._now)

    def _note_end(self, end: StreamEnded, is_failure: bool) -> None:
        server = self._servers[self._index]
        self._error, self._error_at = str(end), self._now()
        if end.refuses_pings:
            slower = server._replace(keepalive=server.keepalive * 2)
            self._servers[self._index] = slower
            text = (
                f"xDS {self.name}: {server.address} finds PINGs too frequent; one every {slower.keepalive:g} s from now on"
            )
            self._log.write(WARN, text)
        if not is_failure:
            self._log.write(INFO, f"xDS {self.name}: stream to {server.address} ended: {end}")
            return
        self._failures += 1
        self._failed_in_row += 1
        if self._failed_in_row == 1:
            kept = "what was accepted before stays active"
            self._log.write(WARN, f"xDS {self.name}: no stream to {server.address}: {end}; {kept}, connecting again")

    def _note_unknown(self, response: Response) -> None:
        """A response that has no subscription is not answered, because an answer would be a subscription."""
        self._unknown += 1
        if response.type_url not in self._unknown_logged:
            self._unknown_logged.add(response.type_url)
            why = type_fault(response.type_url) or "it is not subscribed"
            self._log.write(WARN, f"xDS {self.name}: a response of type {response.type_url!r} is ignored: {why}")

    # ---- applying

    async def _apply_for_ever(self, subscription: Subscription) -> None:
        event = self._apply[subscription.type_url]
        while True:
            event.clear()
            while (update := subscription.take(self._now())) is not None:
                rejected = await accept(self._consumer, update, self._log, self.name)
                self._decided(subscription, rejected)
            self._send.set()
            await _until(event, subscription.take_at(), self._now)

    def _decided(self, subscription: Subscription, rejected: Rejected) -> None:
        acks, nacks = subscription.acks, subscription.nacks
        subscription.decided(rejected, self._now())
        name = SHORT.get(subscription.type_url, subscription.type_url)
        if subscription.nacks > nacks:
            reason = subscription.nack_reason
            logged, repeats = self._logged.get(name, ("", 0))
            if reason == logged:
                self._logged[name] = (reason, repeats + 1)
            else:
                self._logged[name] = (reason, 0)
                self._log.write(ERROR, one_line(f"xDS {self.name}: {name} rejected: {reason}"))
        elif subscription.acks > acks:
            self._has_accepted = True
            self._failed_in_row = 0
            self._backoff.reset()
            logged, repeats = self._logged.pop(name, ("", 0))
            if logged:
                more = f" after {repeats} more rejections" if repeats else ""
                self._log.write(INFO, f"xDS {self.name}: {name} accepted again{more}")


async def accept(consumer: Consumer, update: Update, log: Log, name: str) -> Rejected:
    """The consumer's decision about an update. A fault of ours in it rejects the update, and does not end the client."""
    try:
        return await consumer.accept(update)
    except Exception as error:
        why = f"internal error: {describe(error)}"
        log.write(ERROR, f"xDS {name}: {SHORT.get(update.type_url, update.type_url)}: {why}")
        # It may not have removed anything either.
        return dict.fromkeys([*(resource.name for resource in update.resources), *update.removed], why)


async def _until(event: asyncio.Event, at: float | None, now: Callable[[], float]) -> None:
    """Waits for an event, but not longer than until `at`."""
    if at is None:
        await event.wait()
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, at - now())):
            await event.wait()
