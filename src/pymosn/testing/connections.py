"""Tests connection filters without a server: the proxy's real pipe and connection, with a simulated client and proxy.

from pymosn.testing import ConnectionWorld, tls_facts

async def test_guard():
    async with ConnectionWorld((Guard, {"names": ["shop.example"]})) as world:
        client = await world.connect(tls=tls_facts("shop.example"))
        await client.send(b"hello")
        assert client.passed_on == b"hello"
        await client.reply(b"welcome")
        assert client.received == b"welcome"
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from types import TracebackType
from typing import Any, Final, Self, cast

from pymosn.api.connection_filter import ConnectionFilter, SharedState
from pymosn.api.network import NO_CONNECTION, STOP, Connection, FilterChainFactory, NetworkFilter
from pymosn.api.stream_filter import FilterContext
from pymosn.api.tls import ClientCertificate, TlsInfo
from pymosn.core.addresses import normal_ip
from pymosn.core.counters import DownstreamStats
from pymosn.core.failure import CLOSED_LOCALLY, Failure
from pymosn.core.foreign import outcome
from pymosn.filters.loading import is_connection_filter
from pymosn.filters.typed_config import typed_config
from pymosn.proxy.cluster_client import ClusterClients
from pymosn.proxy.connection_filters import ConnectionFilterHandle, ConnectionFilters, FilteredChain
from pymosn.proxy.filter_pipe import FilterPipe
from pymosn.testing.answers import Answer
from pymosn.testing.fakes import TEST_TIMEOUT, Wire, call, rounds
from pymosn.testing.mistakes import InvalidTest
from pymosn.testing.world import Clients, World

#: A filter: its class, or that and its configuration.
Filter = type[ConnectionFilter] | tuple[type[ConnectionFilter], Mapping[str, object]]
_IDLE_TIMEOUT: Final = 90.0


def tls_facts(
    server_name: str = "",
    *,
    uris: tuple[str, ...] = (),
    dns_names: tuple[str, ...] = (),
    subject: str = "",
    is_verified: bool = True,
    version: str = "TLSv1.3",
) -> TlsInfo:
    """Facts of a TLS handshake; with a certificate of the client if one of `uris`, `dns_names` and `subject` is given."""
    facts = TlsInfo()
    facts.version, facts.server_name = version, server_name
    if uris or dns_names or subject:
        facts.certificate = ClientCertificate(
            is_verified=is_verified,
            subject=subject,
            issuer="CN=test",
            serial="01",
            fingerprint="00" * 32,
            dns_names=dns_names,
            uris=uris,
            not_after=4102444800.0,
            der=b"",
        )
    return facts


class _Later(NetworkFilter):
    """The other filters of the chain: they keep what they get."""

    def __init__(self) -> None:
        self.connection: Connection = NO_CONNECTION
        self.data = b""
        self.has_eof = False
        self.reason = ""

    def on_connection(self, connection: Connection) -> None:
        self.connection = connection

    def on_data(self, data: bytes) -> bool:
        self.data += data
        return STOP

    def on_eof(self) -> None:
        self.has_eof = True

    def on_close(self, failure: Failure) -> None:
        self.reason = failure.reason


class _LaterFactory(FilterChainFactory):
    def __init__(self) -> None:
        self.refused = ""
        self.made: list[_Later] = []

    def create(self) -> list[NetworkFilter]:
        self.made.append(_Later())
        return [self.made[-1]]

    def on_refused(self, connection: Connection, failure: Failure) -> None:
        self.refused = failure.reason


class FilteredClient(Wire):
    """A client of a ConnectionWorld."""

    def __init__(self, world: ConnectionWorld, ip: str, number: int, tls: TlsInfo | None) -> None:
        self._later = _LaterFactory()
        chain = world.chain(None if world.is_last else self._later)
        runtime = world.runtime
        super().__init__(FilterPipe(runtime, chain), number, (ip, 50000), runtime.clock, runtime.wheel)
        self.connection.tls = tls
        self.connection.scheme = "http" if tls is None else "https"
        #: What the client has received.
        self.received = b""
        #: Whether it has received the end, and whether that was a reset.
        self.is_closed = False
        self.was_reset = False

    @property
    def is_known(self) -> bool:
        """Whether all filters have let the connection pass, so that the proxy knows it."""
        return bool(self._later.made)

    @property
    def passed_on(self) -> bytes:
        """What the proxy has received."""
        return self._later.made[0].data if self._later.made else b""

    @property
    def has_passed_on_eof(self) -> bool:
        """Whether the proxy has received the end of the client's bytes."""
        return bool(self._later.made) and self._later.made[0].has_eof

    @property
    def reason(self) -> str:
        """The reason word of its end, as the proxy sees it; empty before."""
        return self._later.refused or (self._later.made[0].reason if self._later.made else "")

    async def send(self, data: bytes, each: int = 0) -> None:
        """The client sends bytes, in pieces of `each` bytes; 0: at once."""
        for start in range(0, len(data), each or len(data) or 1):
            await self._wait(super().send(data[start : start + (each or len(data))]))
        await rounds()

    async def end(self) -> None:
        """The client sends no more, and may still read."""
        await call(self._eof)
        await rounds()

    def _eof(self) -> None:
        if not self.is_lost:
            self.connection.eof_received()

    async def leave(self) -> None:
        """The client is gone."""
        await call(self.lose)
        await rounds()

    async def reply(self, data: bytes) -> None:
        """The proxy writes bytes for the client."""
        later = self._proxy()
        await call(lambda: later.connection.write(data))
        await rounds()

    async def hang_up(self) -> None:
        """The proxy closes the connection."""
        later = self._proxy()
        await call(lambda: later.connection.close(CLOSED_LOCALLY))
        await rounds()

    def _proxy(self) -> _Later:
        if not self._later.made:
            raise InvalidTest("the proxy does not know this connection: there is no proxy, or a filter has not let it pass")
        return self._later.made[0]

    async def _wait(self, work: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(TEST_TIMEOUT):
                await work
        except TimeoutError:
            raise InvalidTest("a filter has paused reading, or its on_connection has not ended") from None

    def on_bytes(self, data: bytes) -> None:
        self.received += data

    def on_end(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.was_reset = not self.is_closed
        super().abort()


class ConnectionWorld:
    """A chain of connection filters, clusters of simulated hosts, and a clock that only `advance` moves.

    `async with` starts and stops the filters. Errors of filters are results: `client.was_reset`, `reason` and `log`.
    InvalidTest reports a mistake in the test.
    """

    def __init__(
        self, *filters: Filter, clusters: Mapping[str, Answer] | None = None, workers: int = 1, is_last: bool = False
    ) -> None:
        """`is_last`: no `proxy` or `tcp_proxy` follows. `clusters`: for subrequests, as for `World`.

        Raises InvalidTest, TypeError for a class that the server would not accept, and FilterConfigError.
        """
        if not filters:
            raise InvalidTest("a ConnectionWorld needs a connection filter")
        self._world = World([], clusters=clusters, workers=workers)
        self.is_last = is_last
        self.runtime = self._world._runtime
        self.clock = self._world.clock
        #: Lines of the process log.
        self.log: list[str] = self._world.log
        #: The shared states of the filters, in order.
        self.shared: list[SharedState] = []
        self._clients: list[FilteredClient] = []
        self._handles = [self._handle(entry, workers) for entry in filters]
        self._stats = DownstreamStats(self._world.metrics.group("downstream", ("listener", "test")))

    def _handle(self, entry: Filter, workers: int) -> ConnectionFilterHandle:
        kind, config = entry if isinstance(entry, tuple) else (entry, {})
        if not is_connection_filter(kind):
            raise InvalidTest(f"expected a class of connection filters, or that and its configuration, not {kind!r:.60}")
        if not isinstance(config, Mapping):
            raise InvalidTest(f"the configuration of a filter must be a dict, not {config!r:.60}")
        name = kind.__name__
        metrics = self._world.metrics
        shared = kind.Shared(typed_config(kind.Config, dict(config)))
        handle = ConnectionFilterHandle(name, kind, shared, metrics)
        clients = Clients(self._world, ClusterClients(self.runtime))
        group = metrics.group("filter", ("filter", name))
        shared.context = FilterContext(name, self._world._log, clients, self.clock, group, workers, 0)
        self.shared.append(shared)
        return handle

    def chain(self, later: FilterChainFactory | None) -> FilteredChain:
        """The chain of one connection."""
        return FilteredChain(ConnectionFilters(self._handles), later, self._stats, [], _IDLE_TIMEOUT)

    async def connect(self, ip: str = "192.0.2.1", tls: TlsInfo | None = None) -> FilteredClient:
        """A client connects. `ip`: empty for a unix socket. `tls`: the facts of its handshake; see `tls_facts`."""
        if ip and not normal_ip(ip):
            raise InvalidTest(f"ip must be an IP address, or empty for a unix socket, not {ip!r:.60}")
        client = FilteredClient(self, ip, int(self._world._hosts.numbers.next()), tls)
        self._clients.append(client)
        await call(client.open)
        await rounds()
        return client

    async def drain(self) -> None:
        """The worker is about to stop."""
        for client in self._clients:
            if not client.is_lost:
                await call(client.connection.drain)
        await rounds()

    async def advance(self, seconds: float) -> None:
        """Advances the clock for timeouts, and lets the event loop run."""
        await self._world.advance(seconds)

    def counter(self, filter_name: str, key: str) -> int:
        """A filter's counter: `calls`, `errors`, `timeouts`, or a custom one."""
        names = [handle.name for handle in self._handles]
        if filter_name not in names:
            raise InvalidTest(f"there is no filter {filter_name!r:.60}, only {', '.join(names)}")
        return int(self._world.metrics.group("filter", ("filter", filter_name)).counter(key).value)

    async def __aenter__(self) -> Self:
        await self._world.start()
        for shared in self.shared:
            await self._finish(shared.start, "start", shared)
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        for client in self._clients:
            await client.leave()
        for shared in self.shared:
            await shared.context.end_tasks()
            await self._finish(shared.stop, "stop", shared)
        await self._world.stop()

    async def _finish(self, work: Any, name: str, shared: SharedState) -> None:
        error = await outcome(work, TEST_TIMEOUT)
        if error is not None:
            raise InvalidTest(f"`{name}` of {type(shared).__name__} failed") from cast("Exception", error)
