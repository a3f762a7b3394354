"""Substitutes for what surrounds the data path: clock, log, and the event loop's side of a connection."""

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

from pymosn.api.network import NetworkFilter
from pymosn.core.clock import Clock
from pymosn.core.log import TRACE, Log
from pymosn.core.timers import TimerWheel
from pymosn.network.connection import ConnectionOwner, TcpConnection

#: What clients and hosts speak unless a test or a filter chooses the other one.
PROTOCOL: Final = "Http1"
HTTP2: Final = "Http2"
#: Seconds of real time that an exchange may take.
TEST_TIMEOUT: Final = 10.0


async def rounds(count: int = 50) -> None:
    """Runs the event loop for `count` iterations."""
    for _ in range(count):
        await asyncio.sleep(0)


async def call(action: Callable[[], None]) -> None:
    """Calls `action` as the event loop calls the callbacks of sockets: in its next iteration, outside of any task."""
    done = asyncio.get_running_loop().create_future()

    def settle() -> None:
        try:
            action()
        except BaseException as error:
            done.set_exception(error)
        else:
            if not done.done():
                done.set_result(None)

    asyncio.get_running_loop().call_soon(settle)
    await done


class FakeClock(Clock):
    """Moves only when a test changes `now`. The wall clock is the real one unless `wall_time` is set."""

    def __init__(self, now: float = 1000.0, wall_time: float | None = None) -> None:
        super().__init__()
        self.now = now
        self.wall_time = wall_time

    def tick(self) -> float:
        return self.now

    def wall(self) -> float:
        return super().wall() if self.wall_time is None else self.wall_time


class Lines(Log):
    """A log that keeps its lines."""

    def __init__(self) -> None:
        super().__init__()
        self.level = TRACE
        self.lines: list[str] = []
        self.alerts: list[str] = []

    def write(self, level: int, text: str, alert: str = "") -> None:
        self.lines.append(text)
        self.alerts.append(alert)


class Wire:
    """A connection of the proxy without a socket: its bytes go to `on_bytes`, and its end is reported by `on_end`."""

    def __init__(
        self, network_filter: NetworkFilter, number: int, address: tuple[str, int], clock: Clock, wheel: TimerWheel
    ) -> None:
        """`address`: of the other end."""
        self.connection = TcpConnection(number, [network_filter], ConnectionOwner(), clock, wheel)
        #: Set while the proxy reads.
        self.is_read = asyncio.Event()
        self.is_read.set()
        self.is_lost = False
        self._address = address

    def open(self) -> None:
        """The connection is open."""
        self.connection.connection_made(cast(asyncio.Transport, self))

    def on_bytes(self, data: bytes) -> None:
        """The proxy has sent something."""
        raise NotImplementedError

    def on_end(self) -> None:
        """The proxy has closed the connection."""

    async def send(self, data: bytes) -> None:
        """Sends bytes to the proxy, as soon as it reads."""
        while not self.is_read.is_set() and not self.is_lost:
            await self.is_read.wait()
        await call(lambda: self._deliver(data))

    def _deliver(self, data: bytes) -> None:
        if not self.is_lost:
            self.connection.data_received(data)

    def lose(self) -> None:
        """The connection is gone."""
        if not self.is_lost:
            self.is_lost = True
            self.is_read.set()
            self.connection.connection_lost(None)

    # ---- what the connection calls: an asyncio.Transport

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str) -> Any:
        return {"peername": self._address, "sockname": ("192.0.2.2", 80)}.get(name)

    def write(self, data: bytes) -> None:
        self.on_bytes(data)

    def writelines(self, parts: list[bytes]) -> None:
        self.on_bytes(b"".join(parts))

    def pause_reading(self) -> None:
        self.is_read.clear()

    def resume_reading(self) -> None:
        self.is_read.set()

    def write_eof(self) -> None:
        self.on_end()

    def close(self) -> None:
        self.on_end()
        asyncio.get_running_loop().call_soon(self.lose)

    def abort(self) -> None:
        self.close()
