"""Access logs that routes switch on and off, and the lines that logs have lost."""

import json
import os
from pathlib import Path

import pytest
from tests.kit.fakes import FakeClock

from pymosn.api.exchange import Exchange
from pymosn.api.grpc import GrpcRequest
from pymosn.api.network import Connection
from pymosn.api.record import RouteInfo
from pymosn.assembly.routes import build_table, log_switches
from pymosn.config.load import load_text
from pymosn.config.schema.router import Route, RouterConfiguration, VirtualHost
from pymosn.core.counters import Metrics
from pymosn.core.headers import HttpHeaders
from pymosn.observe import destination
from pymosn.observe.access_log import SWITCHES, AccessLogFile, compile_format, is_logged
from pymosn.observe.destination import Destination
from pymosn.observe.logs import LogSet


class Kept(Destination):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def write(self, line: str, level: int = 20) -> None:
        self.lines.append(line)


def route(switches: dict[str, bool] | None) -> RouteInfo:
    return RouteInfo("t/v/0", None if switches is None else {SWITCHES: switches})


@pytest.mark.parametrize(
    ("switches", "name", "is_disabled", "expected"),
    [
        (None, "", False, True),
        (None, "audit", True, False),
        ({"*": False}, "", False, False),
        ({"*": False}, "audit", False, False),
        ({"*": False, "audit": True}, "audit", True, True),
        ({"*": False, "audit": True}, "other", False, False),
        ({"audit": False}, "audit", False, False),
        ({"audit": False}, "other", False, True),
        ({"audit": True}, "", True, False),
        ({"*": True}, "", True, True),
    ],
)
def test_the_name_counts_before_all_and_without_either_the_log_itself(
    switches: dict[str, bool] | None, name: str, is_disabled: bool, expected: bool
) -> None:
    assert is_logged(route(switches), name, is_disabled) is expected
    kept = Kept()
    exchange = Exchange(Connection())
    exchange.route = route(switches)
    AccessLogFile(kept, lambda exchange: "line", None, name, is_disabled).log(exchange)
    assert kept.lines == (["line"] if expected else [])


def test_exchanges_without_a_route_follow_the_log() -> None:
    assert is_logged(None, "audit", False)
    assert not is_logged(None, "audit", True)


def test_what_a_route_has_counts_before_its_virtual_host() -> None:
    assert log_switches({}, {}) == {}
    assert log_switches({"*": False, "a": True}, {"b": True}) == {"*": False, "a": True, "b": True}
    assert log_switches({"*": False, "a": True}, {"a": False}) == {"*": False, "a": False}
    assert log_switches({"a": True}, {"*": False}) == {"*": False}


def test_routes_of_the_configuration_have_their_switches_and_no_others() -> None:
    host = VirtualHost(
        name="v",
        domains=["*"],
        access_logs={"audit": True},
        routers=[Route(), Route(access_logs={"*": False}), Route(per_filter_config={SWITCHES: 3})],
    )
    plain = VirtualHost(name="w", domains=["w"], routers=[Route(per_filter_config={SWITCHES: 3})])
    table = build_table(RouterConfiguration(router_config_name="t", virtual_hosts=[host, plain]))
    found = [made.filter_configs for made in table.virtual_hosts[0].routes]
    assert found == [{SWITCHES: {"audit": True}}, {SWITCHES: {"*": False}}, {SWITCHES: {"audit": True}}]
    assert table.virtual_hosts[1].routes[0].filter_configs is None


def test_names_that_no_access_log_has_and_odd_logs_are_reported() -> None:
    proxy = {"type": "proxy", "config": {"downstream_protocol": "Http1", "router_config_name": "t"}}
    names: list[dict[str, object]] = [{"name": "audit"}, {"disabled": True}, {"name": "*"}]
    routers = [{"match": {"prefix": "/"}, "direct_response": {"status": 200}, "access_logs": {"*": False, "x": True}}]
    virtual_host = {"name": "v", "domains": ["*"], "access_logs": {"audit": True, "adit": False}, "routers": routers}
    listener = {
        "name": "l",
        "address": "127.0.0.1:1",
        "access_logs": [{"log_path": "stdout", **each} for each in names],
        "filter_chains": [{"filters": [proxy]}],
    }
    table = {"router_config_name": "t", "virtual_hosts": [virtual_host]}
    text = json.dumps({"servers": [{"listeners": [listener], "routers": [table]}]})
    faults = {(fault.severity, fault.path): fault.message for fault in load_text(text, "mosn.json").faults}
    host = "servers[0].routers[0].virtual_hosts[0]"
    assert "no access log has this name" in faults["warning", f"{host}.access_logs.adit"]
    assert ("warning", f"{host}.routers[0].access_logs.x") in faults
    assert ("warning", f"{host}.access_logs.audit") not in faults
    assert ("warning", "servers[0].listeners[0].access_logs[1].disabled") in faults
    assert ("error", "servers[0].listeners[0].access_logs[2].name") in faults


def test_lost_lines_of_a_blocked_log_are_counted_and_memory_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(destination, "MAX_WAITING", 1000)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    process_log = tmp_path / "log"
    logs = LogSet(str(process_log))
    planned: dict[str, Destination] = {}
    log = logs.access_destination(str(pipe), lambda call: None, planned)
    logs.activate(planned)
    metrics = Metrics()
    logs.count_drops(metrics)
    assert metrics.snapshot() == []
    for _ in range(3000):
        log.write("x" * 99)
    logs.count_drops(metrics)
    (group,) = metrics.snapshot()
    assert (group["type"], group["labels"]) == ("log", [("log", str(pipe))])
    lost = group["counters"]["lines_dropped_total"]
    assert 0 < lost == log.dropped
    read = b""
    while True:
        try:
            read += os.read(reader, 1 << 16)
        except BlockingIOError:
            break
        log.flush()
    assert read.count(b"\n") == 3000 - lost
    text = process_log.read_text()
    assert f"{pipe}: blocked; keeping up to" in text or "keeping up to" in text
    assert f"recovered; {lost} lines were dropped" in text
    logs.close()
    os.close(reader)


def test_the_status_of_a_grpc_call_by_its_name() -> None:
    line = compile_format("%grpc_status% %grpc_status_name%").bind(FakeClock())
    exchange = Exchange(Connection())
    assert line(exchange) == "- -"
    exchange.request = GrpcRequest(HttpHeaders())
    for status, name in ((0, "OK"), (14, "UNAVAILABLE"), (16, "UNAUTHENTICATED"), (99, "99")):
        exchange.received_status = status
        exchange.response = exchange.request.local_reply(200, HttpHeaders(), b"")
        exchange.response.trailers = None
        assert line(exchange) == f"{status} {name}"
