"""Opens outgoing connections. A dial is the one place on the data path that costs a task."""

from __future__ import annotations

import asyncio

from pymosn.api.network import Dialer, DialReceiver, NetworkFilter
from pymosn.core.addresses import UNIX, split_address
from pymosn.core.clock import Clock
from pymosn.core.failure import CONNECT_FAILED, CONNECT_REFUSED, CONNECT_TIMEOUT, Failure
from pymosn.core.timers import TimerWheel
from pymosn.network.admission import LACKS, Admission
from pymosn.network.connection import ConnectionOwner, TcpConnection
from pymosn.network.listener import ConnectionNumbers


class TcpDialer(Dialer):
    """Dials on the running event loop, TCP or (`unix:/path`) a unix socket."""

    def __init__(
        self, numbers: ConnectionNumbers, clock: Clock, wheel: TimerWheel, admission: Admission | None = None
    ) -> None:
        """`admission`: who is told when there is no descriptor for a dial."""
        self._admission = admission
        self._numbers = numbers
        self._clock = clock
        self._wheel = wheel
        self._owner = ConnectionOwner()
        self._owner.drains_after_reset = True
        # The loop keeps only weak references to tasks.
        self._tasks: set[asyncio.Task[None]] = set()

    def dial(self, address: str, timeout: float, network_filter: NetworkFilter, receiver: DialReceiver) -> None:
        task = asyncio.get_running_loop().create_task(self._dial(address, timeout, network_filter, receiver))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _dial(self, address: str, timeout: float, network_filter: NetworkFilter, receiver: DialReceiver) -> None:
        connection = TcpConnection(self._numbers.next(), [network_filter], self._owner, self._clock, self._wheel)
        failure: Failure
        try:
            async with asyncio.timeout(timeout):
                await self._connect(address, connection)
        except TimeoutError:
            failure, detail = CONNECT_TIMEOUT, f"no connection within {timeout:g} s"
        except ConnectionRefusedError as error:
            failure, detail = CONNECT_REFUSED, str(error)
        except (OSError, ValueError) as error:
            failure, detail = CONNECT_FAILED, str(error)
            if isinstance(error, OSError) and error.errno in LACKS and self._admission is not None:
                self._admission.on_lack(error.errno or 0)
        else:
            self._clock.tick()
            receiver.on_dialed(connection)
            return
        self._clock.tick()
        receiver.on_dial_failed(failure, detail)

    async def _connect(self, address: str, connection: TcpConnection) -> None:
        loop = asyncio.get_running_loop()
        if address.startswith(UNIX):
            await loop.create_unix_connection(lambda: connection, address.removeprefix(UNIX))  # type: ignore[type-var]
        else:
            host, port = split_address(address)
            if not host or port == 0:
                raise ValueError(f"nothing to connect to: {address!r}")
            await loop.create_connection(lambda: connection, host, port)  # type: ignore[type-var]
