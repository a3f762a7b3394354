"""Connects to a host whose name has several addresses, some of which may not answer: happy eyeballs (RFC 8305).

The resolver's order is kept, except that the address families take turns (section 4), and that an address which won because
those before it did not answer comes first for GOOD_TIME. Attempts overlap (section 5): the next one begins when the last
one has failed, or after a delay. The first connection that opens wins, and the others are closed at once.

What is not done: the lookups of the two families are not raced (section 3), because the system's resolver answers both
together.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any, Final

from pymosn.api.network import DialRule, Peer
from pymosn.core.addresses import normal_ip, split_address
from pymosn.core.clock import Clock
from pymosn.core.failure import LOOP, Failure
from pymosn.network.admission import SHORTAGES
from pymosn.network.marks import set_mark

#: Seconds for which an address that won against others is tried first, and the most names that are remembered.
GOOD_TIME: Final = 600.0
GOOD_NAMES: Final = 1024

#: Opens a socket that is connected to an IP address. Raises OSError.
Connect = Callable[[str], Coroutine[Any, Any, socket.socket]]


class Refused(Exception):
    """Raised when the peer's rule accepts none of its addresses."""

    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(detail)
        self.failure = failure


def permitted(rule: DialRule, ips: list[str], port: int) -> list[str]:
    """Those of the resolved addresses that `rule` accepts. Raises Refused if there are none."""
    refusal: Refused | None = None
    accepted: list[str] = []
    for ip in ips:
        fault = rule.fault(ip, port)
        if fault is None:
            accepted.append(ip)
        elif refusal is None:
            why = "an address of this process" if fault is LOOP else "not an allowed destination"
            refusal = Refused(fault, f"{ip} port {port} is {why}")
    if not accepted and refusal is not None:
        raise refusal
    return accepted


def interleave(ips: list[str]) -> list[str]:
    """Addresses without duplicates, in their order within each family; the families take turns, that of the first begins."""
    distinct = list(dict.fromkeys(ips))
    if not distinct:
        return distinct
    is_first_ipv6 = ":" in distinct[0]
    leading = [ip for ip in distinct if (":" in ip) == is_first_ipv6]
    others = [ip for ip in distinct if (":" in ip) != is_first_ipv6]
    found: list[str] = []
    for position in range(max(len(leading), len(others))):
        found += leading[position : position + 1]
        found += others[position : position + 1]
    return found


class GoodAddresses:
    """The addresses that have answered when those before them in the resolver's order did not."""

    def __init__(self) -> None:
        # By the peer's address: the IP address, and until when it is tried first.
        self._known: dict[str, tuple[str, float]] = {}

    def order(self, address: str, ips: list[str], now: float) -> list[str]:
        """`ips` in the order in which they are to be tried."""
        known = self._known.get(address)
        if known is None:
            return ips
        if known[1] <= now:
            del self._known[address]
            return ips
        good = known[0]
        return [good, *[ip for ip in ips if ip != good]] if good in ips else ips

    def note(self, address: str, ip: str, now: float) -> None:
        """`ip` has won against addresses that come before it."""
        known = self._known
        known.pop(address, None)
        if len(known) >= GOOD_NAMES:
            del known[next(iter(known))]
        known[address] = (ip, now + GOOD_TIME)

    def forget(self, address: str) -> None:
        """A connection to the address has opened, but is of no use."""
        self._known.pop(address, None)


class Race:
    """Attempts to connect to one of several addresses."""

    def __init__(self, ips: list[str], delay: float, connect: Connect) -> None:
        """`ips`: in order, at least one. `delay`: seconds before the next attempt while the last one has no result."""
        self._waiting = list(ips)
        self._delay = delay
        self._connect = connect
        self._running: dict[asyncio.Task[socket.socket], str] = {}
        # By address, those that were tried: why they failed, None while there is no result.
        self._errors: dict[str, OSError | None] = {}

    async def run(self) -> tuple[str, socket.socket]:
        """The address that was reached first, and its socket. Raises OSError with all reasons if there is none.

        The caller limits the time. A race that is cancelled closes its sockets.
        """
        try:
            while True:
                self._begin_next()
                limit = self._delay if self._waiting else None
                done, _ = await asyncio.wait(list(self._running), timeout=limit, return_when=asyncio.FIRST_COMPLETED)
                won = self._take(done)
                if won is not None:
                    return won
                if not self._running and not self._waiting:
                    raise self._error()
        finally:
            self._abandon()

    def _begin_next(self) -> None:
        if self._waiting:
            ip = self._waiting.pop(0)
            self._errors[ip] = None
            self._running[asyncio.get_running_loop().create_task(self._connect(ip))] = ip

    def _take(self, done: set[asyncio.Task[socket.socket]]) -> tuple[str, socket.socket] | None:
        """Removes attempts that have a result, up to one that has succeeded: its address and socket."""
        for task, ip in list(self._running.items()):
            if task not in done:
                continue
            del self._running[task]
            error = task.exception()
            if error is None:
                del self._errors[ip]
                return ip, task.result()
            if not isinstance(error, OSError):
                raise error
            self._errors[ip] = error
        return None

    def _abandon(self) -> None:
        """Closes the sockets of the others."""
        for task in self._running:
            task.add_done_callback(_close_result)
            task.cancel()
        self._running.clear()

    def account(self) -> str:
        """What has become of each address, for a failure."""
        texts = [f"{ip}: {'no answer' if error is None else text_of(error)}" for ip, error in self._errors.items()]
        texts += [f"{ip}: not tried" for ip in self._waiting]
        return "; ".join(texts)

    def _error(self) -> OSError:
        """The failure of all: a shortage of this process explains more than a refusal, and that more than no route."""
        numbers = [error.errno or 0 for error in self._errors.values() if error is not None]
        number = numbers[-1]
        if errno.ECONNREFUSED in numbers:
            number = errno.ECONNREFUSED
        for found in numbers:
            if found in SHORTAGES:
                number = found
        return OSError(number, self.account())


def text_of(error: OSError) -> str:
    """The reason of an error, without its number."""
    return error.strerror or str(error) or type(error).__name__


def _close_result(task: asyncio.Task[socket.socket]) -> None:
    """An abandoned attempt has ended."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()


async def resolve(host: str, port: int) -> list[str]:
    """The IP addresses of a name or of a number in any notation, in the order of the resolver. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


async def open_socket(ip: str, port: int, bind: str, mark: int) -> socket.socket:
    """A socket that is connected to an IP address.

    `bind`: the local IP address; empty for the system's choice. `mark`: SO_MARK; 0 for none. Raises OSError.
    """
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if mark != 0:
            set_mark(sock, mark)
        if bind:
            sock.bind((bind, 0))
        await _connect(sock, ip, port)
    except BaseException:
        sock.close()
        raise
    return sock


async def _connect(sock: socket.socket, ip: str, port: int) -> None:
    try:
        await asyncio.get_running_loop().sock_connect(sock, (ip, port))
    except OSError as error:
        # The event loop's text has the address instead of the reason.
        raise OSError(error.errno, os.strerror(error.errno)) if error.errno else error from None


class HostDial:
    """One dial to the addresses of a peer, for everything that connects to hosts: the dialer, and health checks."""

    def __init__(self, peer: Peer, good: GoodAddresses, clock: Clock) -> None:
        """Raises ValueError if the peer has no valid address."""
        self._peer = peer
        self._good = good
        self._clock = clock
        self.host, self.port = split_address(peer.address)
        if not self.host or self.port == 0:
            raise ValueError(f"invalid address: {peer.address!r}")
        self._race: Race | None = None
        # The first address in the resolver's order, and the one that was tried first.
        self._first = ""
        self._tried = ""
        #: The address that was reached; empty before.
        self.reached = ""

    async def find(self) -> list[str]:
        """The addresses in the order in which they are to be tried, at least one. Raises OSError, ValueError, Refused."""
        peer, host = self._peer, self.host
        # With a colon it is an IPv6 address, perhaps with a zone, which the event loop's resolver drops.
        if peer.rule is None and (":" in host or normal_ip(host)):
            return [host]
        ips = await resolve(host, self.port)
        if peer.rule is not None:
            ips = permitted(peer.rule, ips, self.port)
        if peer.bind:  # the other family cannot be reached from there
            ips = [ip for ip in ips if (":" in ip) == (":" in peer.bind)] or ips
        if not ips:
            raise ValueError(f"no address for {peer.address!r}")
        ips = interleave(ips)
        self._first = ips[0]
        return self._good.order(peer.address, ips, self._clock.now) if len(ips) > 1 else ips

    async def open(self, ips: list[str]) -> socket.socket:
        """A socket that is connected to one of these addresses. Raises OSError."""
        self._tried = ips[0]
        race = self._race = Race(ips, self._peer.attempt_delay, self._open)
        self.reached, sock = await race.run()
        return sock

    async def _open(self, ip: str) -> socket.socket:
        return await open_socket(ip, self.port, self._peer.bind, int(self._peer.mark))

    @property
    def is_race(self) -> bool:
        """Whether `open` was called."""
        return self._race is not None

    def account(self) -> str:
        """What has become of each address but the one that was reached; empty if `open` was not called."""
        return "" if self._race is None else self._race.account()

    def remember(self) -> bool:
        """The connection serves its purpose. Whether its address is remembered now, because others did not answer."""
        if not self.reached or self.reached == self._tried:
            return False
        if self.reached == self._first:
            self._good.forget(self._peer.address)  # the other one was better, but is not any more
            return False
        self._good.note(self._peer.address, self.reached, self._clock.now)
        return True

    def on_unusable(self) -> None:
        """There is no connection, or it is of no use: its address has no preference any more."""
        self._good.forget(self._peer.address)


__all__ = [
    "Connect",
    "GoodAddresses",
    "HostDial",
    "Race",
    "Refused",
    "interleave",
    "open_socket",
    "permitted",
    "resolve",
    "text_of",
]
