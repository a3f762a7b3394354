"""gRPC through two hops of the real program: grpcio on both ends."""

from __future__ import annotations

import base64
import json
import os
import queue
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_peers import PATIENCE, Client, EchoServer
from plain_sockets import dead_sockets, port_of
from process_fixtures import Start
from pymosn_process import READY, Pymosn, TwoHops, eventually

from pymosn.recording import read_recording
from pymosn.server.worker_process import worker_environment

pytestmark = pytest.mark.once


class Hops(TwoHops):
    """client -> proxy -> proxy -> server, all in HTTP/2 without TLS."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        for listener in self.config["servers"][0]["listeners"]:
            listener["filter_chains"][0]["filters"][0]["config"]["downstream_protocol"] = "Http2"
            listener["access_logs"] = [
                {"log_path": "stdout", "log_format": f"LOG {listener['name']} %request_path% %grpc_status% %reason%"}
            ]

    def route(self, hop: int) -> dict[str, Any]:
        """The action of the only route of a hop: 0 the client's, 1 the server's."""
        router = self.config["servers"][0]["routers"][hop]
        action: dict[str, Any] = router["virtual_hosts"][0]["routers"][0]["route"]
        return action


@pytest.fixture(scope="module")
def server() -> Iterator[EchoServer]:
    echo = EchoServer()
    yield echo
    echo.close()


@pytest.fixture(scope="module")
def running(server: EchoServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hops, Pymosn]]:
    """A proxy for all tests that leave it as it is. The second hop repeats what is unavailable, the first does not."""
    hops = Hops(server.port)
    hops.route(1)["retry_policy"] = {"retry_on": "unavailable", "num_retries": 2}
    hops.config["servers"][0]["listeners"][1]["stream_filters"] = [{"type": "grpc_metric", "config": {"methods": True}}]
    folder = tmp_path_factory.mktemp("grpc")
    path = folder / "conf" / "mosn.json"
    path.parent.mkdir()
    path.write_text(json.dumps(hops.config))
    proxy = Pymosn(["-c", str(path)], folder, {})
    try:
        proxy.wait_for(READY)
        yield hops, proxy
    finally:
        proxy.end()


@pytest.fixture
def client(running: tuple[Hops, Pymosn]) -> Iterator[Client]:
    with Client(running[0].client_port) as made:
        yield made


def code_of(call: Any) -> grpc.StatusCode:
    """The status of a call that fails."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    code: grpc.StatusCode = caught.value.code()  # type: ignore[attr-defined]
    return code


@contextmanager
def begun(proxy: Pymosn, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A command of pymosn; one that taps has begun to."""
    folder = Path(f"/proc/{proxy.process.pid}/cwd").resolve()
    config = ["-c", str(folder / "conf" / "mosn.json")] if words[0] == "record" else []
    process = subprocess.Popen(
        [sys.executable, "-m", "pymosn", *words, *config],
        cwd=folder,
        env=worker_environment(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        assert not config or "Ctrl-C ends it" in process.stderr.readline()
        yield process
    finally:
        process.kill()
        process.communicate()


# ---- kinds of calls


def test_metadata_in_both_directions(client: Client) -> None:
    sent = (("x-word", "a b"), ("x-raw-bin", bytes(range(256))), ("x-twice", "1"), ("x-twice", "2"))
    answer, call = client.unary("Say").with_call(b"hello", metadata=sent, timeout=PATIENCE)
    assert answer == b"hello"
    received = [(key, value) for key, value in call.initial_metadata() if key.startswith("x-")]
    assert [pair for pair in received if pair in sent] == list(sent)
    assert call.trailing_metadata() == (("x-end", "done"), ("x-end-bin", b"\0\xff"))


def test_streams_in_every_direction(client: Client) -> None:
    assert list(client.streams("Count")(b"100", timeout=PATIENCE)) == [b"%d" % number for number in range(100)]
    assert client.uploads("Sum")((b"%d" % number for number in range(100)), timeout=PATIENCE) == b"4950"
    assert client.uploads("Sum")(iter(()), timeout=PATIENCE) == b"0"


def test_each_side_of_a_chat_waits_for_the_other(client: Client) -> None:
    asked: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    answers = client.chats("Chat")(iter(asked.get, None), timeout=PATIENCE)
    for number in range(50):
        asked.put(b"message %d" % number)
        assert next(answers) == (b"message %d" % number)[::-1]
    asked.put(None)
    assert list(answers) == []


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_large_messages(running: tuple[Hops, Pymosn], compression: Any) -> None:
    data = random.Random(1).randbytes(1 << 20) * 4
    with Client(running[0].client_port, compression=compression) as client:
        assert client.unary("Say")(data, timeout=PATIENCE) == data
        assert list(client.chats("Chat")(iter([data, b"", data]), timeout=PATIENCE)) == [data[::-1], b"", data[::-1]]


def test_many_calls_at_a_time_on_one_connection(client: Client) -> None:
    calls = [client.unary("Say").future(b"%d" % number, timeout=PATIENCE) for number in range(300)]
    assert [call.result() for call in calls] == [b"%d" % number for number in range(300)]


def test_calls_are_recorded_and_replayed(running: tuple[Hops, Pymosn], server: EchoServer, tmp_path: Path) -> None:
    hops, proxy = running
    calls, tape = 5, str(tmp_path / "calls.tape")
    conditions = ("--bodies", "64KiB", "--listener", "clientListener", "--count", str(calls))
    with begun(proxy, "record", tape, *conditions) as recording:
        with Client(hops.client_port) as client:
            secret = (("authorization", "Bearer abc123"), ("x-token-bin", b"abc123"))
            assert client.unary("Say")(b"hello", metadata=secret, timeout=PATIENCE) == b"hello"
            assert client.unary("Name")(b"", timeout=PATIENCE) == b"one"
            assert code_of(lambda: client.unary("Fail")(b"5", timeout=PATIENCE)) == grpc.StatusCode.NOT_FOUND
            assert len(list(client.streams("Count")(b"100", timeout=PATIENCE))) == 100
            assert client.uploads("Sum")(iter([b"1", b"2"]), timeout=PATIENCE) == b"3"
        assert recording.wait(PATIENCE) == 0
    recorded = read_recording(tape)
    assert len(recorded) == calls
    # A call that fails at once has one block of fields only.
    ends = [one.response.trailers or one.response.headers for one in recorded]
    assert sorted({name: value for name, value, *_ in end}["grpc-status"] for end in ends) == ["0"] * 4 + ["5"]
    assert "abc123" not in Path(tape).read_text()
    assert base64.b64encode(b"abc123").decode() not in Path(tape).read_text()

    # gRPC refuses metadata that is not Base64, as the mark of a secret is not.
    words = ("replay", tape, "--to", f"127.0.0.1:{hops.client_port}", "--json", "--header", "x-token-bin: YWJj")
    with begun(proxy, *words) as same:
        assert (same.communicate(timeout=PATIENCE)[0], same.returncode) == ("[]\n", 0)
    server.name = "two"
    with begun(proxy, *words) as other:
        output, _ = other.communicate(timeout=PATIENCE)
    server.name = "one"
    [changed] = json.loads(output)
    assert changed["request"].endswith("/test.Echo/Name")
    assert [one["what"] for one in changed["differences"]] == ["body"]


# ---- how calls end


@pytest.mark.parametrize("number", [1, 2, 5, 13, 16])
def test_status_message_and_trailers(client: Client, number: int) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        client.unary("Fail")(b"%d" % number, timeout=PATIENCE)
    error: Any = caught.value
    assert error.code().value[0] == number
    assert error.details() == "50 % kaputt: größer \u20ac\n"
    assert ("x-why", "told to") in error.trailing_metadata()


def test_what_does_not_exist_is_unimplemented(client: Client) -> None:
    assert code_of(lambda: client.unary("None")(b"", timeout=PATIENCE)) is grpc.StatusCode.UNIMPLEMENTED
    assert code_of(lambda: client.unary("Say", "no.Such")(b"", timeout=PATIENCE)) is grpc.StatusCode.UNIMPLEMENTED


def test_deadlines(client: Client, server: EchoServer, running: tuple[Hops, Pymosn]) -> None:
    server.was_cancelled.clear()
    assert code_of(lambda: client.unary("Sleep")(b"1", timeout=0.2)) is grpc.StatusCode.DEADLINE_EXCEEDED
    assert 0.0 < server.time_left < 0.3  # gRPC rounds up
    assert server.was_cancelled.wait(PATIENCE)
    running[1].wait_for(r"LOG serverListener /test\.Echo/Sleep (1 client_gone|4 deadline_exceeded)")


def test_a_client_that_cancels(client: Client, server: EchoServer) -> None:
    server.was_cancelled.clear()
    call = client.streams("Endless")(b"", timeout=PATIENCE)
    assert next(call) == b"first"
    call.cancel()
    assert server.was_cancelled.wait(PATIENCE)


def test_a_host_that_goes_away(start: Start) -> None:
    server = EchoServer()
    hops = Hops(server.port)
    start(hops.config).wait_for(READY)
    with Client(hops.client_port) as client:
        call = client.streams("Endless")(b"", timeout=PATIENCE)
        assert next(call) == b"first"
        threading.Thread(target=server.close).start()
        assert code_of(lambda: next(call)) in (
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.CANCELLED,
            grpc.StatusCode.INTERNAL,
            grpc.StatusCode.UNKNOWN,
        )
        assert eventually(lambda: code_of(lambda: client.unary("Say")(b"", timeout=PATIENCE)) is grpc.StatusCode.UNAVAILABLE)


# ---- retries, metrics, health


@pytest.mark.parametrize("method", ["Flaky", "HeadThenFail"])
def test_what_is_unavailable_is_repeated(client: Client, server: EchoServer, method: str) -> None:
    server.calls, server.failures = 0, 2
    assert client.unary(method)(b"again", timeout=PATIENCE) == b"again"
    assert server.calls == 3
    server.calls, server.failures = 0, 5
    assert code_of(lambda: client.unary(method)(b"again", timeout=PATIENCE)) is grpc.StatusCode.UNAVAILABLE
    assert server.calls == 3


def test_nothing_is_repeated_after_a_message(client: Client, server: EchoServer) -> None:
    server.calls = 0
    call = client.streams("FlakyStream")(b"once", timeout=PATIENCE)
    assert next(call) == b"once"
    assert code_of(lambda: next(call)) is grpc.StatusCode.UNAVAILABLE
    assert server.calls == 1


def test_metrics_and_logs(client: Client, running: tuple[Hops, Pymosn]) -> None:
    hops, proxy = running
    client.unary("Name")(b"", timeout=PATIENCE)
    proxy.wait_for(r"LOG clientListener /test\.Echo/Name 0 -")
    for labels in ("method.Name.service.test.Echo", "service.test.Echo"):

        def counts(labels: str = labels) -> dict[str, str]:
            found: dict[str, str] = json.loads(hops.admin("/api/v1/stats")).get("grpc", {}).get(labels, {})
            return found

        assert eventually(lambda read=counts: int(read().get("response_succ_total", 0)) >= 1)  # type: ignore[misc]


def test_health_and_no_host(start: Start) -> None:
    one, two = EchoServer("one"), EchoServer("two")
    with dead_sockets(1) as (down,):
        hops = Hops(one.port)
        cluster = hops.config["cluster_manager"]["clusters"][1]
        cluster["hosts"] += [{"address": f"127.0.0.1:{two.port}"}, {"address": f"127.0.0.1:{port_of(down)}"}]
        cluster["health_check"] = {
            "protocol": "grpc",
            "interval": "50ms",
            "timeout": "30s",
            "initial_delay_seconds": "10ms",
        }
        two.is_serving = False
        proxy = start(hops.config)
        proxy.wait_for(READY)
        proxy.wait_for(f"host 127.0.0.1:{two.port} fails its health check: NOT_SERVING")
        proxy.wait_for(f"host 127.0.0.1:{port_of(down)} fails its health check")
        with Client(hops.client_port) as client:
            name = client.unary("Name")
            assert eventually(lambda: {name(b"", timeout=PATIENCE) for _ in range(10)} == {b"one"})
            two.is_serving = True
            proxy.wait_for(f"host 127.0.0.1:{two.port} is healthy again")
            one.is_serving = False
            assert eventually(lambda: {name(b"", timeout=PATIENCE) for _ in range(10)} == {b"two"})
            two.is_serving = False
            proxy.wait_for(f"host 127.0.0.1:{one.port} fails its health check: NOT_SERVING")

            def fails() -> bool:
                try:
                    name(b"", timeout=PATIENCE)
                except grpc.RpcError as error:
                    found = (error.code(), error.details())  # type: ignore[attr-defined]
                    return found == (grpc.StatusCode.UNAVAILABLE, "502 Bad Gateway: all_unhealthy")
                return False

            assert eventually(fails)
    one.close()
    two.close()
