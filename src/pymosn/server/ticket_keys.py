"""The secret of session tickets: all workers have the same one, so that a client can resume its session with any of them.

It is made here, kept in memory only, and replaced at an interval, because whoever has it can decrypt the TLS 1.2 sessions
that were resumed with it. The tickets of before then end, and each client makes one full handshake. It outlives reloads
and upgrades: what makes a ticket invalid after a change is the identity of its context (`network/tls/tickets.py`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from pymosn.control.service import Service
from pymosn.core.clock import Clock
from pymosn.core.log import DEBUG, Log
from pymosn.server.messages import SetTicketSecret

#: Seconds after which the secret is replaced.
LIFETIME: Final = 12 * 3600.0
#: The longest time in seconds between two looks at the clock, because the machine may be suspended meanwhile.
LONGEST_PAUSE: Final = 600.0
#: Bytes of the secret.
SIZE: Final = 48


class CarriedSecret(msgspec.Struct, frozen=True):
    """The secret for the next generation, and its age in seconds."""

    secret: bytes
    age: float


class TicketKeys(Service):
    """Makes the secret, and sends it to all workers whenever it is replaced."""

    name = "ticket keys"

    def __init__(
        self,
        send: Callable[[SetTicketSecret], None],
        clock: Clock,
        log: Log,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """`send`: to all workers. A worker that starts gets `command`."""
        self._send = send
        self._clock = clock
        self._log = log
        self._sleep = sleep
        self._random = random
        self._secret = random(SIZE)
        self._made = clock.wall()
        self._task: asyncio.Task[None] | None = None

    def command(self) -> SetTicketSecret:
        """What a new worker must get before it serves."""
        return SetTicketSecret(self._secret)

    def export(self) -> bytes:
        """The secret and its age, for the next generation."""
        return msgspec.msgpack.encode(CarriedSecret(self._secret, self._clock.wall() - self._made))

    def adopt(self, content: bytes) -> None:
        """Continues with the secret of the generation before, which is replaced when it would have been there."""
        found = msgspec.msgpack.decode(content, type=CarriedSecret)
        if len(found.secret) != SIZE:
            raise ValueError(f"expected a secret of {SIZE} bytes, got {len(found.secret)}")
        is_other = found.secret != self._secret
        self._secret, self._made = found.secret, self._clock.wall() - found.age
        if is_other:
            self._send(self.command())

    async def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while True:
            age = self._clock.wall() - self._made
            if not 0.0 <= age < LIFETIME:  # also if the clock was set back
                self._secret, self._made, age = self._random(SIZE), self._clock.wall(), 0.0
                self._send(self.command())
                self._log.write(DEBUG, "the secret of session tickets was replaced")
            await self._sleep(min(LIFETIME - age, LONGEST_PAUSE))
