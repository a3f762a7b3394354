"""Replays recorded exchanges: sends their requests at the recorded times, and compares the responses."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final

import msgspec

from pymosn.core.errors import describe
from pymosn.core.secrets import REDACTED
from pymosn.kit.replay_wire import ReplayError, Target, Wire, rpc_outcome, spec_of, wire_for
from pymosn.recording import Difference, Outcome, Recorded, RecordedRequest, compare, outcome_of
from pymosn.recording.record import raw_value

#: The speed that sends as fast as the concurrency allows.
AT_ONCE: Final = 0.0
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TARGET: Final = re.compile(r"[/*][^\x00-\x20\x7f]*")
_CONTROLS: Final = frozenset(b"\r\n\0")


class Result(msgspec.Struct):
    """One replayed exchange. `error`: why there is no response; `skipped`: why its request was not sent."""

    recorded: Recorded
    differences: list[Difference] = []
    error: str = ""
    skipped: str = ""
    is_compared: bool = False

    @property
    def is_same(self) -> bool:
        """Whether it was sent, and the response is the recorded one."""
        return self.is_compared and not self.differences


def why_not(recorded: Recorded) -> str:
    """Why an exchange cannot be replayed; empty if it can."""
    request, response = recorded.request, recorded.response
    if recorded.tunnel:
        return "it opened a tunnel"
    if recorded.note:
        return recorded.note
    if recorded.rpc:
        if not request.frame:
            return request.note or "its frame was not recorded: record with --bodies"
        return "" if response.frame or request.one_way else "its response was not recorded"
    if not _is_valid(request):
        return "its request is not one that can be sent"
    if not response.status and not response.reset:
        return "it has no response: a browser did not get one"
    if request.size and request.body is None:
        return "its body was not recorded: record with --bodies"
    if request.body is not None and not request.body.complete and request.body.size:
        return "its body was not recorded as a whole: record with larger --bodies"
    return ""


def _is_valid(request: RecordedRequest) -> bool:
    """Whether a request of HTTP is valid: a file may contain anything."""
    if _TOKEN.fullmatch(request.method) is None or _TARGET.fullmatch(request.target) is None:
        return False
    if _TARGET.fullmatch(f"/{request.host}") is None:
        return False
    fields = [*request.headers, *(request.trailers or ())]
    return all(_TOKEN.fullmatch(field[0]) and not _CONTROLS.intersection(raw_value(field)) for field in fields)


def has_placeholder(recorded: Recorded, replaced: Collection[str]) -> bool:
    """Whether the request has a redacted value, which is sent as such. `replaced`: fields that are set, in lower case."""
    request = recorded.request
    mark = REDACTED.encode()
    if REDACTED in request.target or (request.body is not None and mark in request.body.data):
        return True
    fields = [*request.headers, *(request.trailers or ())]
    return any(REDACTED in field[1] and field[0].lower() not in replaced for field in fields)


def recorded_outcome(recorded: Recorded) -> Outcome:
    """What was recorded of the response. Raises ReplayError for a frame that cannot be read."""
    spec = spec_of(recorded.protocol) if recorded.rpc else None
    if spec is None or not recorded.response.frame:
        return outcome_of(recorded)
    return rpc_outcome(spec, recorded.response.frame)


class Replay:
    """Sends recorded requests to one address, at most `concurrency` at a time."""

    def __init__(
        self,
        target: Target,
        *,
        speed: float,
        concurrency: int,
        timeout: float,
        ignored: Collection[str],
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`speed`: 2 for half of the recorded pauses; AT_ONCE without pauses. `timeout`: seconds for one exchange.

        `ignored`: names of fields that are not compared, in lower case. `now`, `sleep`: the clock of the pauses.
        """
        self._now = now
        self._sleep = sleep
        self._target = target
        self._speed = speed
        self._timeout = timeout
        self._ignored = ignored
        self._free = asyncio.Semaphore(concurrency)
        self._idle: dict[str, list[Wire]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        #: The results in the order of the recording.
        self.results: list[Result] = []

    async def run(self, exchanges: Sequence[Recorded]) -> None:
        """Sends them all, and waits for the responses."""
        begin = self._now()
        first = exchanges[0].time if exchanges else 0.0
        try:
            for recorded in exchanges:
                result = Result(recorded, skipped=why_not(recorded))
                self.results.append(result)
                if result.skipped:
                    continue
                if self._speed != AT_ONCE:
                    await self._sleep(begin + (recorded.time - first) / self._speed - self._now())
                await self._free.acquire()
                task = asyncio.ensure_future(self._one(result))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            while self._tasks:
                await asyncio.wait(self._tasks)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for wires in self._idle.values():
                for wire in wires:
                    wire.close()

    async def _one(self, result: Result) -> None:
        recorded = result.recorded
        wire: Wire | None = None
        try:
            before = recorded_outcome(recorded)
            idle = self._idle.setdefault(recorded.protocol, [])
            wire = idle.pop() if idle else wire_for(recorded, self._target)
            after = await asyncio.wait_for(wire.ask(recorded), self._timeout)
            result.differences = compare(before, after, self._ignored)
            result.is_compared = True
            idle.append(wire)
        except TimeoutError:
            result.error = f"no response within {self._timeout:g} s"
        except (ReplayError, ValueError) as error:
            # Without a response before, none is expected now.
            if recorded.response.status or not recorded.response.reset:
                result.error = str(error)
            else:
                result.is_compared = True
                if wire is not None:
                    wire.close()
        except Exception as error:  # of a protocol that is given a damaged frame
            result.error = f"it cannot be replayed: {describe(error)}"
        finally:
            if result.error and wire is not None:
                wire.close()
            self._free.release()
