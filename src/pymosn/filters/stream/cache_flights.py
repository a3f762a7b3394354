"""Coalesces requests: one is sent to the upstream, the others for the same response wait for it."""

from __future__ import annotations

import asyncio
from typing import Final

from pymosn.filters.stream.cache_store import Values

#: Why a request no longer waits. It is now the one whose response the others wait for; a response has been stored;
#: there will be no response for it, so it goes to the upstream itself.
LEAD: Final = 1
AGAIN: Final = 2
GO: Final = 3

Waiters = dict[object, "asyncio.Future[int]"]


class Flight:
    """A request to the upstream, `leader`, and those that wait for its response, in the order of their arrival."""

    def __init__(self, key: bytes, values: tuple[Values, ...], leader: object) -> None:
        self.key = key
        self.values = values
        self.leader = leader
        self.waiters: Waiters = {}


class Flights:
    """All flights of a worker. A request that leads none, or no longer leads, has no effect on the others."""

    def __init__(self) -> None:
        self._by_key: dict[bytes, dict[tuple[Values, ...], Flight]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_key.values()))

    def join(self, key: bytes, values: tuple[Values, ...], request: object) -> Flight:
        """The flight for a response; `request` leads it if there was none. `values`: of the request fields in Vary."""
        of_key = self._by_key.setdefault(key, {})
        flight = of_key.get(values)
        if flight is None:
            flight = of_key[values] = Flight(key, values, request)
        return flight

    def find(self, key: bytes, values: tuple[Values, ...]) -> Flight | None:
        """The flight for a response, if there is one."""
        return self._by_key.get(key, {}).get(values)

    async def wait(self, flight: Flight, request: object, deadline: float) -> int:
        """Waits, at most until `deadline` (a time of the event loop): LEAD, AGAIN or GO.

        After that the request leads, because the leader may be as slow as its client reads. A request that is cancelled
        while it waits, or after it was told to lead, must be given to `leave`.
        """
        waiting: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        flight.waiters[request] = waiting
        try:
            async with asyncio.timeout_at(deadline):
                return await waiting
        except TimeoutError:
            if not waiting.done() or waiting.cancelled():
                flight.leader = request
                return LEAD
            return waiting.result()
        finally:
            flight.waiters.pop(request, None)

    def leave(self, flight: Flight, request: object) -> None:
        """The request ends without a response to store. If it led, the next one leads."""
        flight.waiters.pop(request, None)
        if flight.leader is not request:
            return
        for heir, waiting in flight.waiters.items():
            if not waiting.done():
                flight.leader = heir
                waiting.set_result(LEAD)
                return
        self._end(flight)

    def release(self, flight: Flight, leader: object) -> None:
        """The leader's response is not for others: all of them go to the upstream."""
        if flight.leader is leader:
            self._end(flight)
            _wake(flight, GO)

    def on_stored(self, key: bytes) -> None:
        """A response was stored: all that wait for one with this key check the store again."""
        for flight in list(self._by_key.get(key, {}).values()):
            _wake(flight, AGAIN)

    def land(self, flight: Flight, leader: object) -> None:
        """The leader's response has been stored: the flight is over."""
        if flight.leader is leader:
            self._end(flight)
            _wake(flight, AGAIN)

    def _end(self, flight: Flight) -> None:
        of_key = self._by_key.get(flight.key)
        if of_key is not None and of_key.get(flight.values) is flight:
            del of_key[flight.values]
            if not of_key:
                del self._by_key[flight.key]


def _wake(flight: Flight, outcome: int) -> None:
    for waiting in flight.waiters.values():
        if not waiting.done():
            waiting.set_result(outcome)
