"""Every golden case of routing through the real program: route, cluster, and what reaches the upstream, byte for byte.

The expectation is `explain`'s answer for the same configuration; tests/golden holds that against the files and the table.
"""

from __future__ import annotations

import http.client
import signal
import socket
from pathlib import Path
from typing import Any

import yaml
from process_fixtures import Start
from pymosn_process import READY, free_ports
from recorder import Recorder
from tests.golden.golden_cases import CLIENT, GOLDEN, all_clusters, configuration, meets, question, wanted

from pymosn.config.load import load_text
from pymosn.control.explain import Question, explain, request_bytes


class Reply:
    """What came back: status, reason word and fields."""

    def __init__(self, port: int, asked: Question) -> None:
        with socket.create_connection(("127.0.0.1", port), 10, source_address=(CLIENT, 0)) as connection:
            connection.sendall(request_bytes(asked))
            response = http.client.HTTPResponse(connection, method=asked.method)
            response.begin()
            response.read()
        self.status = response.status
        self.reason = response.getheader("x-pymosn-reason")
        self.fields = [(name.lower(), value) for name, value in response.getheaders()]


def differences(answer: dict[str, Any], reply: Reply, arrived: list[tuple[str, bytes]]) -> list[str]:
    """Where the program did something else than `explain` says."""
    upstream = answer.get("upstream")
    if upstream is None:
        expected = answer["reply"]
        found = [f"{cluster} got a request" for cluster, _ in arrived]
        if (reply.status, reply.reason) != (expected["status"], expected.get("reason")):
            found.append(f"{reply.status} {reply.reason}, not {expected}")
        return found + [f"no {pair}" for pair in expected.get("headers", []) if tuple(pair) not in reply.fields]
    if len(arrived) != 1 or reply.status != 200:
        return [f"{reply.status} {reply.reason}, and {len(arrived)} requests at the upstream"]
    cluster, head = arrived[0]
    line, *fields = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    pairs = [tuple(field.split(": ", 1)) if ": " in field else (field.rstrip(":"), "") for field in fields]
    found = []
    if line != upstream["line"]:
        found.append(f"{line!r}, not {upstream['line']!r}")
    if _comparable(pairs) != _comparable(upstream["headers"]):
        found.append(f"{pairs}, not {upstream['headers']}")
    if cluster != answer["cluster"]["name"]:
        found.append(f"cluster {cluster}, not {answer['cluster']['name']}")
    return found


def _comparable(pairs: list[Any]) -> list[tuple[str, str]]:
    """Fields with lower-case names; ids of requests are all different."""
    return [(name.lower(), "" if name.lower() == "x-request-id" else value.strip()) for name, value in pairs]


def _unmet(expected: dict[str, Any], reply: Reply) -> list[str]:
    """What the file itself expects of the reply, and did not come."""
    cookie = dict(reply.fields).get("set-cookie")
    found = {"status": reply.status, "reason": reply.reason, "set_cookie": cookie, "replied": dict(reply.fields)}
    return [f"{key}: {found[key]!r}" for key in found if key in expected and not meets(found[key], expected[key])]


def test_the_program_does_what_explain_says(start: Start, tmp_path: Path) -> None:
    recorder = Recorder(sorted(all_clusters()))
    ports = dict(zip([golden.name for golden in GOLDEN], free_ports(len(GOLDEN)), strict=True))
    content = configuration(
        {name: f"127.0.0.1:{port}" for name, port in ports.items()},
        {name: f"127.0.0.1:{port}" for name, port in recorder.ports.items()},
    )
    content["servers"][0] |= {"default_log_path": "stdout", "graceful_timeout": "5s"}
    for listener in content["servers"][0]["listeners"]:
        log = str(tmp_path / f"{listener['name']}.log")
        listener["access_logs"] = [{"log_path": log, "log_format": "%response_code% %reason% %route_name%"}]
    loaded = load_text(yaml.safe_dump(content), "golden", yaml=True)
    assert loaded.config is not None
    proxy = start(content, "--workers", "1")
    proxy.wait_for(READY)
    wrong: list[str] = []
    lines: dict[str, list[str]] = {}
    try:
        for golden in GOLDEN:
            for text, expected in golden.cases.items():
                asked = question(text, golden.name)
                answer = explain(loaded.config, asked)
                reply = Reply(ports[golden.name], asked)
                found = differences(answer, reply, recorder.take()) + _unmet(wanted(expected), reply)
                wrong += [f"{golden.name}: {text}: {difference}" for difference in found]
                route = answer.get("route", {}).get("name") or "-"
                lines.setdefault(golden.name, []).append(f"{reply.status} {reply.reason or '-'} {route}")
        proxy.send(signal.SIGTERM)
        assert proxy.exit_code() == 0
    finally:
        recorder.close()
    assert wrong == []
    for name, expected_lines in lines.items():
        assert (tmp_path / f"{name}.log").read_text().splitlines() == expected_lines, "another route won"
