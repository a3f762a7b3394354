"""Access logs in JSON, variables of Envoy, and which exchanges a log has."""

import json
from typing import Any

import pytest
from tests.kit import FakeClock

from pymosn.api.exchange import Exchange
from pymosn.api.http import HttpRequest, HttpResponse
from pymosn.api.network import Connection
from pymosn.assembly.access_logs import compiled_log, log_condition
from pymosn.config.schema import AccessLog
from pymosn.config.schema.http_chain import Comparison, LogCondition, LogFilter, LogHeader
from pymosn.core.failure import CLUSTER_UNKNOWN, NO_HOSTS, NO_ROUTE, Failure
from pymosn.core.headers import HttpHeaders
from pymosn.filters.settings import StringMatch

STARTED = 1000.0
WALL = 1_780_000_000.0


def exchange(request: bytes = b"", *, failure: Failure | None = None, status: int = 200) -> Exchange:
    connection = Connection()
    connection.remote_ip, connection.remote_port = "10.0.0.9", 4711
    connection.local_ip, connection.local_port = "10.0.0.1", 2045
    made = Exchange(connection)
    made.request = HttpRequest()
    made.request.raw_method, made.request.raw_path, made.request.raw_host = b"GET", b"/p", b'a"b'
    made.request.headers = HttpHeaders(request)
    made.response = HttpResponse(status, b"OK", HttpHeaders(b""))
    made.failure = failure
    made.protocol = "Http1"
    made.upstream_address = "10.1.1.1:8080"
    made.started = STARTED
    made.request_received = STARTED + 0.25
    made.response_received = STARTED + 0.375
    made.finished = STARTED + 0.5
    return made


def line(made: Exchange, **log: Any) -> str:
    return compiled_log(AccessLog(**log)).bind(FakeClock(STARTED + 0.5, WALL + 0.5), "l", "egress")(made)


def test_variables_of_envoy() -> None:
    text = "%duration_ms% %request_duration_ms% %response_duration_ms% %response_tx_duration_ms% %upstream_service_time_ms%"
    assert line(exchange(), log_format=text) == "500 250 375 125 125"
    text = "%protocol_envoy% %response_flags_envoy% %response_code_details% %upstream_remote_ip% %percent% %backslash%"
    assert line(exchange(), log_format=text) == "HTTP/1.1 - via_upstream 10.1.1.1 % \\\\"
    assert line(exchange(), log_format="%start_time_utc% %start_time_seconds%") == "2026-05-28T20:26:40.000Z 1780000000"


@pytest.mark.parametrize(("failure", "flags"), [(NO_ROUTE, "NR"), (NO_HOSTS, "UH"), (CLUSTER_UNKNOWN, "NC"), (None, "-")])
def test_response_flags_of_envoy(failure: Failure | None, flags: str) -> None:
    assert line(exchange(failure=failure), log_format="%response_flags_envoy%") == flags


def test_alternatives_and_lengths() -> None:
    made = exchange(b"x-b: second value\r\n")
    assert line(made, log_format="%request_header_x-a|request_header_x-b%") == "second value"
    assert line(made, log_format="%request_header_x-a|request_header_x-b:6%") == "second"
    assert line(made, log_format="%request_header_x-a|request_header_x-c%") == "-"


def test_json() -> None:
    members = {
        "ms": "%duration_ms%",
        "text": 'a "quoted" %authority%',
        "none": "%request_header_x-none%",
        "no_number": "%grpc_status%",
        "nested": {"list": ["%response_code%", 7, True]},
    }
    found = json.loads(line(exchange(), json_format=members))
    assert found == {
        "ms": 500,
        "text": 'a "quoted" a"b',
        "none": None,
        "no_number": None,
        "nested": {"list": [200, 7, True]},
    }
    assert "none" not in json.loads(line(exchange(), json_format=members, omit_empty=True))


def test_invalid_json_formats_name_the_member() -> None:
    with pytest.raises(ValueError, match=r"json_format: a\.b: log format"):
        compiled_log(AccessLog(json_format={"a": {"b": "%x"}}))


CONDITIONS: list[tuple[LogCondition, bool]] = [
    (LogCondition(), True),
    (LogCondition(status=Comparison(op="ge", value=404)), True),
    (LogCondition(status=Comparison(op="le", value=403)), False),
    (LogCondition(status=Comparison(op="ne", value=404)), False),
    (LogCondition(duration_ms=Comparison(op="eq", value=500)), True),
    (LogCondition(failed=True), True),
    (LogCondition(response_flags=["UH", "NR"]), True),
    (LogCondition(response_flags=["UH"]), False),
    (LogCondition(header=LogHeader(name="x-a")), True),
    (LogCondition(header=LogHeader(name="x-a", match=StringMatch(prefix="V", ignore_case=True))), True),
    (LogCondition(header=LogHeader(name="x-a", match=StringMatch(regex="v"))), False),
    (LogCondition(header=LogHeader(name="x-b", invert=True)), True),
    (LogCondition(grpc_status=[0]), False),
    (LogCondition(grpc_status=[0], exclude_grpc_status=True), True),
    (LogCondition(sample=50.0), False),
    (LogCondition(sample=51.0), True),
]


@pytest.mark.parametrize(("condition", "expected"), CONDITIONS)
def test_conditions(condition: LogCondition, expected: bool) -> None:
    made = exchange(b"x-a: value\r\n", failure=NO_ROUTE, status=404)
    for filter in (LogFilter(all_of=[condition, LogCondition()]), LogFilter(any_of=[condition])):
        holds = log_condition(filter, draw=lambda: 0.5)
        assert holds is not None
        assert holds(made) is expected
    assert log_condition(None) is None
