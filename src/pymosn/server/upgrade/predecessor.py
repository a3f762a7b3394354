"""The predecessor's side of an upgrade: starts the successor, gives it everything, and leaves when it has taken over.

**States.** *idle*; *waiting* for a change of the configuration in progress; *starting*: the successor has been given
everything and is not ready; *taking*: it is, and has received `Take`; then *left*, which is final. Whatever happens
before *taking* ends leads back to *idle*: the successor's channel is closed, which makes it exit, and if it does not it is
killed; and only when it has ended is the upgrade over. So there are never two that serve without knowing of each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from pymosn.control.threads import off_loop
from pymosn.core.errors import describe
from pymosn.core.log import ALERT_UPGRADE, ERROR, INFO, WARN, Log
from pymosn.server.change_steps import TAKEN_OVER
from pymosn.server.channel import CLOSED, MAX_DESCRIPTORS
from pymosn.server.upgrade.carried import CarriedState, messages_of
from pymosn.server.upgrade.kept_config import CONFIG
from pymosn.server.upgrade.launching import Successor, SuccessorReceiver
from pymosn.server.upgrade.messages import (
    OLDEST,
    VERSION,
    Complete,
    Estate,
    FromSuccessor,
    Held,
    HeldSocket,
    Leaving,
    OlderGeneration,
    Progress,
    Ready,
    Refused,
    Stopping,
    Take,
    Taken,
)
from pymosn.server.upgrade.queues import SendingEnds
from pymosn.server.upgrade.request import UpgradeRequest, UpgradeResult

#: Seconds in which a successor that is ready must take over, and seconds for its exit before it is killed.
TAKE_TIME: Final = 15.0
EXIT_TIME: Final = 5.0
#: Seconds for the end of what it has started.
FAMILY_TIME: Final = 8.0
#: Seconds between two checks whether the last message has been sent.
FLUSH_PERIOD: Final = 0.01

IDLE, WAITING, STARTING, TAKING, LEFT = "idle", "waiting", "starting", "taking", "left"

CallLater = Callable[..., asyncio.TimerHandle]
Spawn = Callable[[UpgradeRequest, SuccessorReceiver], Successor]
Tell = Callable[[str], None]


class Changing(Protocol):
    """The changes of the configuration, which wait during an upgrade."""

    def paused(self) -> AbstractAsyncContextManager[None]:
        """Waits for the change in progress, and makes others wait until the end of the block."""

    def reject_all(self, reason: str = ...) -> None:
        """Rejects them from now on."""


class _Ended(Exception):
    """The upgrade has failed, because of these lines."""

    def __init__(self, *lines: str, is_config_fault: bool = False, is_lost: bool = False) -> None:
        """`is_lost`: the successor has closed the connection, maybe by its end."""
        super().__init__(*lines)
        self.lines = list(lines)
        self.is_config_fault = is_config_fault
        self.is_lost = is_lost


class Upgrade(SuccessorReceiver):
    """At most one upgrade at a time, and at most one that succeeds."""

    def __init__(
        self,
        spawn: Spawn,
        changes: Changing,
        estate: Callable[[UpgradeRequest], Estate],
        held: Callable[[], Sequence[tuple[HeldSocket, int]]],
        carried: CarriedState,
        call_later: CallLater,
        log: Log,
    ) -> None:
        """`estate`: the first message of an upgrade. `held`: all sockets of this process with their descriptors."""
        self.state = IDLE
        #: Set when another process has taken over.
        self.taken = asyncio.Event()
        #: Why an upgrade is refused at the moment; empty if it is not.
        self.refusal: Callable[[], str] = lambda: ""
        #: Called when an upgrade begins, and when it has failed.
        self.on_begin: Callable[[], None] = lambda: None
        self.on_failed: Callable[[], None] = lambda: None
        #: Called with the successor's process id as soon as it has taken over.
        self.on_taken: Callable[[int], None] = lambda pid: None
        #: Called with its exit code when it has ended after that.
        self.on_successor_gone: Callable[[int], None] = lambda code: None
        #: The successor, while there is one, its first message and the seconds since 1970 at which it was started.
        self.successor: Successor | None = None
        self.ready: Ready | None = None
        #: The sending ends of the queues of its workers.
        self.queues = SendingEnds()
        #: The inodes of the sockets that the successor does not use.
        self.dropped: list[int] = []
        #: The result of the last upgrade that failed.
        self.last_failure: list[str] = []
        self._spawn = spawn
        self._changes = changes
        self._estate = estate
        self._held = held
        self._carried = carried
        self._call_later = call_later
        self._log = log
        self._tell: Tell = lambda text: None
        # What has happened and was not handled yet: messages; an exit code; why it failed.
        self._events: asyncio.Queue[FromSuccessor | int | _Ended] = asyncio.Queue()
        # The exit code of the successor, if it has ended, and whether it was killed here.
        self._code: int | None = None
        self._was_killed = False
        # Why the upgrade in progress must end; empty: it need not.
        self._cancelled = ""
        self._settled = asyncio.Event()
        #: Set when the successor shuts down, or has ended, after it has taken over.
        self.is_stopping = asyncio.Event()

    @property
    def has_left(self) -> bool:
        """Whether another process has taken over."""
        return self.state == LEFT

    async def run(self, request: UpgradeRequest, tell: Tell) -> UpgradeResult:
        """Makes another process take over; returns when it has, or when nothing is left of it. `tell`: progress."""
        refusal = self._why_not()
        if refusal:
            self._log.write(ERROR, f"upgrade from {request.source}: refused: {refusal}", ALERT_UPGRADE)
            return UpgradeResult(False, [refusal])
        self.state = WAITING
        self._cancelled = ""
        self._settled.clear()
        self._tell = tell
        self._log.write(INFO, f"upgrade from {request.source}: begins")
        self.on_begin()
        try:
            async with self._changes.paused():
                await self._attempt(request)
                self._changes.reject_all(TAKEN_OVER)
        except _Ended as error:
            return self._failed(request, error)
        finally:
            if self.state != LEFT:
                self.state = IDLE
                self.on_failed()
            self._settled.set()
            self._tell = lambda text: None
        assert self.successor is not None
        self._log.write(INFO, f"upgrade from {request.source}: process {self.successor.pid} has taken over")
        self.taken.set()
        return UpgradeResult(True, [f"process {self.successor.pid} has taken over"], self.successor.pid)

    async def settle(self, reason: str) -> None:
        """Ends an upgrade in progress because of `reason`, unless `Take` has already been sent; returns when it is over."""
        if self.state in (IDLE, LEFT):
            return
        self._cancelled = reason
        if self.state == STARTING:
            self._events.put_nowait(_Ended(reason))
        if self.state != WAITING:
            await self._settled.wait()

    async def leaving(self, connections: Mapping[str, int], seconds: float, older: Sequence[OlderGeneration] = ()) -> None:
        """Reports to the successor what this process and `older` ones still wait for, and the metrics so far."""
        if self.successor is not None and self.successor.is_flushed():
            await self._send_carried(self._carried.export_repeated())
            self.successor.send(Leaving(dict(connections), seconds, list(older)))

    async def send_last(self) -> None:
        """Sends the metrics of all workers, which have ended, for the last time."""
        if self.successor is None or not self.has_left:
            return
        await self._send_carried(self._carried.export_repeated())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EXIT_TIME):
                while not self.successor.is_flushed():
                    await asyncio.sleep(FLUSH_PERIOD)

    def close(self) -> None:
        """Closes the channel to the successor."""
        self.queues.close()
        if self.successor is not None:
            self.successor.close()

    def _why_not(self) -> str:
        if self.state == LEFT:
            return "another process has already taken over"
        if self.state != IDLE:
            return "another upgrade is in progress"
        return self.refusal()

    def _failed(self, request: UpgradeRequest, error: _Ended) -> UpgradeResult:
        self.last_failure = error.lines
        for line in error.lines:
            self._log.write(ERROR, f"upgrade from {request.source}: {line}", ALERT_UPGRADE)
        self._log.write(WARN, f"upgrade from {request.source}: failed; this process serves as before")
        return UpgradeResult(False, error.lines, is_config_fault=error.is_config_fault)

    async def _attempt(self, request: UpgradeRequest) -> None:
        """Returns when the successor has taken over; otherwise _Ended, and then it is gone."""
        if self._cancelled:
            raise _Ended(self._cancelled)
        self._events = asyncio.Queue()
        self._code = None
        self._was_killed = False
        try:
            self.successor = self._spawn(request, self)
        except OSError as error:
            name = f"{error.filename}: " if error.filename else ""
            raise _Ended(f"the new process cannot be started: {name}{error.strerror or error}") from error
        except ValueError as error:
            raise _Ended(f"the new process cannot be started: {error}") from error
        self.state = STARTING
        self._tell(f"process {self.successor.pid} starts")
        timer = self._limit(request.seconds, "is not ready")
        try:
            await self._give(request, self.successor)
            await self._wait_for(Ready)
            timer.cancel()
            timer = self._limit(TAKE_TIME, "has not taken over")
            self._tell(f"process {self.successor.pid} is ready")
            self.state = TAKING
            await self._send_carried(self._carried.export(only_final=True))
            self.successor.send(Take())
            await self._wait_for(Taken)
        except _Ended as error:
            code = await self._dispose(self.successor, request.seconds)
            if error.is_lost and code is not None:
                raise _ended_early(code) from error
            raise
        except Exception as error:
            await self._dispose(self.successor, request.seconds)
            raise _Ended(f"the upgrade failed: {describe(error)}") from error
        finally:
            timer.cancel()
        self.state = LEFT
        self.on_taken(self.successor.pid)

    def _limit(self, seconds: float, what: str) -> asyncio.TimerHandle:
        failure = _Ended(f"the new process {what} within {seconds:g} s")
        return self._call_later(seconds, self._events.put_nowait, failure)

    async def _give(self, request: UpgradeRequest, successor: Successor) -> None:
        """Sends everything that the successor needs to start."""
        successor.send(self._estate(request))
        held = self._held()
        for start in range(0, len(held), MAX_DESCRIPTORS):
            part = held[start : start + MAX_DESCRIPTORS]
            successor.send(Held([each for each, _ in part]), [descriptor for _, descriptor in part])
        await self._send_carried(self._carried.export(without=() if request.keeps_config else (CONFIG,)))
        successor.send(Complete())

    async def _send_carried(self, contents: AsyncIterator[tuple[str, bytes]]) -> None:
        assert self.successor is not None
        async for kind, content in contents:
            for message in messages_of(kind, content):
                self.successor.send(message)
                await asyncio.sleep(0)

    async def _wait_for(self, expected: type[Ready] | type[Taken]) -> None:
        """Returns when the successor has sent the message; _Ended if that will not happen."""
        while True:
            event = await self._events.get()
            match event:
                case _Ended():
                    raise event
                case int():
                    raise _ended_early(event)
                case Progress():
                    self._tell(event.text)
                case Refused():
                    raise _Ended(*event.lines, is_config_fault=event.is_config_fault)
                case Ready() if expected is Ready:
                    if not OLDEST <= event.version <= VERSION:
                        raise _Ended(f"the new process speaks version {event.version} of the messages, this one {VERSION}")
                    self.ready = event
                    return
                case Taken() if expected is Taken:
                    self.dropped = event.dropped
                    return
                case _:
                    raise _Ended(f"the new process sent an unexpected {type(event).__name__}")

    async def _dispose(self, successor: Successor, seconds: float) -> int | None:
        """Ends the successor; returns when it has ended, with its exit code unless it was killed here.

        `seconds`: those that it had for its start.
        """
        successor.close()
        self.queues.close()
        self._tell("waiting for the end of the new process")
        timer = self._call_later(min(EXIT_TIME, seconds), self._kill, successor)
        if self.state == TAKING:
            self._kill(successor)  # it may believe that it has taken over
        while self._code is None:
            await self._events.get()
        timer.cancel()
        with contextlib.suppress(TimeoutError):
            await off_loop(FAMILY_TIME, successor.end_family)
        self.successor = self.ready = None
        return None if self._was_killed else self._code

    def _kill(self, successor: Successor) -> None:
        self._was_killed = True
        successor.kill()

    # ---- the successor

    def on_message(self, message: FromSuccessor, descriptors: list[int]) -> None:
        if isinstance(message, Ready) and self.state == STARTING and not self.queues.descriptors:
            self.queues = SendingEnds(descriptors)
        else:
            for descriptor in descriptors:
                os.close(descriptor)
        if isinstance(message, Stopping) and self.state == LEFT:
            self.is_stopping.set()
        self._events.put_nowait(message)

    def on_closed(self, reason: str) -> None:
        if self.state != LEFT:
            text = f"the connection to the new process has ended: {reason}; its output has more"
            self._events.put_nowait(_Ended(text, is_lost=reason == CLOSED))

    def on_exit(self, code: int) -> None:
        self._code = code
        self._events.put_nowait(code)
        if self.state == LEFT:
            self.is_stopping.set()
            self.on_successor_gone(code)


def _ended_early(code: int) -> _Ended:
    how = f"exit code {code}" if code >= 0 else f"killed by signal {-code}"
    return _Ended(f"the new process ended ({how}) before it took over; its output has the reason")
