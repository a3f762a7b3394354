"""Replays: what is sent, when, and what becomes of hosts that answer differently, badly, late or not at all."""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from tests.kit import bolt_frames
from tests.kit.certificates import issue
from tests.kit.fakes import FakeClock

from pymosn.kit.replay import AT_ONCE, Replay, Result, has_placeholder, why_not
from pymosn.kit.replay_report import as_values, print_report
from pymosn.kit.replay_wire import Target
from pymosn.kit.replaying import replay
from pymosn.recording import DEFAULT_IGNORED, Body, Recorded, RecordedRequest, RecordedResponse
from pymosn.recording.files import RecordingWriter

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def exchange(number: int = 1, at: float = 0.0, method: str = "GET", body: bytes = b"", **changes: Any) -> Recorded:
    whole = Body(size=len(body), data=body, complete=True)
    request = RecordedRequest(method=method, target="/a", host="shop.example", size=len(body), body=whole)
    response = RecordedResponse(
        status=200, size=5, body=Body(size=5, data=b"hello", complete=True), headers=[["content-length", "5"]]
    )
    made = Recorded(number=number, story={"time": at, "protocol": "Http1"}, request=request, response=response)
    for name, value in changes.items():
        part, _, attribute = name.partition("_")
        setattr(getattr(made, part) if attribute else made, attribute or name, value)
    return made


def call(number: int, content: bytes = b"pong", **fields: str | None) -> Recorded:
    frame = bolt_frames.request(number, b"ping", headers={"service": "S", **fields})
    request = RecordedRequest(method="m", target="", service="S", frame=frame)
    response = RecordedResponse(status=200, frame=bolt_frames.response(number, content), frame_status=200)
    return Recorded(number=number, story={"time": 0.0, "protocol": "bolt"}, request=request, response=response, rpc=True)


def replayed(handler: Handler, *exchanges: Recorded, speed: float = AT_ONCE, timeout: float = 30.0, **target: Any) -> Replay:
    """Replays to a server that is this handler."""

    async def scenario() -> Replay:
        server = await asyncio.start_server(handler, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        work = Replay(
            Target("127.0.0.1", port, **target), speed=speed, concurrency=2, timeout=timeout, ignored=DEFAULT_IGNORED
        )
        await work.run(exchanges)
        server.close()
        return work

    return asyncio.run(scenario())


class Server:
    """Answers each request that has no body with the next of these answers; None closes the connection."""

    def __init__(self, *answers: bytes | None) -> None:
        self.answers = list(answers)
        self.heads: list[bytes] = []
        self.connections = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                answer = self.answers.pop(0)
                if answer is not None:
                    writer.write(answer)
                if answer is None or len(answer) < len(OK):
                    break
        except asyncio.IncompleteReadError:
            pass
        writer.close()


def test_the_same_response() -> None:
    server = Server(OK, OK, OK)
    work = replayed(server, exchange(1), exchange(2), exchange(3))
    assert all(result.is_same for result in work.results)
    assert server.heads[0] == b"GET /a HTTP/1.1\r\nhost: shop.example\r\n\r\n"
    assert server.connections <= 2


def test_differences_and_no_responses() -> None:
    server = Server(OK.replace(b"200", b"404").replace(b"hello", b"other"), OK[:-2], None, b"nonsense\r\n\r\n" + OK)
    work = replayed(server, *(exchange(number) for number in range(1, 5)))
    texts = {text for result in work.results for text in [result.error, *(one.text() for one in result.differences)] if text}
    assert "status: 200, now 404" in texts
    assert "body from byte 0: b'hello', now b'other'" in texts
    assert "end: complete, now the connection was closed" in texts
    assert "the connection was closed" in texts
    assert any(text.startswith("the response is not valid") for text in texts)
    print_report(work.results, 2)
    assert len(as_values(work.results)) == 4


def test_a_host_that_closes_an_idle_connection() -> None:
    server = Server(OK, None, OK)
    work = replayed(server, exchange(1), exchange(2, at=0.05), speed=1.0)
    assert [result.is_same for result in work.results] == [True, True]


def test_a_response_that_did_not_come_before_either() -> None:
    gone = exchange(1, response_status=0, response_reset="client_gone", response_body=None)
    assert replayed(Server(None), gone).results[0].is_same


def test_a_host_that_does_not_answer() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    [result] = replayed(silent, exchange(), timeout=0.05).results
    assert result.error == "no response within 0.05 s"


def test_the_recorded_pauses_by_the_speed() -> None:
    clock = FakeClock()
    started, pauses = clock.now, []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        clock.now += max(0.0, seconds)

    async def scenario() -> None:
        server = await asyncio.start_server(Server(OK, OK, OK), "127.0.0.1", 0)
        target = Target("127.0.0.1", server.sockets[0].getsockname()[1])
        options: dict[str, Any] = {"speed": 20.0, "concurrency": 1, "timeout": 30.0, "ignored": DEFAULT_IGNORED}
        work = Replay(target, **options, now=lambda: clock.now, sleep=sleep)
        await work.run([exchange(1, at=100.0), exchange(2, at=101.0), exchange(3, at=104.0)])
        server.close()
        assert all(result.is_same for result in work.results)

    asyncio.run(scenario())
    assert pauses == pytest.approx([0.0, 0.05, 0.15])
    assert clock.now - started == pytest.approx(0.2)


def test_fields_that_are_set() -> None:
    server = Server(OK)
    one = exchange(request_headers=[["Authorization", "***REDACTED***"], ["x-a", "b"], ["x-odd", "", "/w=="]])
    assert has_placeholder(one, set())
    assert not has_placeholder(one, {"authorization"})
    replayed(server, one, headers=[["authorization", "Bearer real"]])
    assert b"\r\nx-a: b\r\nx-odd: \xff\r\nauthorization: Bearer real\r\n" in server.heads[0]
    assert b"REDACTED" not in server.heads[0]


async def bolt_server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    rest = b""
    while data := await reader.read(65536):
        rest += data
        while (parsed := bolt_frames.parse(rest))[0] is not None:
            frame, rest = parsed
            assert frame is not None
            content = b"other" if frame.headers.get("token") == "real" else b"pong"
            writer.write(bolt_frames.response(frame.request_id, content))
    writer.close()


def test_calls_of_bolt() -> None:
    work = replayed(bolt_server, call(1), call(2, b"else"), call(3))
    assert [[one.text() for one in result.differences] for result in work.results] == [
        [],
        ["body from byte 0: b'else', now b'pong'"],
        [],
    ]
    [result] = replayed(bolt_server, call(1, token="***REDACTED***"), headers=[["token", "real"]]).results
    assert [one.text() for one in result.differences] == ["body from byte 0: b'pong', now b'other'"]


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (exchange(tunnel=True), "tunnel"),
        (exchange(method="POST", request_body=None, request_size=5), "record with --bodies"),
        (exchange(request_body=Body(size=9, data=b"abc", complete=False), request_size=9), "larger --bodies"),
        (exchange(request_target="x"), "not one that can be sent"),
        (exchange(request_target="/a HTTP/1.1\r\nx: y"), "not one that can be sent"),
        (exchange(request_host="a\r\nx: y"), "not one that can be sent"),
        (exchange(method="GET /b"), "not one that can be sent"),
        (exchange(request_headers=[["x-a", "1\r\nx-b: 2"]]), "not one that can be sent"),
        (exchange(request_headers=[["x-a: 1\r\nx-b", "2"]]), "not one that can be sent"),
        (exchange(request_headers=[["x-a", "", "DQo="]]), "not one that can be sent"),
        (exchange(request_trailers=[["x-a", "1\n"]]), "not one that can be sent"),
        (exchange(note="the request was refused"), "was refused"),
        (exchange(response_status=0), "has no response"),
        (Recorded(number=1, story={}, request=call(1).request, response=RecordedResponse(status=200), rpc=True), "response"),
        (
            Recorded(number=1, story={}, request=RecordedRequest(method="", target=""), response=call(1).response, rpc=True),
            "fra",
        ),
        (exchange(), ""),
        (call(1), ""),
    ],
)
def test_what_cannot_be_replayed(one: Recorded, text: str) -> None:
    assert text in why_not(one)
    assert bool(text) == bool(why_not(one))


def test_an_unknown_protocol() -> None:
    one = call(1)
    one.story["protocol"] = "other"
    assert replayed(bolt_server, one).results[0].error == "the protocol 'other' is not known"


def test_a_result_that_was_not_sent_is_not_the_same() -> None:
    assert not Result(exchange(), skipped="why").is_same


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["x.tape", "--to", "nowhere"], "is neither HOST:PORT nor"),
        (["x.tape", "--to", "a:1", "--speed", "fast"], "is neither a factor"),
        (["x.tape", "--to", "a:1", "--header", "no"], "is not a field"),
        (["none.tape", "--to", "a:1"], "none.tape: No such file or directory"),
    ],
)
def test_wrong_words(words: list[str], text: str) -> None:
    result = CliRunner().invoke(replay, words)
    assert result.exit_code == 2
    assert text in result.output


def test_a_damaged_frame_is_an_error_and_not_the_same() -> None:
    one = call(1)
    assert one.request.frame is not None
    one.request.frame = one.request.frame[:9]
    [result] = replayed(bolt_server, one, headers=[["token", "real"]]).results
    assert result.error.startswith("it cannot be replayed: ")
    assert not result.is_same


def test_a_report_does_not_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    server = Server(OK.replace(b"hello", b"other"))
    work = replayed(server, exchange(request_target="/a\x9b2J"))
    assert server.heads[0].startswith(b"GET /a\x9b2J HTTP/1.1\r\n")
    work.results.append(Result(exchange(), skipped="\x1b[2J\ud800"))
    print_report(work.results, 2)
    output = capsys.readouterr().out
    assert "\\x1b[2J\\ud800" in output
    assert "/a\\x9b2J" in output
    assert not {"\x1b", "\x9b"}.intersection(output)


def test_trailers_are_accepted_as_before() -> None:
    server = Server(OK, OK)
    replayed(server, exchange(request_headers=[["te", "x"]]), exchange(2, request_accepts_trailers=True))
    assert sorted(b"\r\nconnection: te\r\nte: trailers\r\n" in head for head in server.heads) == [False, True]
    assert not any(b"te: x" in head for head in server.heads)


def test_a_target_of_any_bytes_is_sent_as_it_was() -> None:
    server = Server(OK)
    replayed(server, exchange(request_target=b"/caf\xc3\xa9?\xff".decode("latin-1")))
    assert server.heads[0].startswith(b"GET /caf\xc3\xa9?\xff HTTP/1.1\r\n")


@contextmanager
def tls_server(tmp_path: Path, *alpn: str) -> Iterator[tuple[int, str]]:
    """A server of HTTP/1 with TLS; its port, and the file of its certificate."""
    own = issue("shop.example", None, names=("shop.example",), is_ca=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.load_into(context)
    context.set_alpn_protocols(list(alpn))
    begun: Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        server = await asyncio.start_server(Server(OK, OK, OK), "127.0.0.1", 0, ssl=context)
        end = asyncio.Event()
        begun.set_result((server.sockets[0].getsockname()[1], asyncio.get_running_loop(), end))
        await end.wait()
        server.close()

    with ThreadPoolExecutor(1) as pool:
        serving = pool.submit(asyncio.run, serve())
        port, loop, end = begun.result(10)
        try:
            yield port, own.files(tmp_path, "own")[0]
        finally:
            loop.call_soon_threadsafe(end.set)
            serving.result(10)


def test_tls(tmp_path: Path) -> None:
    tape = str(tmp_path / "day.tape")
    writer = RecordingWriter(tape, 100_000)
    writer.add(msgspec.json.encode(exchange()))
    writer.finish()

    def run(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(replay, [tape, "--speed", "max", *words])
        return result.exit_code, result.output

    with tls_server(tmp_path, "http/1.1") as (port, ca):
        to = ("--to", f"https://127.0.0.1:{port}")
        assert run(*to, "--ca", ca, "--server-name", "shop.example")[0] == 0
        assert run(*to, "--insecure")[0] == 0
        for words, text in (
            (("--ca", ca), "127.0.0.1"),
            ((), "certificate"),
            (("--http", "2", "--insecure"), "use --http 1"),
        ):
            code, output = run(*to, *words)
            assert (code, text in output) == (1, True), output
    assert run("--to", f"127.0.0.1:{port}", "--insecure")[0] == 2
    assert run(*to, "--ca", tape)[0] == 2


def test_an_interrupted_replay_reports_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tape = str(tmp_path / "day.tape")
    writer = RecordingWriter(tape, 100_000)
    for number in range(3):
        writer.add(msgspec.json.encode(exchange(number, note="refused" if number < 2 else "")))
    writer.finish()

    async def interrupted(work: Replay, result: Result) -> None:
        signal.raise_signal(signal.SIGINT)
        await asyncio.Event().wait()

    monkeypatch.setattr(Replay, "_one", interrupted)
    # A shell starts programs in the background with this signal ignored, and asyncio leaves it so.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        result = CliRunner().invoke(replay, [tape, "--to", "127.0.0.1:9", "--speed", "max"])
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.exit_code == 1
    assert "interrupted after 3 of 3 exchanges" in result.output
    assert "2 not sent: refused" in result.output
