"""Health checks over TLS, with real sockets: what passes, and the reason word of what does not."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
import uvloop
from tests.kit import Lines
from tests.kit import certificates as made

from pymosn.config.schema import Cluster, ClusterManager, Host, MosnConfig, TlsContext
from pymosn.config.schema.cluster import HealthCheck, HttpProbe, ProbeConfig
from pymosn.control.health import HealthChecks
from pymosn.control.probe import Prober, TlsProbe, Way
from pymosn.core.clock import Clock
from pymosn.network.tls.settings import ClientSettings, TlsSettings

PATIENCE = 20.0
CA = made.ca().certificate

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def settings(**keys: Any) -> ClientSettings:
    tls = {key: keys.pop(key) for key in list(keys) if key in TlsSettings._fields}
    return ClientSettings(TlsSettings(**{"ca": CA, **tls}), **keys)


def http(**keys: Any) -> HealthCheck:
    return HealthCheck(protocol="http", timeout=PATIENCE, check_config=ProbeConfig(http_check_config=HttpProbe(**keys)))


TCP = HealthCheck(protocol="tcp", timeout=PATIENCE)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    await writer.drain()
    writer.close()


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    await silence(reader, writer)


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


def run(scenario: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(scenario, PATIENCE))


async def check_once(
    check: HealthCheck,
    tls: ClientSettings | None,
    context: ssl.SSLContext | None,
    serve: Serve = answer,
    name: str = "127.0.0.1",
) -> bool | str:
    """Whether a host with `context` passes; the error if there is one."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    host, port = server.sockets[0].getsockname()[:2]
    try:
        return await Prober().probe(f"{host}:{port}", check, None if tls is None else TlsProbe(tls, name))
    except (OSError, TimeoutError) as error:
        return str(error).partition(":")[0] or type(error).__name__
    finally:
        server.close()


async def check_by_thread(check: HealthCheck, tls: ClientSettings, context: ssl.SSLContext) -> bool | str:
    """The same for a host that sends an alert when its handshake fails, which those of asyncio do not."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            raw, _ = listening.accept()
            with raw, contextlib.suppress(ssl.SSLError):
                context.wrap_socket(raw, server_side=True).close()

        served = asyncio.to_thread(serve)
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        found = await asyncio.gather(
            served, Prober().probe(address, check, TlsProbe(tls, "127.0.0.1")), return_exceptions=True
        )
        return str(found[1]).partition(":")[0]


@pytest.mark.parametrize("check", [TCP, http(path="/")])
@pytest.mark.parametrize(
    ("tls", "server", "name", "expected"),
    [
        (settings(), made.server(), "127.0.0.1", True),
        (settings(), made.server(), "server.test", True),
        (settings(), made.server(), "elsewhere.test", "tls_name_mismatch"),
        (settings(), made.expired(), "127.0.0.1", "tls_certificate_expired"),
        (settings(), made.not_yet_valid(), "127.0.0.1", "tls_certificate_not_yet_valid"),
        (settings(), made.self_signed(), "127.0.0.1", "tls_self_signed"),
        (settings(ca=made.other_ca().certificate), made.server(), "127.0.0.1", "tls_unknown_ca"),
        (settings(crl=made.revoke(made.ca(), made.server())), made.server(), "127.0.0.1", "tls_certificate_revoked"),
        (settings(is_verified=False), made.expired(), "elsewhere.test", True),
        (settings(uris=(made.SPIFFE_ID,)), made.spiffe(), "", True),
        (settings(uris=(made.SPIFFE_ID.upper(),)), made.spiffe(), "", True),
        (settings(uris=(made.SPIFFE_ID,)), made.server(), "", "tls_name_mismatch"),
    ],
)
def test_a_host_passes_if_it_is_trusted(
    check: HealthCheck, tls: ClientSettings, server: made.Issued, name: str, expected: bool | str
) -> None:
    assert run(check_once(check, tls, made.server_context(server), name=name)) == expected


def test_the_certificate_of_the_cluster_is_presented() -> None:
    context = made.server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=CA.decode())
    own = made.client()
    assert run(check_once(http(path="/"), settings(certificate=own.certificate, key=own.key), context)) is True
    assert run(check_by_thread(http(path="/"), settings(), context)) == "tls_alert"


def test_a_host_that_speaks_no_tls_fails_unless_the_cluster_falls_back() -> None:
    async def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    assert run(check_once(TCP, settings(), None, greet)) == "tls_not_spoken"
    assert run(check_once(TCP, settings(), None, end)) == "tls_closed_in_handshake"
    assert run(check_once(TCP, settings(falls_back=True), None, greet)) is True


def test_a_handshake_that_does_not_end_has_its_own_reason() -> None:
    short = HealthCheck(protocol="tcp", timeout=0.2)
    assert run(check_once(short, settings(), None, silence)) == "tls_handshake_timeout"


def test_a_check_by_http_offers_http_whatever_the_cluster_speaks() -> None:
    context = made.server_context(alpn=("h2", "http/1.1"))
    chosen: list[str | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        chosen.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())
        await answer(reader, writer)

    assert run(check_once(http(path="/"), settings(alpn=("h2",)), context, serve)) is True
    assert chosen == ["http/1.1"]


@pytest.mark.parametrize(("scheme", "expected"), [("http", True), ("https", "tls_not_spoken"), ("HTTPS", "tls_not_spoken")])
def test_another_port_is_asked_as_its_scheme_says(scheme: str, expected: bool | str) -> None:
    async def scenario() -> bool | str:
        plain = await asyncio.start_server(greet, "127.0.0.1", 0)
        port = plain.sockets[0].getsockname()[1]
        try:
            return await check_once(http(path="/", port=port, scheme=scheme), settings(), made.server_context())
        finally:
            plain.close()

    assert run(scenario()) == expected


class Checked:
    """What `HealthChecks` passes to its probe, by host."""

    def __init__(self) -> None:
        self.seen: dict[str, TlsProbe | None] = {}
        self.all = asyncio.Event()
        self.content = CA

        def find(text: str) -> bytes:
            return self.content if text else b""

        self.checks = HealthChecks(lambda cluster, hosts: None, Clock(), Lines(), self._probe, self._sleep, find=find)

    async def _probe(self, address: str, check: HealthCheck, tls: TlsProbe | None, way: Way) -> bool:
        self.seen[address] = tls
        return True

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(0.001)

    async def rounds(self, *addresses: str) -> None:
        self.seen.clear()
        while not self.seen.keys() >= set(addresses):
            await asyncio.sleep(0.001)


def cluster(name: str, *hosts: Host, **keys: Any) -> Cluster:
    check = HealthCheck(service_name="s", interval=0.01, initial_delay_seconds=0.0)
    return Cluster(**{"name": name, "hosts": list(hosts), "health_check": check, **keys})


def test_each_host_is_checked_as_the_proxy_connects_to_it() -> None:
    async def scenario() -> None:
        stage = Checked()
        own = TlsContext(status=True, ca_cert="ca", server_name="own.test")
        shared = TlsContext(status=True, ca_cert="ca")
        clusters = [
            cluster("own", Host(address="10.0.0.1:1"), Host(address="10.0.0.2:1", tls_disable=True), tls_context=own),
            cluster("shared", Host(address="10.0.0.3:1", hostname="three.test"), cluster_manager_tls=True),
            cluster("plain", Host(address="10.0.0.4:1")),
            cluster("https", Host(address="10.0.0.5:1"), health_check=http(scheme="https")),
        ]
        config = MosnConfig(cluster_manager=ClusterManager(clusters=clusters, tls_context=shared))
        stage.checks.follow(config)
        await stage.rounds("10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:1", "10.0.0.5:1")
        assert stage.seen == {
            "10.0.0.1:1": TlsProbe(settings(server_name="own.test"), "own.test"),
            "10.0.0.2:1": None,
            "10.0.0.3:1": TlsProbe(settings(), "three.test"),
            "10.0.0.4:1": None,
            "10.0.0.5:1": TlsProbe(ClientSettings(TlsSettings()), "10.0.0.5"),
        }
        before = dict(stage.checks._tasks)
        stage.content = made.other_ca().certificate
        stage.checks.follow(config)
        await stage.rounds("10.0.0.1:1", "10.0.0.3:1")
        rotated = stage.seen["10.0.0.1:1"]
        assert rotated is not None
        assert rotated.settings.tls.ca == made.other_ca().certificate
        assert stage.checks._tasks == before, "the checks go on with their intervals"
        await stage.checks.stop()

    run(scenario())
