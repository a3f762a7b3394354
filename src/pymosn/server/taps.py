"""The taps of all workers, for the admin API: each is a stream of lines, bounded in memory, that ends by itself.

A tap lives as long as its reader. What a slow reader does not take is dropped and counted; the workers never wait.
"""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Final

from pymosn.control.plane import TooManyTaps
from pymosn.observe.tap_options import TapOptions
from pymosn.server.messages import Command, StartTap, StopTap, Tapped

#: Taps at a time.
MOST_TAPS: Final = 4
#: Bytes of records that wait for the reader of one tap.
WAITING_BYTES: Final = 16 * 1024 * 1024
#: Bytes that are given to the reader at once, about.
PIECE: Final = 256 * 1024
#: Seconds between two lines about a tap that has no records: its reader may have gone.
HEARTBEAT: Final = 5.0
#: Seconds to wait for all workers to start a tap before its reader gets the first line.
START_TIME: Final = 2.0


class RunningTap:
    """One tap, and what waits for its reader."""

    def __init__(self, options: TapOptions) -> None:
        self.options = options
        self.lines: deque[bytes] = deque()
        self.size = 0
        self.dropped = 0
        #: Workers that have started it.
        self.started = 0
        #: Why it ends before its time; what waits is still given to its reader.
        self.ending = ""
        self.event = asyncio.Event()

    def add(self, report: Tapped) -> None:
        """Adds what a worker has reported."""
        self.dropped += report.dropped
        self.started += report.started
        for line in report.records:
            if self.size + len(line) > WAITING_BYTES:
                self.dropped += 1
            else:
                self.lines.append(line)
                self.size += len(line)
        self.event.set()


class FleetTaps:
    """The taps that run. `send`: sends a command to all workers; `workers`: the number of those that serve."""

    def __init__(self, send: Callable[[Command], None], workers: Callable[[], int]) -> None:
        self._send = send
        self._workers = workers
        self._taps: dict[int, RunningTap] = {}
        self._last = 0

    def commands(self) -> list[Command]:
        """What a worker gets that has started later."""
        return [StartTap(number, tap.options) for number, tap in self._taps.items()]

    def on_report(self, report: Tapped) -> None:
        """A worker sent records."""
        tap = self._taps.get(report.tap)
        if tap is not None:
            tap.add(report)

    def open(self, options: TapOptions) -> AsyncIterator[bytes]:
        """Starts a tap: the lines of its stream, of JSON. TooManyTaps if there are too many already."""
        if len(self._taps) >= MOST_TAPS:
            raise TooManyTaps(f"there are {MOST_TAPS} taps already: end one of them first")
        self._last += 1
        return self._lines(self._last, RunningTap(options))

    async def _lines(self, number: int, tap: RunningTap) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        options = tap.options
        deadline = loop.time() + options.seconds
        count = 0
        why = "time"
        if len(self._taps) >= MOST_TAPS:  # some were opened at the same time
            yield _line({"done": "too many taps", "exchanges": 0})
            return
        self._taps[number] = tap
        # Also while the reader does not read: then this waits at a yield.
        end = loop.call_later(options.seconds, self._end, number)
        try:
            self._send(StartTap(number, options))
            with suppress(TimeoutError):
                async with asyncio.timeout(START_TIME):
                    while tap.started < self._workers():
                        tap.event.clear()
                        await tap.event.wait()
            yield _line({"tap": {"seconds": options.seconds, "bodies": options.bodies}})
            while (left := deadline - loop.time()) > 0.0:
                tap.event.clear()
                if tap.ending and not tap.lines:
                    why = tap.ending
                    break
                if not tap.lines and not tap.dropped:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(tap.event.wait(), min(left, HEARTBEAT))
                    if tap.ending:
                        continue
                piece: list[bytes] = []
                while tap.lines and sum(map(len, piece)) < PIECE and not (options.count and count >= options.count):
                    line = tap.lines.popleft()
                    tap.size -= len(line)
                    piece.append(b'{"exchange":' + line + b"}\n")
                    count += 1
                if tap.dropped:
                    piece.append(_line({"dropped": tap.dropped}))
                    tap.dropped = 0
                yield b"".join(piece) or _line({"waiting": True})
                if options.count and count >= options.count:
                    why = "count"
                    break
            yield _line({"done": why, "exchanges": count})
        finally:
            end.cancel()
            self._end(number)

    def end_all(self, why: str) -> None:
        """Ends all taps; their readers get the reason: `stopping`, or `upgrade` if another process has taken over."""
        for tap in self._taps.values():
            tap.ending = why
            tap.event.set()

    def _end(self, number: int) -> None:
        """Ends a tap in the workers, once."""
        if self._taps.pop(number, None) is not None:
            self._send(StopTap(number))


def _line(value: dict[str, object]) -> bytes:
    return json.dumps(value).encode() + b"\n"
