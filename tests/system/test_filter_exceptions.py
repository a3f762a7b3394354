"""Whatever filters and installed protocols raise, wherever they raise it: the program tells, and goes on.

Each kind of error is raised at each place where foreign code is called. Two workers serve throughout.
"""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from process_fixtures import Start
from pymosn_process import PATIENCE, READY, Pymosn, TwoHops, Upstream, eventually, free_ports
from tests.kit import hostile_errors
from tests.kit.hostile_errors import KINDS
from thread_server import ThreadServer

from pymosn.server.worker_process import worker_environment

pytestmark = pytest.mark.once

PAGE = Path(__file__).parents[2] / "docs" / "protocols.md"

WRONG = """
import asyncio
from hostile_errors import make
from pymosn.api import Reply, StreamFilter, Transcoder

def wanted(exchange, place):
    found, _, kind = exchange.request.path[1:].partition("/")
    return kind if found == place else ""

class Wrong(StreamFilter):
    changes_length = False  # the upstream reads no chunks

    def on_request(self, exchange):
        if kind := wanted(exchange, "on_request"):
            raise make(kind)  # on_request
        if kind := wanted(exchange, "async"):
            return self.wait(kind)
        if kind := wanted(exchange, "task"):
            self.context.create_task(self.wait(kind))
            return Reply(200, "begun")
        if kind := wanted(exchange, "stream"):
            return Reply(200, self.chunks(kind))
        if kind := wanted(exchange, "async_stream"):
            return Reply(200, self.later_chunks(kind))

    async def wait(self, kind):
        await asyncio.sleep(0)
        raise make(kind)  # async

    def chunks(self, kind):
        yield b"one"
        raise make(kind)  # stream

    async def later_chunks(self, kind):
        yield b"one"
        await asyncio.sleep(0)
        raise make(kind)  # async_stream

    def on_route(self, exchange):
        if kind := wanted(exchange, "on_route"):
            raise make(kind)  # on_route

    def on_host(self, exchange):
        if kind := wanted(exchange, "on_host"):
            raise make(kind)  # on_host

    def on_request_body(self, exchange, data, last):
        if kind := wanted(exchange, "on_request_body"):
            raise make(kind)  # on_request_body

    def on_response(self, exchange):
        if kind := wanted(exchange, "on_response"):
            raise make(kind)  # on_response

    def on_response_body(self, exchange, data, last):
        if kind := wanted(exchange, "on_response_body"):
            raise make(kind)  # on_response_body

    def on_complete(self, exchange):
        if kind := wanted(exchange, "on_complete"):
            raise make(kind)  # on_complete

class Calls(Transcoder):
    upstream_protocol = "bolt"

    def request(self, exchange, body):
        raise make(wanted(exchange, "transcode"))  # transcode
"""

#: Those that have begun to answer when they fail, and those whose answer is not affected.
STREAMS = ("stream", "async_stream")
UNHARMED = ("on_complete", "task")
PLACES = (
    *("on_request", "async", "on_route", "on_host", "on_request_body", "on_response", "on_response_body", "transcode"),
    *STREAMS,
    *UNHARMED,
)

LIVES = """
from hostile_errors import make
import msgspec
from pymosn.api import StreamFilter

class Good(StreamFilter):
    async def stop(self):
        self.context.write("stopped well")

class Bad(StreamFilter):
    def __init__(self, config):
        self.kind = config["kind"]

class AtInit(Bad):
    def __init__(self, config):
        raise make(config["kind"])  # init

class Settings(msgspec.Struct):
    kind: str

    def __post_init__(self):
        raise make(self.kind)  # config

class AtConfig(StreamFilter):
    Config = Settings

class AtStart(Bad):
    async def start(self):
        raise make(self.kind)  # start

class AtStop(Bad):
    async def stop(self):
        raise make(self.kind)  # stop

class AtTimeout(Bad):
    @property
    def timeout(self):
        raise make(self.kind)  # timeout

class AtProtocols(Bad):
    @property
    def protocols(self):
        raise make(self.kind)  # protocols

class AtPhase(Bad):
    @property
    def on_response(self):
        raise make(self.kind)  # phase

class AtContext(Bad):
    @property
    def context(self):
        raise make(self.kind)

    @context.setter
    def context(self, value):
        raise make(self.kind)  # context
"""

CODEC = """
from hostile_errors import make
from note import HEAD, NoteDecoder, NoteHeaders, NoteReply, NoteRequest, NoteSpec, REQUEST, RESPONSE

def fail_at(place, topic):
    found, _, kind = topic.partition(b"/")
    if found == place:
        raise make(kind.decode())

class Headers(NoteHeaders):
    def read(self):
        fail_at(b"headers", self.topic)
        return super().read()

class Request(NoteRequest):
    def with_request_id(self, request_id, out):
        out.write(b"half")
        fail_at(b"request", self.headers.topic)
        out.truncate(out.size() - 4)
        super().with_request_id(request_id, out)

    def local_reply(self, status, headers, body):
        fail_at(b"local_reply", self.headers.topic)
        return super().local_reply(status, headers, body)

    def describe(self, protocol):
        fail_at(b"describe", self.headers.topic)
        return super().describe(protocol)

class Response(NoteReply):
    def with_request_id(self, request_id, out):
        fail_at(b"response", self.headers.topic)
        super().with_request_id(request_id, out)

class Decoder(NoteDecoder):
    def feed(self, data):
        fail_at(b"feed", data[HEAD.size:].partition(b" ")[0])
        super().feed(data)

    def frame_size(self, data, start, end):
        fail_at(b"frame_size", data[start + HEAD.size:].partition(b" ")[0])
        return super().frame_size(data, start, end)

    def read(self, data, start, end):
        found = super().read(data, start, end)
        if found == REQUEST:
            old = self.request
            fail_at(b"read", old.headers.topic)
            self.request = Request(Headers(old.headers.topic), old.request_id, old.frame, old.payload, False)
        elif found == RESPONSE:
            old = self.response
            fail_at(b"upstream", old.headers.topic)
            self.response = Response(Headers(old.headers.topic), old.status, old.frame, old.payload)
        return found

class Spec(NoteSpec):
    def __init__(self):
        super().__init__()
        self.name = "badnote"

    def match(self, data):
        fail_at(b"match", data[HEAD.size:].partition(b" ")[0])
        return super().match(data)

    def decoder(self, max_frame):
        return Decoder(max_frame)

    def goaway(self, request_id):
        raise make("panic")
"""

#: Where the codec fails, and the status byte of the answer; None if the connection ends without one.
CODEC_PLACES = {
    "headers": 1,
    "request": 1,
    "response": 1,
    "upstream": 1,
    "describe": 0,
    "local_reply": 0,  # the exchange succeeds without one
    "feed": None,
    "frame_size": None,
    "read": None,
    "match": None,
}


def line_of(text: str, mark: str) -> int:
    """The number of the line with that comment."""
    return next(number for number, line in enumerate(text.splitlines(), 1) if line.endswith(f"  # {mark}"))


class Scene:
    """A folder with the filters, a package with the kinds of errors and the codec, and a configuration."""

    def __init__(self, folder: Path, upstream: Upstream) -> None:
        self.folder = folder
        self.hops = TwoHops(upstream.port)
        site = folder / "site"
        site.mkdir()
        shutil.copy(hostile_errors.__file__, site / "hostile_errors.py")
        steps = PAGE.read_text().partition("## Step by step")[2].partition("\n## ")[0]
        (site / "note.py").write_text("\n".join(re.findall(r"```python\n(.*?)```", steps, re.DOTALL)))
        (site / "badnote.py").write_text(CODEC)
        info = site / "badnote-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: badnote\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[pymosn.protocols]\nbadnote = badnote:Spec\n")
        (folder / "wrong.py").write_text(WRONG)
        (folder / "lives.py").write_text(LIVES)
        known = worker_environment(os.environ).get("PYTHONPATH", "")
        self.environment = {"PYTHONPATH": os.pathsep.join(filter(None, [known, str(site)]))}

    def filters(self, *entries: dict[str, Any]) -> dict[str, Any]:
        """The configuration with these filters, and a single hop."""
        listener = self.hops.server["listeners"][0]
        listener["stream_filters"] = list(entries)
        listener["filter_chains"][0]["filters"][0]["config"]["router_config_name"] = "server_router"
        return self.hops.config

    def entry(self, file: str, name: str, type: str = "python", **config: Any) -> dict[str, Any]:
        return {"type": type, "config": {"path": str(self.folder / file), "class": name, **config}}

    def bad(self, name: str) -> list[dict[str, Any]]:
        """One filter for each kind of error."""
        return [self.entry("lives.py", name, kind=kind) for kind in KINDS]

    def imported(self) -> list[dict[str, Any]]:
        """The same, for errors of modules."""
        made = []
        for kind in KINDS:
            (self.folder / f"at_import_{kind.replace('-', '_')}.py").write_text(
                f"from hostile_errors import make\n\nraise make({kind!r})\n"
            )
            made.append(self.entry(f"at_import_{kind.replace('-', '_')}.py", "F"))
        return made

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        environment = {**worker_environment(os.environ), **self.environment}
        command = [sys.executable, "-m", "pymosn", *arguments]
        return subprocess.run(
            command, env=environment, cwd=self.folder, capture_output=True, text=True, timeout=PATIENCE, check=False
        )


@pytest.fixture
def scene(tmp_path: Path, upstream: Upstream) -> Scene:
    return Scene(tmp_path, upstream)


# ---- requests


def ask(port: int, path: str) -> tuple[int, bool]:
    """The status, and whether the body was complete."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("POST", path, b"data")
        response = connection.getresponse()
        try:
            response.read()
        except (http.client.IncompleteRead, ConnectionError):
            return response.status, False
        return response.status, True
    finally:
        connection.close()


def test_requests(start: Start, scene: Scene) -> None:
    wrong = scene.entry("wrong.py", "Wrong")
    config = scene.filters(wrong, scene.entry("wrong.py", "Calls", "transcoder"))
    transcoded = {"match": {"prefix": "/transcode"}, "route": {"cluster_name": "server", "upstream_protocol": "bolt"}}
    scene.hops.server["routers"][1]["virtual_hosts"][0]["routers"].insert(0, transcoded)
    proxy = start(config, "--workers", "2", **scene.environment)
    proxy.wait_for(READY)
    pids = proxy.worker_pids()
    for place in PLACES:
        for kind, (_, said) in KINDS.items():
            expected = (200, place in UNHARMED) if place in (*STREAMS, *UNHARMED) else (500, True)
            assert ask(scene.hops.client_port, f"/{place}/{kind}") == expected, (place, kind)
            _wait_for_report(proxy, place, kind, said)
    assert proxy.worker_pids() == pids
    assert [scene.hops.get("/well")[0] for _ in range(8)] == [200] * 8
    assert "Task exception was never retrieved" not in proxy.output
    views = {view["name"]: view["counters"] for view in json.loads(scene.hops.admin("/api/v1/filters"))["filters"]}
    assert views["Wrong"]["errors"] == len(KINDS) * (len(PLACES) - 2)  # without transcoder and background tasks
    assert views["Calls"]["errors"] == len(KINDS)
    proxy.send(signal.SIGTERM)
    assert proxy.exit_code() == 0


def _wait_for_report(proxy: Pymosn, place: str, kind: str, said: str) -> None:
    if place == "task":
        said = "CancelledError: it cancelled itself" if kind == "cancelled" else said
        proxy.wait_for(rf"filter 'Wrong': background task failed: {re.escape(said)}$")
        return
    name = "Calls" if place == "transcode" else "Wrong"
    where = rf" \(at .*wrong\.py:{line_of(WRONG, place)} in "
    if kind == "cancelled" and place in ("async", "transcode"):
        said, where = "CancelledError: the filter cancelled itself", "$"
    proxy.wait_for(rf"filter '{name}' failed: {re.escape(said)}{where}")


# ---- an installed protocol


class Echo(ThreadServer):
    """Sends each frame of `note` back as a response."""

    def __init__(self) -> None:
        super().__init__(self._echo)

    def _echo(self, connection: socket.socket) -> None:
        with suppress(ConnectionError), connection.makefile("rb") as stream:
            while head := stream.read(12):
                text = stream.read(head[7] + int.from_bytes(head[8:12], "big"))
                if head[1:2] == b"q":
                    connection.sendall(head[:1] + b"r" + head[2:] + text)


@pytest.fixture
def echo() -> Iterator[Echo]:
    made = Echo()
    yield made
    made.close()


def request(topic: bytes, number: int) -> bytes:
    text = b" text"
    return b"Nq" + number.to_bytes(4, "big") + bytes([0, len(topic)]) + len(text).to_bytes(4, "big") + topic + text


def call(port: int, topic: bytes, number: int) -> int | None:
    """The status byte of the answer to one call; None without one."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(request(topic, number))
        try:
            answer = connection.recv(12)
        except ConnectionError:
            return None
        assert not answer or answer[2:6] == number.to_bytes(4, "big")
        return answer[6] if answer else None


def test_an_installed_protocol(start: Start, scene: Scene, echo: Echo) -> None:
    config = scene.filters()
    (port,) = free_ports(1)
    proxy_filter = {
        "downstream_protocol": "Http1, badnote",
        "router_config_name": "notes",
        "extend_config": {"installed": {"badnote": {"enable_goaway": True}}},
    }
    route = {"match": {"prefix": "/"}, "route": {"cluster_name": "notes", "timeout": "5s"}}
    by_service = {"match": {"headers": [{"name": "service", "value": "nothing"}]}, "route": {"cluster_name": "nothing"}}
    scene.hops.server["routers"].append(
        {
            "router_config_name": "notes",
            "virtual_hosts": [{"name": "n", "domains": ["*"], "routers": [by_service, {**route, "match": {"headers": []}}]}],
        }
    )
    scene.hops.server["listeners"].append(
        {
            "name": "notes",
            "address": f"127.0.0.1:{port}",
            "bind_port": True,
            "filter_chains": [{"filters": [{"type": "proxy", "config": proxy_filter}]}],
        }
    )
    for name, upstream_port in (("notes", echo.port), ("nothing", 1)):
        host = {"address": f"127.0.0.1:{upstream_port}"}
        config["cluster_manager"]["clusters"].append(
            {"name": name, "type": "SIMPLE", "lb_type": "LB_ROUNDROBIN", "hosts": [host]}
        )
    proxy = start(config, "--workers", "2", **scene.environment)
    proxy.wait_for(READY)
    pids = proxy.worker_pids()
    number = 0
    for place, status in CODEC_PLACES.items():
        for kind in KINDS:
            number += 1
            assert call(port, f"{place}/{kind}".encode(), number) == status, (place, kind)
            assert call(port, b"well", number) == 0, (place, kind)
    assert proxy.worker_pids() == pids
    with socket.create_connection(("127.0.0.1", port)) as idle:  # is drained, which the codec fails to do
        idle.sendall(request(b"well", 1))
        assert idle.recv(100)
        proxy.send(signal.SIGTERM)
        assert proxy.exit_code() == 0


# ---- changes

#: Where a change fails, by the name of the filter's class, and the mark of the line. Files of AtImport are made.
LIFE = {
    "AtImport": "",
    "AtInit": "init",
    "AtConfig": "config",
    "AtStart": "start",
    "AtTimeout": "timeout",
    "AtProtocols": "protocols",
    "AtPhase": "phase",
    "AtContext": "context",
}


def entries(scene: Scene, name: str) -> list[dict[str, Any]]:
    return scene.imported() if name == "AtImport" else scene.bad(name)


def place_of(name: str, kind: str) -> str:
    if name == "AtImport":
        return f"at_import_{kind.replace('-', '_')}.py:3: "
    return f"lives.py:{line_of(LIVES, LIFE[name])}: "


def assert_complete(name: str, messages: list[str]) -> None:
    """Each kind of error has its message, with file and line."""
    assert len(messages) == len(KINDS), (name, messages)
    for (kind, (_, said)), message in zip(KINDS.items(), messages, strict=True):
        assert said in message, (name, kind, message)
        if not (name == "AtConfig" and kind == "timeout"):
            assert place_of(name, kind) in message, (name, kind, message)


def change(proxy: Pymosn, scene: Scene, config: dict[str, Any]) -> dict[str, Any]:
    """Changes the configuration's file, and gives what became of it."""

    def attempts() -> int:
        return int(json.loads(scene.hops.admin("/api/v1/last_change"))["attempt"])

    before = attempts()
    (scene.folder / "conf" / "mosn.json").write_text(json.dumps(config, indent=1))
    proxy.send(signal.SIGHUP)
    assert eventually(lambda: attempts() > before)
    found: dict[str, Any] = json.loads(scene.hops.admin("/api/v1/last_change"))
    return found


def test_changes(start: Start, scene: Scene) -> None:
    proxy = start(scene.filters(), "--workers", "2", **scene.environment)
    proxy.wait_for(READY)
    pids = proxy.worker_pids()
    for name in LIFE:
        outcome = change(proxy, scene, scene.filters(*entries(scene, name)))
        assert not outcome["applied"]
        assert_complete(name, [fault["message"] for fault in outcome["faults"]])
        assert all(fault["line"] > 0 for fault in outcome["faults"])
        assert scene.hops.get("/well")[0] == 200
    # They start, and fail to stop: when they are removed, and at the end of the program.
    good = scene.entry("lives.py", "Good")
    for stops in (1, 2):
        assert change(proxy, scene, scene.filters(*scene.bad("AtStop"), good))["applied"]
        assert change(proxy, scene, scene.filters())["applied"]
        assert eventually(lambda: _stopped(proxy) == (2 * stops, 2 * stops * len(KINDS))), (stops, _stopped(proxy))  # noqa: B023
    for _, said in KINDS.values():
        where = rf"lives\.py:{line_of(LIVES, 'stop')}: "
        proxy.wait_for(rf"filter 'AtStop': `stop` failed: .*{where}{re.escape(said)}$")
    assert proxy.worker_pids() == pids
    assert change(proxy, scene, scene.filters(*scene.bad("AtStop"), good))["applied"]
    proxy.send(signal.SIGTERM)
    assert proxy.exit_code() == 4  # MOSN's code for a callback that fails in a graceful stop
    assert _stopped(proxy) == (6, 6 * len(KINDS))
    assert "Traceback" not in proxy.output


def _stopped(proxy: Pymosn) -> tuple[int, int]:
    """How many filters stopped, and how many failed to, in both workers."""
    return proxy.output.count("stopped well"), proxy.output.count("`stop` failed: ")


# ---- commands


@pytest.mark.parametrize("name", [name for name in LIFE if name != "AtStart"])
def test_check(scene: Scene, name: str) -> None:
    path = scene.folder / "c.json"
    path.write_text(json.dumps(scene.filters(*entries(scene, name)), indent=1))
    done = scene.command("check", "-c", str(path))
    assert done.returncode == 1, done
    assert "Traceback" not in done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if ": error: " in line]
    assert_complete(name, lines)
    assert all(re.match(rf"{re.escape(str(path))}:\d+:", line) for line in lines)


def test_the_program_does_not_start(start: Start, scene: Scene) -> None:
    proxy = start(scene.filters(*scene.bad("AtStart"), *scene.imported()), "--workers", "2", **scene.environment)
    assert proxy.exit_code() == 1
    assert "not started" in proxy.output
    assert "Traceback" not in proxy.output
    for kind, (_, said) in KINDS.items():
        assert f"{place_of('AtImport', kind)}{said}" in proxy.output


def test_other_commands(scene: Scene) -> None:
    path = scene.folder / "c.json"
    path.write_text(json.dumps(scene.filters(*scene.imported(), *scene.bad("AtTimeout")), indent=1))
    listed = scene.command("filters", "-c", str(path), "--json")
    assert listed.returncode == 0, listed.stderr
    states = [info["state"] for info in json.loads(listed.stdout) if info["origin"] == "configured"]
    assert_complete("AtImport", states[: len(KINDS)])
    assert_complete("AtTimeout", states[len(KINDS) :])
    for name, kind in (("AtStart", "interrupt"), ("AtInit", "panic"), ("AtTimeout", "lies")):
        settings = json.dumps({"kind": kind})
        done = scene.command("bench-filter", "--config", settings, f"{scene.folder / 'lives.py'}:{name}")
        assert done.returncode == 2, done
        assert "Traceback" not in done.stderr
        assert f"{place_of(name, kind)}{KINDS[kind][1]}" in done.stderr
