"""How a worker's listeners end whose addresses nothing serves afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from pymosn.network.listener import Listener
from pymosn.network.udp import DatagramListener
from pymosn.server.half_open import half_open_ports

#: Seconds between two checks for remaining connections while draining.
DRAIN_PERIOD: Final = 0.02
#: Seconds for handshakes that have begun; more than the time to a client and back on almost every path.
HANDSHAKE_TIME: Final = 1.0


async def stop_listening(
    listeners: Sequence[Listener],
    limit: float = HANDSHAKE_TIME,
    half_open: Callable[[bool], set[int] | None] = half_open_ports,
) -> None:
    """Stops accepting, for good. Handshakes that have begun get `limit` seconds to complete: closing resets them.

    If it is unknown whether there are any, it waits for the whole time.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limit
    tcp = [listener.bound_address() for listener in listeners if not isinstance(listener, DatagramListener)]
    addresses = [address for address in tcp if address is not None]
    ports = {port for _, port in addresses}
    with_ipv6 = any(":" in ip for ip, _ in addresses)
    for listener in listeners:
        listener.refuse_new()
    while ports and loop.time() < deadline:
        found = await asyncio.to_thread(half_open, with_ipv6)
        if found is not None and ports.isdisjoint(found):
            break
        await asyncio.sleep(DRAIN_PERIOD)
    for listener in listeners:
        listener.stop_accepting()


async def close_listeners(listeners: Sequence[Listener], deadline: float) -> None:
    """Stops accepting and waits until no connection is left; at the deadline aborts the remaining ones."""
    loop = asyncio.get_running_loop()
    # One iteration of the event loop accepts the connections in the backlog; closing the socket would reset them.
    await asyncio.sleep(0)
    for listener in listeners:
        listener.drain()
    await stop_listening(listeners, min(HANDSHAKE_TIME, deadline - loop.time()))
    # Sockets accepted just now become connections in the next iteration, and must be drained too.
    await asyncio.sleep(DRAIN_PERIOD)
    for listener in listeners:
        listener.drain()
    while any(listener.connection_count for listener in listeners):
        await asyncio.sleep(DRAIN_PERIOD)
        if loop.time() > deadline:
            for listener in listeners:
                listener.abort_all()
