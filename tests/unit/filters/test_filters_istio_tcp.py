"""Istio's metrics of connections of `tcp_proxy`."""

import pytest
from istio_kit import Worker, exchange, node
from tests.kit import FakeClock

from pymosn.api.exchange import Exchange
from pymosn.core.failure import NO_HOSTS
from pymosn.core.message import RequestHead
from pymosn.core.timers import TimerWheel
from pymosn.filters.errors import FilterConfigError
from pymosn.filters.istio.settings import Metric, StatsSettings
from pymosn.filters.istio.tcp import TcpStats, check

NAMES = ("tcp_connections_opened_total", "tcp_connections_closed_total", "tcp_sent_bytes_total", "tcp_received_bytes_total")


class Scene:
    def __init__(self, **settings: object) -> None:
        self.worker = Worker(node("echo"))
        self.clock = FakeClock()
        self.wheel = TimerWheel(self.clock)
        self.stats = TcpStats(StatsSettings(**settings), self.worker.context, self.wheel)  # type: ignore[arg-type]

    def connection(self) -> Exchange:
        made = exchange(status=0)
        made.protocol, made.request, made.route = "tcp", RequestHead(), None
        made.bytes_received = made.bytes_sent = 0
        return made

    def counters(self) -> tuple[int, ...]:
        [group] = self.worker.groups(NAMES[0])
        return tuple(group["counters"].get(name, 0) for name in NAMES)

    def advance(self, seconds: float) -> None:
        self.clock.now += seconds
        self.wheel.advance()


def test_bytes_are_reported_while_the_connection_lasts() -> None:
    scene = Scene(reporter="source", tcp_reporting_duration=5.0)
    one = scene.connection()
    scene.stats.on_connected(one)
    assert scene.counters() == (1, 0, 0, 0)
    one.bytes_received, one.bytes_sent = 10, 20
    scene.advance(5.01)
    assert scene.counters() == (1, 0, 20, 10)
    scene.advance(5.01)
    one.bytes_sent = 25
    scene.stats.on_ended(one)
    assert scene.counters() == (1, 1, 25, 10)
    assert len(scene.wheel) == 0
    labels = scene.worker.labels(NAMES[0])
    assert (labels["request_protocol"], labels["destination_workload"], labels["source_workload"]) == (
        "tcp",
        "echo-v2",
        "echo",
    )
    assert labels["destination_service"] == "echo.default.svc.cluster.local"
    assert not {"response_code", "grpc_response_status"} & set(labels)


def test_a_connection_that_reached_no_host_is_opened_and_closed_with_its_failure() -> None:
    scene = Scene(reporter="destination")
    one = scene.connection()
    one.failure, one.upstream_address = NO_HOSTS, ""
    scene.stats.on_ended(one)
    assert scene.counters() == (1, 1, 0, 0)
    assert scene.worker.labels(NAMES[0])["response_flags"] == "UH"


def test_without_a_period_bytes_are_reported_at_the_end() -> None:
    scene = Scene(tcp_reporting_duration=0.0, metrics=[Metric(name="tcp_sent_bytes_total", drop=True)])
    one = scene.connection()
    scene.stats.on_connected(one)
    assert len(scene.wheel) == 0
    one.bytes_received = one.bytes_sent = 7
    scene.stats.on_ended(one)
    assert scene.counters() == (1, 1, 0, 7)


def test_faults_of_settings() -> None:
    for settings in (StatsSettings(reporter="x"), StatsSettings(tcp_reporting_duration=-1.0)):
        with pytest.raises(FilterConfigError):
            check(settings)
