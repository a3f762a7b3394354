"""Health checks by gRPC and by HTTP/2: against grpcio's server, and against hosts that answer wrongly."""

import asyncio
import contextlib
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from tests.kit import Lines
from tests.kit import certificates as made

from pymosn.api.grpc import STATUS_NAMES
from pymosn.api.http import HttpResponse
from pymosn.config.schema import Cluster, ClusterManager, Host, MosnConfig
from pymosn.config.schema.cluster import GrpcProbe, HealthCheck, HttpProbe, ProbeConfig, StatusRange
from pymosn.control.grpc_health import request_message, serving_status
from pymosn.control.health import HealthChecks
from pymosn.control.http2_client import Http2Error
from pymosn.control.probe import Prober, TlsProbe, UnexpectedAnswer, Way
from pymosn.core.clock import Clock
from pymosn.core.headers import headers_from
from pymosn.network.tls.settings import ClientSettings, TlsSettings
from pymosn.protocol.http2 import frames
from pymosn.protocol.http2.encoder import HeadEncoder

SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"


def run(scenario: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(scenario, 20.0))


def check(service: str = "", authority: str = "") -> HealthCheck:
    return HealthCheck(
        protocol="grpc",
        timeout=5.0,
        check_config=ProbeConfig(grpc_check_config=GrpcProbe(service_name=service, authority=authority)),
    )


class Health(grpc.GenericRpcHandler):
    """A server's health, by what it was asked about."""

    def __init__(self, answers: dict[bytes, bytes | grpc.StatusCode]) -> None:
        self._answers = answers

    def service(self, details: Any) -> Any:
        if details.method != "/grpc.health.v1.Health/Check":
            return None
        return grpc.unary_unary_rpc_method_handler(self._check)

    def _check(self, request: bytes, context: Any) -> bytes:
        answer = self._answers[request[2:]]
        if isinstance(answer, grpc.StatusCode):
            context.abort(answer, "as told")
        assert isinstance(answer, bytes)
        return answer


class Server:
    """A grpcio server, for one test."""

    def __init__(self, *handlers: grpc.GenericRpcHandler, secured: bool = False) -> None:
        self._server = grpc.server(ThreadPoolExecutor(2), handlers=handlers)
        if secured:
            leaf = made.server()
            credentials = grpc.ssl_server_credentials([(leaf.key, leaf.certificate)])
            self.address = f"127.0.0.1:{self._server.add_secure_port('127.0.0.1:0', credentials)}"
        else:
            self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> "Server":
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()


def result(address: str, asked: HealthCheck, tls: TlsProbe | None = None) -> bool | str:
    """Whether the host passes, or why not."""
    try:
        return bool(run(Prober().probe(address, asked, tls)))
    except (UnexpectedAnswer, Http2Error) as error:
        return str(error)


def test_only_serving_is_healthy() -> None:
    answers: dict[bytes, bytes | grpc.StatusCode] = {
        b"": SERVING,
        b"a": NOT_SERVING,
        b"b": b"",
        b"c": b"\x08\x03",
        b"d": grpc.StatusCode.NOT_FOUND,
        b"e": grpc.StatusCode.UNAVAILABLE,
        b"f": b"\xff",
    }
    with Server(Health(answers)) as server:
        assert [result(server.address, check(name)) for name in ("", "a", "b", "c", "d", "e", "f")] == [
            True,
            "NOT_SERVING",
            "UNKNOWN",
            "SERVICE_UNKNOWN",
            "the host has no health of service 'd'",
            "gRPC status unavailable as told",
            "the answer is not a HealthCheckResponse",
        ]


def test_a_server_without_health_is_named() -> None:
    with Server() as server:
        assert result(server.address, check()) == "the host does not implement grpc.health.v1.Health"


def test_over_tls() -> None:
    with Server(Health({b"": SERVING}), secured=True) as server:
        settings = ClientSettings(TlsSettings(ca=made.ca().certificate))
        assert result(server.address, check(), TlsProbe(settings, "localhost")) is True


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((int(kind), int(flags))) + stream.to_bytes(4, "big") + payload


SETTINGS = frame(frames.SETTINGS, 0, 0, b"")


def head_frame(status: int, fields: dict[str, str], flags: int = 4, encoder: HeadEncoder | None = None) -> bytes:
    block = (encoder or HeadEncoder()).response(HttpResponse(status, b"", headers_from(fields)))
    return frame(frames.HEADERS, flags, 1, block)


async def _ask_host(reply: bytes, asked: HealthCheck) -> tuple[bool | str, bytes]:
    received = bytearray()
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.extend(await reader.read(4096))
        writer.write(reply)
        await writer.drain()
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(4096):
                received.extend(data)
        writer.close()
        done.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        passed: bool | str = await Prober().probe(f"127.0.0.1:{port}", asked, None)
    except (UnexpectedAnswer, Http2Error) as error:
        passed = str(error)
    await done.wait()
    server.close()
    return passed, bytes(received)


def ask_host(reply: bytes, asked: HealthCheck) -> tuple[bool | str, bytes]:
    """What the check makes of a host that sends `reply`, and what the host received."""
    found: tuple[bool | str, bytes] = run(_ask_host(reply, asked))
    return found


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "the host answers in HTTP/1"),
        (b"SSH-2.0-x\r\n", "not valid HTTP/2: the first frame is not SETTINGS"),
        (SETTINGS + frame(frames.RST_STREAM, 0, 1, b"\0\0\0\x07"), "the host has reset the request with code 7"),
        (SETTINGS + frame(frames.GOAWAY, 0, 0, bytes(4) + b"\0\0\0\x0b"), "the host has sent GOAWAY with code 11"),
        (SETTINGS + head_frame(503, {}, 5), "HTTP status 503"),
        (SETTINGS + head_frame(200, {}, 5), "gRPC status none"),
        (SETTINGS + frame(frames.HEADERS, 4, 1, b"\xff\xff\xff"), "not valid HTTP/2"),
        (SETTINGS + frame(frames.DATA, 8, 1, b"\x09"), "not valid HTTP/2: DATA with more padding than payload"),
    ],
)
def test_hosts_that_answer_otherwise(reply: bytes, fault: str) -> None:
    found, _ = ask_host(reply, check())
    assert isinstance(found, str)
    assert found.startswith(fault)


def test_frames_of_every_kind_are_understood() -> None:
    encoder = HeadEncoder()
    block = encoder.response(HttpResponse(200, b"", headers_from({"content-type": "application/grpc"})))
    ends = encoder.trailers(headers_from({"grpc-status": "0"}))
    message = b"\0\0\0\0\x02" + SERVING
    reply = b"".join(
        [
            SETTINGS,
            frame(frames.PING, 0, 0, b"12345678"),
            frame(frames.WINDOW_UPDATE, 0, 0, b"\0\0\1\0"),
            frame(99, 0, 0, b"unknown"),
            frame(frames.HEADERS, 0x28, 1, b"\2" + bytes(5) + block[:3] + b"\0\0"),
            frame(frames.CONTINUATION, 4, 1, block[3:]),
            frame(frames.DATA, 8, 1, b"\1" + message[:4] + b"\0"),
            frame(frames.DATA, 0, 1, message[4:]),
            frame(frames.HEADERS, 5, 1, ends),
        ]
    )
    found, received = ask_host(reply, check(authority="health.test"))
    assert found is True
    assert received.startswith(frames.PREFACE)
    assert frame(frames.PING, 1, 0, b"12345678") in received
    assert frame(frames.SETTINGS, 1, 0, b"") in received
    assert frame(frames.DATA, 1, 1, request_message("")) in received


@pytest.mark.parametrize(
    ("status", "codes", "passes"),
    [(200, [], True), (404, [], False), (404, [StatusRange(Start=400, End=499)], True)],
)
def test_a_get_over_http2(status: int, codes: list[StatusRange], passes: bool) -> None:
    http = HttpProbe(path="/health?deep", domain="a.test", codes=codes)
    asked = HealthCheck(protocol="Http2", timeout=5.0, check_config=ProbeConfig(http_check_config=http))
    interim = head_frame(103, {"link": "</a>"})
    found, received = ask_host(SETTINGS + interim + head_frame(status, {}), asked)
    assert found is passes
    assert frames.PREFACE in received


@pytest.mark.parametrize(("method", "passes"), [("HEAD", True), ("GET", "content-length without content")])
def test_a_head_over_http2_has_the_length_of_the_get(method: str, passes: bool | str) -> None:
    http = HttpProbe(path="/health", method=method)
    asked = HealthCheck(protocol="Http2", timeout=5.0, check_config=ProbeConfig(http_check_config=http))
    head = HttpResponse(200, b"", headers_from(None))
    head.headers.add_raw(b"content-length", b"5")
    found, _ = ask_host(SETTINGS + frame(frames.HEADERS, 5, 1, HeadEncoder().response(head)), asked)
    assert found is True if passes is True else str(passes) in str(found)


def test_the_log_names_the_reason_and_the_network_is_not_blamed() -> None:
    async def scenario() -> tuple[list[str], dict[str, int]]:
        log = Lines()

        async def probe(address: str, asked: HealthCheck, tls: TlsProbe | None, way: Way) -> bool:
            raise UnexpectedAnswer("NOT_SERVING")

        pauses = 0

        async def sleep(seconds: float) -> None:
            nonlocal pauses
            pauses += 1
            if pauses > 1:
                await asyncio.get_running_loop().create_future()

        checks = HealthChecks(lambda cluster, hosts: None, Clock(), log, probe, sleep, report_pause=0.0)
        cluster = Cluster(name="c", hosts=[Host(address="a:1")], health_check=check())
        checks.follow(MosnConfig(cluster_manager=ClusterManager(clusters=[cluster])))
        while pauses < 2:
            await asyncio.sleep(0)
        [group] = checks.metrics.snapshot()
        await checks.stop()
        return log.lines, group["counters"]

    lines, counters = run(scenario())
    assert any("host a:1 fails its health check: NOT_SERVING" in line for line in lines)
    assert counters == {"attempt": 1, "failure": 1, "active_failure": 1}


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (b"", 0),
        (SERVING, 1),
        (b"\x12\x02hi\x08\x01", 1),
        (b"\x0d\1\2\3\4\x08\x01", 1),
        (b"\x09" + bytes(8) + b"\x08\x01", 1),
        (b"\x10\x05\x08\x02", 2),
    ],
)
def test_messages(message: bytes, status: int) -> None:
    assert serving_status(b"\0" + len(message).to_bytes(4, "big") + message) == status


@pytest.mark.parametrize(
    "body", [b"", b"\1\0\0\0\0", b"\0\0\0\0\2\x08", b"\0\0\0\0\2\x0c\1", b"\0\0\0\0\3\x12\x05a", b"\0\0\0\0\2\x08\xff"]
)
def test_messages_that_are_none(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"message|number|field"):
        serving_status(body)


def test_long_names_of_services() -> None:
    name = "s" * 300
    assert request_message(name) == b"\0" + (303).to_bytes(4, "big") + b"\x0a\xac\x02" + name.encode()
    assert STATUS_NAMES[12] == "unimplemented"
