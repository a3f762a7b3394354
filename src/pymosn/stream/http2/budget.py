"""The budget of a connection for frames that cost the receiver more than the sender.

Each kind of frame has an allowance: a number that may come at once, and a rate at which it is restored. Useful work adds to
it where peers react to that work, for example with WINDOW_UPDATE to DATA. When an allowance is used up, the connection ends
with ENHANCE_YOUR_CALM. The numbers are far above what clients do: grpc-go and grpc-core send a PING for each round trip
with DATA, libraries such as `h2` two WINDOW_UPDATE frames for each DATA frame, Firefox and nghttp a few PRIORITY frames for
each stream, and gateways cancel some per cent of their requests. And they are far below what an attack needs: a rapid reset
(CVE-2023-44487) with thousands of resets a second, or streams that we are made to reset (CVE-2025-8671) at that rate.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64, mypyc_attr

#: Resets by the peer before our side has ended, and by us because of what the peer sent, 200 at once and 20 a second. A
#: completed stream restores one half, so that a busy client may cancel a third of its requests. A client may reset streams
#: whose response has begun, or that have lasted for a while: many of gRPC end in no other way, and all do when a host hangs,
#: by their deadlines. Their number is limited by that of the streams at a time, as is that of other requests.
RESETS: Final[i64] = 400
RESET_RATE: Final[i64] = 40
RESET_COST: Final[i64] = 2
LASTING: Final = 0.1
#: Streams to a host that are reset before it has answered, 100 at once and 10 a second; answered ones restore one half. Then
#: another connection replaces it: hosts have such budgets too, and all clients share the connection that they would end.
CANCELS: Final[i64] = 200
CANCEL_RATE: Final[i64] = 20
#: SETTINGS: some clients change their window with the measured bandwidth, a few times at the start.
SETTINGS: Final[i64] = 100
SETTINGS_RATE: Final[i64] = 5
#: PING: one for each DATA frame that we send or receive is free.
PINGS: Final[i64] = 200
PING_RATE: Final[i64] = 20
#: PRIORITY, PRIORITY_UPDATE and unknown frames: four for each stream are free.
PRIORITIES: Final[i64] = 500
PRIORITY_RATE: Final[i64] = 20
PRIORITIES_OF_STREAM: Final[i64] = 4
#: WINDOW_UPDATE: ten for each stream and for each DATA frame that we sent are free, unless the window has cut that frame
#: very short: a client that opens its window byte by byte would pay for one frame with another.
UPDATES: Final[i64] = 1000
UPDATE_RATE: Final[i64] = 100
UPDATES_OF_FRAME: Final[i64] = 10
#: DATA without content that does not end its stream. Small frames are no waste: gRPC messages may have a few bytes.
#: Two for each stream are free: some hosts flush nothing.
EMPTY_DATA: Final[i64] = 100
EMPTY_DATA_RATE: Final[i64] = 10
EMPTY_DATA_OF_STREAM: Final[i64] = 2


@mypyc_attr(acyclic=True)
class Allowance:
    """A number of frames, restored at `rate` a second. Negative when more was earned than used."""

    def __init__(self, size: i64, rate: i64) -> None:
        self._size: i64 = size
        self._rate: i64 = rate
        self._used: i64 = 0
        self._since: float = 0.0

    def take(self, now: float, cost: i64 = 1) -> bool:
        """Uses `cost`; False if that is more than is left. `now`: by `Clock.now`."""
        self._used += cost
        if self._used <= self._size:
            if self._used <= cost:
                self._since = now
            return True
        restored: i64 = i64((now - self._since) * float(self._rate))
        if restored <= 0:
            return False
        self._since = now
        self._used -= restored
        if self._used < cost:
            self._used = cost
        return self._used <= self._size

    def earn(self, count: i64) -> None:
        """Adds `count`; no more than twice the allowance can be saved up."""
        self._used -= count
        if self._used < -self._size:
            self._used = -self._size


@mypyc_attr(acyclic=True)
class Budget:
    """The allowances of one connection."""

    def __init__(self) -> None:
        self.resets = Allowance(RESETS, RESET_RATE)
        self.settings = Allowance(SETTINGS, SETTINGS_RATE)
        self.pings = Allowance(PINGS, PING_RATE)
        self.priorities = Allowance(PRIORITIES, PRIORITY_RATE)
        self.updates = Allowance(UPDATES, UPDATE_RATE)
        self.empty_data = Allowance(EMPTY_DATA, EMPTY_DATA_RATE)
        # DATA frames, and those sent, that have earned something already.
        self._data: i64 = 0
        self._sent: i64 = 0

    def take_reset(self, now: float) -> bool:
        """A stream was reset by the peer, or because of it. False if it was one too many, as for the others."""
        return self.resets.take(now, RESET_COST)

    def take_ping(self, now: float, data: i64) -> bool:
        """A PING has arrived. `data`: DATA frames of either direction so far."""
        self.pings.earn(data - self._data)
        self._data = data
        return self.pings.take(now)

    def take_update(self, now: float, sent: i64) -> bool:
        """A WINDOW_UPDATE has arrived. `sent`: DATA frames sent so far."""
        self.updates.earn((sent - self._sent) * UPDATES_OF_FRAME)
        self._sent = sent
        return self.updates.take(now)

    def on_stream(self) -> None:
        """The peer has opened a stream."""
        self.updates.earn(UPDATES_OF_FRAME)
        self.priorities.earn(PRIORITIES_OF_STREAM)
        self.empty_data.earn(EMPTY_DATA_OF_STREAM)

    def on_completed(self) -> None:
        """A stream has ended after all that was to be sent."""
        self.resets.earn(1)
