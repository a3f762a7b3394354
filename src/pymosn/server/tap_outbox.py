"""The taps of a worker: starts and stops them, and sends their records to the supervisor in batches.

Records wait in a buffer of bounded size while the supervisor does not read; what does not fit is counted, so that a tap
never delays traffic or other reports. `Runtime.taps` is None again when the last tap has ended.
"""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Final

import msgspec

from pymosn.proxy.runtime import Runtime
from pymosn.proxy.taps import Tap, TapRule, Taps
from pymosn.server.channel import Channel
from pymosn.server.messages import Command, StartTap, Tapped

#: Bytes of records that wait, for all taps together.
WAITING_BYTES: Final = 8 * 1024 * 1024
#: Bytes of records in one message, about.
BATCH_BYTES: Final = 512 * 1024
#: Seconds until records are sent, and until the next attempt while the channel is busy.
DELAY: Final = 0.02


class TapOutbox:
    """`worker`: the number of this worker, for the records."""

    def __init__(self, loop: asyncio.AbstractEventLoop, runtime: Runtime, channel: Channel[Command], worker: int) -> None:
        self._loop = loop
        self._runtime = runtime
        self._channel = channel
        self._worker = worker
        self._taps: dict[int, Tap] = {}
        self._waiting: list[tuple[int, bytes]] = []
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None
        # What was dropped of each tap when that was last reported.
        self._reported: dict[int, int] = {}

    def start(self, command: StartTap) -> None:
        """Starts a tap; once is enough."""
        if command.tap in self._taps:
            return
        asked = command.options
        rule = TapRule(
            listener=asked.listener,
            protocol=asked.protocol,
            method=asked.method,
            path=asked.path,
            host=asked.host,
            route=asked.route,
            cluster=asked.cluster,
            headers=[(name.lower(), value) for name, value in asked.headers],
            statuses=list(asked.statuses),
            reason=asked.reason,
            slower=asked.slower,
            client=asked.client,
            sample=asked.sample,
            bodies=asked.bodies,
            rate=asked.rate,
            byte_rate=asked.byte_rate,
        )
        tap = Tap(command.tap, rule, self._runtime.clock, partial(self._take, command.tap))
        self._taps[command.tap] = tap
        taps = self._runtime.taps or Taps()
        taps.taps = [*taps.taps, tap]
        self._runtime.taps = taps
        self._channel.send(Tapped(command.tap, [], 0, True))

    def stop(self, number: int) -> None:
        """Ends a tap: what waits of it is dropped."""
        tap = self._taps.pop(number, None)
        taps = self._runtime.taps
        if tap is None or taps is None:
            return
        tap.is_open = False
        taps.taps = [one for one in taps.taps if one is not tap]
        if not taps.taps:
            self._runtime.taps = None
        self._waiting = [(owner, record) for owner, record in self._waiting if owner != number]
        self._size = sum(len(record) for _, record in self._waiting)
        self._reported.pop(number, None)

    def _take(self, number: int, record: Mapping[str, object]) -> None:
        line = msgspec.json.encode({"worker": self._worker, **record})
        if self._size + len(line) > WAITING_BYTES:
            self._taps[number].dropped += 1
        else:
            self._waiting.append((number, line))
            self._size += len(line)
        if self._timer is None:
            self._timer = self._loop.call_later(DELAY, self._flush)

    def _flush(self) -> None:
        self._timer = None
        if not self._channel.is_flushed:
            self._timer = self._loop.call_later(DELAY, self._flush)
            return
        batches: dict[int, list[bytes]] = {}
        size = count = 0
        for number, line in self._waiting:
            if size >= BATCH_BYTES:
                break
            batches.setdefault(number, []).append(line)
            size += len(line)
            count += 1
        del self._waiting[:count]
        self._size -= size
        for number, tap in self._taps.items():
            dropped = int(tap.dropped)
            if number in batches or dropped != self._reported.get(number, 0):
                self._channel.send(Tapped(number, batches.get(number, []), dropped - self._reported.get(number, 0)))
                self._reported[number] = dropped
        if self._waiting:
            self._timer = self._loop.call_later(DELAY, self._flush)
