"""Issue 19, shows 5: mixed exchanges are recorded, and replayed against a changed configuration: exactly those are reported
that it changes. HTTP/1, HTTP/2 and Bolt share a listener; the client, the proxy, and the commands are real.
"""

import asyncio
import contextlib
import copy
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench.machine import free_port
from bolt_peers import BoltServer
from process_fixtures import Start
from pymosn_process import READY, Pymosn
from showing import sized, tell
from tests.kit import bolt_frames

from pymosn.kit.replay_wire import Target, Wire, wire_for
from pymosn.recording import Body, Recorded, RecordedRequest, RecordedResponse, read_recording
from pymosn.server.worker_process import worker_environment

KINDS = 5


def route(prefix: str, status: int, body: str, **more: Any) -> dict[str, Any]:
    return {"match": {"prefix": prefix}, "direct_response": {"status": status, "body": body}, **more}


def table(name: str, routes: list[dict[str, Any]]) -> dict[str, Any]:
    return {"router_config_name": name, "virtual_hosts": [{"name": "all", "domains": ["*"], "routers": routes}]}


def listener(name: str, port: int, protocols: str, upstream: str, routes: str) -> dict[str, Any]:
    config = {"downstream_protocol": protocols, "upstream_protocol": upstream, "router_config_name": routes}
    chain = {"filters": [{"type": "proxy", "config": config}]}
    return {"name": name, "address": f"127.0.0.1:{port}", "bind_port": True, "filter_chains": [chain]}


def config(ports: tuple[int, int], bolt: str) -> dict[str, Any]:
    """A listener for three protocols, one for the backend of HTTP, and clusters of that and of the Bolt server."""
    services = [
        {"match": {"headers": [{"name": "service", "value": f"S{i}"}]}, "route": {"cluster_name": "bolt"}} for i in range(10)
    ]
    orders = [route(f"/orders/{i}", 200, json.dumps({"order": i, "state": "new"})) for i in range(10)]
    items = [{"match": {"prefix": f"/items/{i}"}, "route": {"cluster_name": "backend"}} for i in range(10)]
    return {
        "servers": [
            {
                "default_log_path": "stdout",
                "processor": 2,
                "listeners": [
                    listener("mixed", ports[0], "Http1,Http2,bolt", "Auto", "mixed"),
                    listener("backend", ports[1], "Http1,Http2", "Auto", "backend"),
                ],
                "routers": [table("mixed", services + orders + items), table("backend", [route("/", 200, "item")])],
            }
        ],
        "cluster_manager": {
            "clusters": [
                {"name": name, "type": "SIMPLE", "lb_type": "LB_RANDOM", "hosts": [{"address": address}]}
                for name, address in (("backend", f"127.0.0.1:{ports[1]}"), ("bolt", bolt))
            ]
        },
    }


def changed(before: dict[str, Any]) -> dict[str, Any]:
    """Other JSON for /orders/3, another status for /items/7, a header for /items/8, and no host for the service S1."""
    after = copy.deepcopy(before)
    routes = after["servers"][0]["routers"][0]["virtual_hosts"][0]["routers"]
    by_prefix = {found["match"].get("prefix"): found for found in routes}
    by_prefix["/orders/3"]["direct_response"]["body"] = json.dumps({"state": "old", "order": 3})
    by_prefix["/orders/4"]["direct_response"]["body"] = '{"state":  "new",\n "order": 4}'
    del by_prefix["/items/7"]["route"]
    by_prefix["/items/7"]["direct_response"] = {"status": 404, "body": "item"}
    by_prefix["/items/8"]["route"]["response_headers_to_add"] = [{"header": {"key": "x-new", "value": "yes"}}]
    routes[1]["route"]["cluster_name"] = "nowhere"
    return after


def is_changed(number: int) -> bool:
    kind, member = number % KINDS, number // KINDS % 10
    if kind in (0, 2):
        return member == 3  # /orders/4 has other white space only, which is no difference in JSON
    return member in (7, 8) if kind in (1, 3) else member == 1


def request(number: int) -> Recorded:
    """The request with that number: GET and POST in HTTP/1 and HTTP/2, and a call in Bolt."""
    kind, member = number % KINDS, number // KINDS % 10
    story: dict[str, Any] = {"time": 0.0, "protocol": ("Http1", "Http1", "Http2", "Http2", "bolt")[kind]}
    response = RecordedResponse(status=200)
    if kind == 4:
        fields: dict[str, str | None] = {"service": f"S{member}", "number": str(number), "access_token": "abc123"}
        frame = bolt_frames.request(number + 1, b"ping %d" % number, headers=fields)
        sent = RecordedRequest(method="", target="", frame=frame)
        return Recorded(
            number=number, story=story, request=sent, response=RecordedResponse(status=200, frame=b"x"), rpc=True
        )
    headers = [["x-number", str(number)], ["authorization", "Bearer abc123"]]
    body = None
    if kind in (1, 3):
        data = b"item %d " % number * (number % 50)
        body = Body(size=len(data), data=data, complete=True)
    method, target = ("GET", f"/orders/{member}?token=abc123") if body is None else ("POST", f"/items/{member}")
    sent = RecordedRequest(method=method, target=target, host="shop.example", headers=headers, body=body)
    return Recorded(number=number, story=story, request=sent, response=response)


async def traffic(port: int, count: int) -> None:
    """Sends all of them on some connections at a time; every one must be answered."""
    numbers = iter(range(count))
    target = Target("127.0.0.1", port)

    async def client() -> None:
        wires: dict[str, Wire] = {}
        for number in numbers:
            asked = request(number)
            wire = wires.setdefault(asked.protocol, wire_for(asked, target))
            outcome = await wire.ask(asked)
            assert (outcome.status, outcome.reset) == (200, "")
        for wire in wires.values():
            wire.close()

    await asyncio.gather(*(client() for _ in range(16)))


def number_of(recorded: Recorded) -> int:
    return int(next(field[1] for field in recorded.request.headers if field[0] in ("x-number", "number")))


def command(folder: Path, *words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "pymosn", *words],
        cwd=folder,
        env=worker_environment(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextlib.contextmanager
def recording(folder: Path, *words: str) -> "Iterator[subprocess.Popen[str]]":
    """A command that taps, once it runs."""
    process = command(folder, *words, "-c", str(folder / "conf" / "mosn.json"), "--seconds", "600")
    assert process.stderr is not None
    first = process.stderr.readline()
    try:
        assert "Ctrl-C ends it" in first, first + process.stderr.read()
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def finished(process: "subprocess.Popen[str]") -> str:
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors + output
    assert "dropped" not in errors
    return output


def apply(proxy: Pymosn, folder: Path, after: dict[str, Any]) -> None:
    (folder / "conf" / "mosn.json").write_text(json.dumps(after))
    status, result = proxy.post("/api/v1/reload")
    assert status == 200, result


@pytest.fixture
def bolt() -> Iterator[BoltServer]:
    server = BoltServer()
    yield server
    server.close()


@sized("count", 100, 10_000)
def test_exactly_what_changed_is_reported(start: Start, bolt: BoltServer, tmp_path: Path, count: int) -> None:
    ports = free_port(), free_port()
    before = config(ports, f"127.0.0.1:{bolt.port}")
    proxy = start(before)
    proxy.wait_for(READY)
    options = ("--listener", "mixed", "--bodies", "64KiB", "--count", str(count), "--max-rate", "100000")
    with contextlib.ExitStack() as stack:
        tape = stack.enter_context(recording(tmp_path, "record", "day.tape", *options))
        har = stack.enter_context(
            recording(tmp_path, "record", "day.har", "--bodies", "64KiB", "--count", str(count), *options[:2])
        )
        tap = stack.enter_context(recording(tmp_path, "tap", "--json", "--path", "/orders/5", "--count", "1"))
        asyncio.run(traffic(ports[0], count))
        finished(tape)
        finished(har)
        [line] = finished(tap).splitlines()
    for text in (line, (tmp_path / "day.tape").read_text(), (tmp_path / "day.har").read_text()):
        assert "abc123" not in text
    assert json.loads(line)["request"]["target"] == "/orders/5?token=***REDACTED***"
    assert (tmp_path / "day.tape").stat().st_mode & 0o777 == 0o600
    exchanges = read_recording(tmp_path / "day.tape")
    assert sorted(map(number_of, exchanges)) == list(range(count))
    assert len(read_recording(tmp_path / "day.har")) == count - count // KINDS
    numbers = {recorded.number: number_of(recorded) for recorded in exchanges}

    replay = ("replay", "day.tape", "--to", f"127.0.0.1:{ports[0]}", "--speed", "max", "--json")
    same = command(tmp_path, *replay)
    assert json.loads(finished(same)) == []
    apply(proxy, tmp_path, changed(before))
    other = command(tmp_path, *replay)
    output, _ = other.communicate(timeout=300)
    assert other.returncode == 1
    found = {numbers[result["number"]]: result["differences"] for result in json.loads(output)}
    expected = {number for number in range(count) if is_changed(number)}
    assert set(found) == expected, {key: found[key] for key in set(found) ^ expected if key in found}
    tell("replayed", exchanges=count, changed=len(found))
