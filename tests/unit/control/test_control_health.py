import asyncio
from collections.abc import Callable

import msgspec
import pytest
from tests.kit import FakeClock

from pymosn.config.schema import Cluster, MosnConfig
from pymosn.config.schema.cluster import ClusterManager, HealthCheck, Host, HttpProbe, ProbeConfig, StatusRange, TcpProbe
from pymosn.control.health import ADOPTION_TIME, MAX_PROBES, MAX_REPORTED, HealthChecks, HostState, active_check
from pymosn.control.probe import DIRECT, Prober, TlsProbe, UnexpectedAnswer, Way, http_settings
from pymosn.core.clock import Clock
from pymosn.core.log import Log


def config(*addresses: str, **check: object) -> MosnConfig:
    settings = {"service_name": "s", "interval": 5.0, "initial_delay_seconds": 1.0, **check}
    hosts = [Host(address=address) for address in addresses]
    cluster = Cluster(name="c", hosts=hosts, health_check=HealthCheck(**settings))  # type: ignore[arg-type]
    return MosnConfig(cluster_manager=ClusterManager(clusters=[cluster]))


class Stage:
    """Checks with a fake probe and no real waiting: `sleeps` records the delays; they end after some rounds."""

    def __init__(self, answers: Callable[[str, int], bool], rounds: int, chance: float = 0.5) -> None:
        self.sleeps: list[float] = []
        self.changes: list[tuple[str, str, bool]] = []
        self.asked: dict[str, int] = {}
        self._answers = answers
        self._rounds = rounds
        self._done = asyncio.Event()
        self.checks = HealthChecks(self._on_change, Clock(), Log(), self._probe, self._sleep, lambda: chance, 0.0)

    def _on_change(self, cluster: str, hosts: dict[str, bool]) -> None:
        self.changes += [(cluster, address, healthy) for address, healthy in hosts.items()]

    async def _probe(self, address: str, check: HealthCheck, tls: TlsProbe | None, way: Way) -> bool:
        self.asked[address] = self.asked.get(address, 0) + 1
        return self._answers(address, self.asked[address])

    async def _sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        if len(self.sleeps) > self._rounds:
            self._done.set()
            await asyncio.Event().wait()
        await asyncio.sleep(0)

    async def run(self, wanted: MosnConfig) -> "Stage":
        self.checks.follow(wanted)
        await asyncio.wait_for(self._done.wait(), 5)
        return self


def test_thresholds_count_results_in_a_row() -> None:
    check = HealthCheck(healthy_threshold=2, unhealthy_threshold=3)
    state = HostState()
    results = [False, False, True, False, False, False, True, False, True, True]
    assert [state.add(passed, check) for passed in results] == [False] * 5 + [True] + [False] * 3 + [True]
    assert state.is_healthy


def test_a_failing_host_is_reported_once_and_again_on_recovery() -> None:
    stage = Stage(lambda address, number: number not in (2, 3), rounds=5)
    asyncio.run(stage.run(config("a:1")))
    assert stage.changes == [("c", "a:1", False), ("c", "a:1", True)]


def test_a_host_that_cannot_be_asked_fails() -> None:
    def answer(address: str, number: int) -> bool:
        raise ConnectionRefusedError("refused")

    stage = Stage(answer, rounds=3)
    asyncio.run(stage.run(config("a:1")))
    assert stage.checks.unhealthy() == {"c": {"a:1": False}}
    assert stage.checks.state("c", "a:1") is False
    assert stage.checks.state("c", "b:1") is None
    assert stage.checks.why("c", "a:1") == "refused"
    assert stage.checks.why("c", "b:1") == ""
    (group,) = stage.checks.metrics.snapshot()
    assert group["labels"] == [("service", "s")]
    assert group["counters"] == {"attempt": 3, "network_failure": 3, "failure": 3, "active_failure": 3}
    assert group["gauges"] == {"healty": 0}


def test_the_first_probe_waits_and_the_others_keep_the_interval_with_its_jitter() -> None:
    stage = Stage(lambda address, number: True, rounds=3, chance=0.5)
    asyncio.run(stage.run(config("a:1", interval_jitter=2.0)))
    assert stage.sleeps == [1.0, 6.0, 6.0, 6.0]


def test_a_change_keeps_known_states_and_drops_removed_hosts() -> None:
    async def scenario() -> None:
        stage = await Stage(lambda address, number: False, rounds=4).run(config("a:1", "b:1"))
        assert stage.checks.unhealthy() == {"c": {"a:1": False, "b:1": False}}
        stage.checks.follow(config("a:1", interval=7.0))
        assert stage.checks.unhealthy() == {"c": {"a:1": False}}
        assert stage.changes[-1] == ("c", "b:1", True)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("block", "runs"),
    [(None, False), (HealthCheck(), False), (HealthCheck(service_name="s"), True), (HealthCheck(protocol="Http1"), True)],
)
def test_which_clusters_are_checked(block: HealthCheck | None, runs: bool) -> None:
    assert (active_check(Cluster(name="c", health_check=block)) is not None) is runs


@pytest.mark.parametrize(
    ("protocol", "has_config", "is_http"),
    [("Http1", True, True), ("http", True, True), ("HTTP1", True, True), ("Http1", False, False), ("SofaRpc", True, False)],
)
def test_which_checks_ask_by_http(protocol: str, has_config: bool, is_http: bool) -> None:
    settings = ProbeConfig(http_check_config=HttpProbe(path="/")) if has_config else None
    assert (http_settings(HealthCheck(protocol=protocol, check_config=settings)) is not None) is is_http


@pytest.mark.parametrize(
    ("reply", "codes", "passes"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", [], True),
        (b"HTTP/1.0 204 No Content\r\n\r\n", [], False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", [StatusRange(Start=200, End=299)], True),
        (b"HTTP/1.1 503 x\r\n\r\n", [StatusRange(Start=200, End=299)], False),
        # Interim responses are not the answer (RFC 9110 section 15.2), whatever they declare.
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", [], True),
        (b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 503 x\r\n\r\n", [], False),
        (b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 x\r\ncontent-length: 3\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", [], True),
        (b"HTTP/1.1 103 x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", [StatusRange(Start=100, End=199)], False),
    ],
)
def test_http_probes_over_a_real_socket(reply: bytes, codes: list[StatusRange], passes: bool) -> None:
    result, asked = asyncio.run(probe_host(reply, codes))
    assert result is passes
    assert asked.startswith(b"GET /up HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n")


async def probe_host(reply: bytes, codes: list[StatusRange], way: Way = DIRECT) -> tuple[bool, bytes]:
    """The result of a check of a host that answers `reply`, and the request."""
    asked = b""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked = await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = ProbeConfig(http_check_config=HttpProbe(path="/up", domain="a.test", codes=codes))
    check = HealthCheck(protocol="Http1", check_config=settings)
    try:
        result = await Prober().probe(f"127.0.0.1:{port}", check, None, way)
    finally:
        server.close()
    return result, asked


def test_a_check_tolerates_what_the_requests_of_the_cluster_do() -> None:
    reply = b"HTTP/1.1 200 OK\nContent-Length : 0\n\n"
    assert asyncio.run(probe_host(reply, [], Way(is_strict=False)))[0]
    with pytest.raises(UnexpectedAnswer):
        asyncio.run(probe_host(reply, []))


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (b"nonsense\r\n", "not a status line"),
        (b"", "without a response"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "without a response"),
        (b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n", "was not requested"),
        (b"HTTP/1.1 103 x\r\n\r\n" * 101, "too many interim responses"),
        (b"HTTP/1.1 200 OK\r\nx\r\n\r\n", "not a header field name"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", "more than one content-length"),
    ],
)
def test_a_host_without_a_valid_response_fails_with_the_reason(reply: bytes, why: str) -> None:
    with pytest.raises(UnexpectedAnswer, match=why):
        asyncio.run(probe_host(reply, []))


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("/up", b"GET /up HTTP/1.1"),
        ("up?x=1?y", b"GET /up?x=1?y HTTP/1.1"),
        ("/\u00fc p?\u00fc#part", b"GET /%C3%BC%20p?%C3%BC HTTP/1.1"),
        ("//a", b"GET //a HTTP/1.1"),
        ("?x", b"GET /?x HTTP/1.1"),
    ],
)
def test_the_target_of_a_probe(path: str, line: bytes) -> None:
    async def scenario() -> bytes:
        asked = b""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal asked
            asked = await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        check = HealthCheck(protocol="Http1", check_config=ProbeConfig(http_check_config=HttpProbe(path=path)))
        assert await Prober().probe(f"127.0.0.1:{port}", check, None)
        server.close()
        return asked

    assert asyncio.run(scenario()).startswith(line + b"\r\nhost: 127.0.0.1:")


def test_an_http_probe_sends_its_own_headers() -> None:
    async def scenario() -> bytes:
        asked = b""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal asked
            asked = await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        settings = ProbeConfig(http_check_config=HttpProbe(path="/", headers={"x-probe": "1"}))
        assert await Prober().probe(f"127.0.0.1:{port}", HealthCheck(protocol="Http1", check_config=settings), None)
        server.close()
        return asked

    assert b"\r\nx-probe: 1\r\n" in asyncio.run(scenario())


@pytest.mark.parametrize(
    ("replies", "receive", "passes"),
    [
        ([b"+PO", b"NG\r\n"], ["504f4e47"], True),  # PONG, in two pieces
        ([b"..a..b"], ["61", "62"], True),
        ([b"..b..a"], ["61", "62"], False),
        ([b"-ERR"], ["504f4e47"], False),
        ([], [], True),
        ([], ["61"], False),
    ],
)
def test_tcp_probes_send_and_expect_bytes(replies: list[bytes], receive: list[str], passes: bool) -> None:
    async def scenario() -> tuple[bool, bytes]:
        sent = b""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            sent = await reader.readexactly(4)
            for reply in replies:
                writer.write(reply)
                await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        probe = TcpProbe(send=b"PING".hex(), receive=receive)
        check = HealthCheck(protocol="tcp", check_config=ProbeConfig(tcp_check_config=probe))
        try:
            result = await Prober().probe(f"127.0.0.1:{port}", check, None)
        except UnexpectedAnswer:
            result = False
        server.close()
        await asyncio.sleep(0)
        return result, sent

    result, sent = asyncio.run(scenario())
    assert result is passes
    if receive:
        assert sent == b"PING"


def test_many_changes_are_reported_together_and_not_all_probes_run_at_once() -> None:
    async def scenario() -> None:
        reports: list[dict[str, bool]] = []
        running, most = 0, 0

        async def fail(address: str, check: HealthCheck, tls: TlsProbe | None, way: Way) -> bool:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1
            return False

        async def soon(seconds: float) -> None:
            if seconds > 1.0:
                await asyncio.Event().wait()

        checks = HealthChecks(lambda cluster, hosts: reports.append(hosts), Clock(), Log(), fail, soon)
        checks.follow(config(*(f"10.0.{number // 250}.{number % 250}:80" for number in range(2000))))
        async with asyncio.timeout(20):
            while sum(map(len, reports)) < 2000:
                await asyncio.sleep(0.01)
        await checks.stop()
        assert most <= MAX_PROBES
        assert max(map(len, reports)) <= MAX_REPORTED
        assert len(reports) < 200
        (group,) = checks.metrics.snapshot()
        assert group["gauges"] == {"healty": 0}

    asyncio.run(scenario())


def test_the_next_generation_begins_with_the_unhealthy_hosts() -> None:
    async def scenario() -> None:
        before = await Stage(lambda address, number: address != "a:1", rounds=4).run(config("a:1", "b:1"))
        content = before.checks.export()
        assert content is not None
        after = Stage(lambda address, number: True, rounds=10)
        after.checks.adopt(content)
        assert after.checks.unhealthy() == {}  # not checked here yet
        after.checks.follow(config("a:1", "b:1"))
        # Before any check: a worker that starts now does not send a request to it.
        assert after.asked == {}
        assert after.checks.unhealthy() == {"c": {"a:1": False}}
        assert after.changes == [("c", "a:1", False)]
        assert after.checks.metrics.snapshot()[0]["gauges"] == {"healty": 1}
        await after.run(config("a:1", "b:1"))
        assert after.checks.unhealthy() == {}
        assert after.changes[1:] == [("c", "a:1", True)]

    asyncio.run(scenario())


def test_last_results_of_the_generation_before_count_until_the_checks_here_decide() -> None:
    async def scenario() -> None:
        stage = Stage(lambda address, number: address != "c:1", rounds=6)
        stage.checks.adopt(msgspec.msgpack.encode({"c": ["a:1"], "gone": ["a:1"]}))
        await stage.run(config("a:1", "b:1", "c:1"))
        assert stage.checks.unhealthy() == {"c": {"c:1": False}}
        # It has decided on a and c, not on b, which has always passed.
        stage.checks.adopt(msgspec.msgpack.encode({"c": ["a:1", "b:1"]}))
        assert stage.checks.unhealthy() == {"c": {"b:1": False, "c:1": False}}
        assert stage.changes[-1] == ("c", "b:1", False)
        assert stage.checks.metrics.snapshot()[0]["gauges"] == {"healty": 1}

    asyncio.run(scenario())


def test_a_host_that_appears_long_after_the_upgrade_is_healthy() -> None:
    async def scenario() -> None:
        stage = Stage(lambda address, number: True, rounds=0)
        clock = FakeClock(100.0)
        stage.checks = HealthChecks(stage._on_change, clock, Log(), stage._probe, stage._sleep, report_pause=0.0)
        stage.checks.adopt(msgspec.msgpack.encode({"c": ["a:1", "b:1"]}))
        stage.checks.follow(config("a:1"))
        clock.now += ADOPTION_TIME
        stage.checks.follow(config("a:1", "b:1"))
        assert stage.checks.unhealthy() == {"c": {"a:1": False}}
        stage.checks.follow(config("a:1", "b:1", interval=9.0))
        stage.checks.follow(config())
        stage.checks.follow(config("a:1"))
        assert stage.checks.unhealthy() == {}
        await stage.checks.stop()

    asyncio.run(scenario())


def test_nothing_is_left_to_the_next_generation_without_checks() -> None:
    assert Stage(lambda address, number: True, rounds=0).checks.export() is None
