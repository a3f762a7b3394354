"""Configurations of the shape of MOSN's samples for its filters, unmodified but for ports, and pymosn's own filters beside
them: all on one running program."""

from __future__ import annotations

import gzip
import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from process_fixtures import Start
from pymosn_process import READY, Pymosn, eventually, free_ports
from recorder import Recorder

SAMPLES = Path(__file__).parents[2] / "examples" / "filters" / "mosn"
NAMES = ("ipaccess", "jwtauthn", "flowcontrol", "faultinject", "mirror")
CLUSTERS = ("serverCluster", "mirrorCluster", "auth")
#: Of the key in jwtauthn.json, and not ending.
TOKEN = (
    "eyJhbGciOiJFUzI1NiIsImtpZCI6InNhbXBsZSIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJ0ZXN0aW5nQGlzc3Vlci5leGFtcGxlIiwic3ViIjoidGVzdGluZyJ9"
    ".OcR_PbKaTYEEcVdJgXPH-EYnBLeKqJIJucCO2liYu3NMFL6_0L9lBixhn6RVOZ3-T8bb7fzwx_iHJE1PTOZa0g"
)


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Program:
    """The running program. `ports`: by sample, and `own`."""

    def __init__(self, ports: dict[str, int], recorder: Recorder, process: Pymosn) -> None:
        self.ports = ports
        self.recorder = recorder
        self.process = process

    def ask(self, name: str, path: str = "/", headers: dict[str, str] | None = None, body: bytes = b"") -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[name], timeout=20)
        try:
            connection.request("POST" if body else "GET", path, body or None, headers or {})
            response = connection.getresponse()
            return Answer(response.status, {key.lower(): value for key, value in response.getheaders()}, response.read())
        finally:
            connection.close()


OWN: list[dict[str, Any]] = [
    {"type": "cors", "config": {"allow_origins": ["https://app.example"]}},
    {
        "type": "rbac",
        "config": {
            "version": "1",
            "rules": {
                "action": "DENY",
                "policies": {
                    "no": {
                        "permissions": [{"url_path": {"path": {"exact": "/secret"}}}],
                        "principals": [{"not_id": {"header": {"name": "x-role", "exact_match": "admin"}}}],
                    }
                },
            },
        },
    },
    {"type": "gzip", "config": {"content_types": ["text/plain"], "encodings": ["gzip"]}},
    {
        "type": "header_to_metadata",
        "config": {"request_rules": [{"header": "x-zone", "on_header_present": {"key": "zone"}}]},
    },
    {"type": "payload_limit", "config": {"max_entity_size ": 5, "http_status": 413}},
    {"type": "local_rate_limit", "config": {"requests": 1000, "per": "1s"}},
    {"type": "ext_authz", "config": {"cluster": "auth", "path": "/check"}},
]
ROUTES: list[dict[str, Any]] = [
    {
        "match": {"path": "/once"},
        "direct_response": {"status": 200, "body": "x"},
        "per_filter_config": {"local_rate_limit": {"requests": 1, "per": "1h"}, "ext_authz": {"disabled": True}},
    },
    {
        "match": {"path": "/text"},
        "direct_response": {"status": 200, "body": "hello " * 100},
        "per_filter_config": {"ext_authz": {"disabled": True}},
    },
    {"match": {"prefix": "/"}, "route": {"cluster_name": "serverCluster"}},
]


def configuration(ports: dict[str, int], recorder: Recorder) -> dict[str, Any]:
    """All samples in one: each with its listener and router table; the clusters are the same."""
    listeners, tables = [], []
    for name in NAMES:
        server = json.loads((SAMPLES / f"{name}.json").read_text())["servers"][0]
        (listener,) = server["listeners"]
        (table,) = server["routers"]
        listener["name"] = table["router_config_name"] = name
        listener["filter_chains"][0]["filters"][0]["config"]["router_config_name"] = name
        listener["address"] = f"127.0.0.1:{ports[name]}"
        listeners.append(listener)
        tables.append(table)
    own = json.loads(json.dumps(listeners[0]))
    own.update(name="own", address=f"127.0.0.1:{ports['own']}", stream_filters=OWN)
    own["filter_chains"][0]["filters"][0]["config"]["router_config_name"] = "own"
    tables.append({"router_config_name": "own", "virtual_hosts": [{"name": "own", "domains": ["*"], "routers": ROUTES}]})
    clusters = [
        {"name": name, "type": "SIMPLE", "lb_type": "LB_RANDOM", "hosts": [{"address": f"127.0.0.1:{recorder.ports[name]}"}]}
        for name in CLUSTERS
    ]
    server = {"default_log_path": "stdout", "listeners": [*listeners, own], "routers": tables}
    return {"servers": [server], "cluster_manager": {"clusters": clusters}}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    folder = tmp_path_factory.mktemp("shipped")
    recorder = Recorder(CLUSTERS)
    ports = dict(zip((*NAMES, "own"), free_ports(len(NAMES) + 1), strict=True))
    start = Start(folder)
    try:
        process = start(configuration(ports, recorder), "--workers", "1")
        process.wait_for(READY)
        yield Program(ports, recorder, process)
    finally:
        start.end()
        recorder.close()


@pytest.fixture
def program(running: Program) -> Program:
    running.recorder.take()
    return running


def test_ip_access(program: Program) -> None:
    assert program.ask("ipaccess").status == 403
    assert program.recorder.take() == []


def test_jwt_authn(program: Program) -> None:
    assert program.ask("jwtauthn").status == 200
    assert program.ask("jwtauthn", "/", {"authorization": f"Bearer {TOKEN}"}).status == 200
    assert program.ask("jwtauthn", f"/?access_token={TOKEN}").status == 200
    denied = program.ask("jwtauthn", "/", {"authorization": f"Bearer {TOKEN[:-8]}AAAAAAAA"})
    assert (denied.status, denied.body) == (401, b"Jwt verification fails")
    assert len(program.recorder.take()) == 3


def test_flow_control(program: Program) -> None:
    # One a second: of ten within less than that, one or, over the end of a second, two.
    answers = [program.ask("flowcontrol", "/test") for _ in range(10)]
    passed = [answer.status for answer in answers].count(200)
    assert 1 <= passed <= 9
    assert {(answer.status, answer.body) for answer in answers} == {(200, b"ok"), (500, b"blocked")}
    assert len(program.recorder.take()) == passed
    assert [program.ask("flowcontrol", "/other").status for _ in range(5)] == [200] * 5


def test_fault_injection(program: Program) -> None:
    started = time.monotonic()
    assert program.ask("faultinject", "/", {"x-fault": "yes"}).status == 503
    assert time.monotonic() - started >= 0.05
    assert program.ask("faultinject").status == 200
    assert len(program.recorder.take()) == 1


def test_mirror(program: Program) -> None:
    assert program.ask("mirror").status == 200
    assert eventually(lambda: len(program.recorder.arrived) == 3)
    assert sorted(name for name, _ in program.recorder.take()) == ["mirrorCluster", "mirrorCluster", "serverCluster"]


def test_filters_of_our_own_and_the_others_together(program: Program) -> None:
    answer = program.ask("own", "/a", {"origin": "https://app.example", "authorization": "x"})
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, "https://app.example")
    (auth, asked), (server, _) = program.recorder.take()
    assert (auth, server) == ("auth", "serverCluster")
    assert asked.startswith(b"GET /check HTTP/1.1\r\n")
    assert b"\r\nx-forwarded-uri: /a\r\n" in asked
    assert b"\r\nauthorization: x\r\n" in asked
    assert program.ask("own", "/secret").body == b"RBAC: access denied"
    assert program.ask("own", "/secret", {"x-role": "admin"}).status == 200
    assert program.ask("own", "/a", body=b"hello!").status == 413
    assert program.ask("own", "/a", body=b"hello").status == 200
    assert [program.ask("own", "/once").status for _ in range(2)] == [200, 429]


def test_a_compressed_reply(program: Program) -> None:
    answer = program.ask("own", "/text", {"accept-encoding": "gzip, deflate, br"})
    assert (answer.headers["content-encoding"], answer.headers["vary"]) == ("gzip", "Accept-Encoding, Origin")
    assert gzip.decompress(answer.body) == b"hello " * 100
    plain = program.ask("own", "/text")
    assert (plain.body, plain.headers.get("content-encoding")) == (b"hello " * 100, None)


def test_the_samples_are_good_as_they_are() -> None:
    from pymosn.assembly.filters import check_filters
    from pymosn.config.load import load_file

    for name in NAMES:
        loaded = load_file(str(SAMPLES / f"{name}.json"))
        assert loaded.config is not None, loaded.faults
        assert check_filters(loaded.config.servers[0].listeners, loaded.config_dir) == []
