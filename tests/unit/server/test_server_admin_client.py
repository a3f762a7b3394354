"""Commands over the admin socket: what they say when nothing, something else, or nonsense answers."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pymosn.control.peer import Peer
from pymosn.server import admin_client
from pymosn.server.admin_client import CallError, reload_running, stop_running

RESULT = b'{"attempt": 1, "source": "s", "applied": true, "version": 2, "message": "m", "faults": []}'


def response(status: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body)


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Callable[[bytes | None], str]]:
    """Starts a server for one connection that sends these bytes, or None: nothing; returns its path."""
    opened: list[socket.socket] = []
    done = threading.Event()
    threads: list[threading.Thread] = []

    def start(data: bytes | None) -> str:
        path = str(tmp_path / "s")
        listener = socket.socket(socket.AF_UNIX)
        opened.append(listener)
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                request = b""
                while request[-1:] != b"}":
                    chunk = client.recv(65536)
                    if not chunk:
                        return
                    request += chunk
                if data is None:
                    done.wait(20)
                else:
                    client.sendall(data)

        threads.append(threading.Thread(target=serve))
        threads[0].start()
        return path

    yield start
    done.set()
    for thread in threads:
        thread.join(20)
    for sock in opened:
        sock.close()


def test_a_result_is_returned(answering: Callable[[bytes | None], str]) -> None:
    assert reload_running(answering(response(b"200 OK", RESULT)), "c.json", 10).version == 2


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + response(b"200 OK", RESULT),
        b"HTTP/1.1 100 Continue\r\n\r\n" * 2 + response(b"400 Bad Request", RESULT),
        b"HTTP/1.1 200 OK\r\n\r\n" + RESULT,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n%x\r\n" % (len(RESULT) - 1)
        + RESULT[1:]
        + b"\r\n0\r\n\r\n",
    ],
)
def test_a_result_is_found_however_it_is_framed(answering: Callable[[bytes | None], str], data: bytes) -> None:
    assert reload_running(answering(data), "c.json", 10).version == 2


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\n", "does not answer as pymosn does"),
        (b"", "does not answer as pymosn does"),
        (b"SSH-2.0-x\r\n", "does not answer as pymosn does"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{", "does not answer as pymosn does"),
        (response(b"200 OK", b""), "not a result of a change"),
        (response(b"200 OK", b"{}"), "not a result of a change"),
        (response(b"200 OK", b"[" * 50_000), "not a result of a change"),
        (response(b"200 OK", b"\xff\xfe"), "not a result of a change"),
        (response(b"404 Not Found", b"Not Found"), "answered 404: Not Found"),
        (response(b"503 Service Unavailable", b""), "answered 503: no reason"),
        (response(b"409 Conflict", b'{"error": "started from\\nanother"}'), "answered 409: started from another"),
        (response(b"200 OK", RESULT).replace(b"200", b"302"), "answered 302"),
    ],
)
def test_malformed_answers_are_named(answering: Callable[[bytes | None], str], data: bytes, said: str) -> None:
    path = answering(data)
    with pytest.raises(CallError) as caught:
        reload_running(path, "c.json", 10)
    assert said in str(caught.value)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_answer_is_not_waited_for_longer_than_allowed(answering: Callable[[bytes | None], str]) -> None:
    with pytest.raises(CallError, match=r"has not answered within 0\.2 s"):
        reload_running(answering(None), "c.json", 0.2)


def test_an_answer_byte_by_byte_is_not_waited_for_longer_either(tmp_path: Path) -> None:
    done = threading.Event()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()

        def drip() -> None:
            client, _ = listener.accept()
            with client, suppress(OSError):
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                while not done.wait(0.05):
                    client.sendall(b" ")

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            with pytest.raises(CallError, match=r"has not answered within 0\.3 s"):
                reload_running(str(tmp_path / "s"), "c.json", 0.3)
        finally:
            done.set()
            thread.join(20)


def test_a_process_that_does_not_end_is_reported(answering: Callable[[bytes | None], str]) -> None:
    with pytest.raises(CallError, match=rf"process {os.getpid()} is stopping, but has not ended within 0\.3 s"):
        stop_running(answering(response(b"202 Accepted", b"{}")), "c.json", True, 0.3)


def test_nothing_is_running(tmp_path: Path) -> None:
    with pytest.raises(CallError, match=r"no process found at .*/s: there is no such socket"):
        reload_running(str(tmp_path / "s"), "c.json", 1)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "s"))
    with pytest.raises(CallError, match="no process listens there"):
        stop_running(str(tmp_path / "s"), "c.json", False, 1)
    (tmp_path / "file").write_text("")
    with pytest.raises(CallError, match="no process found"):
        reload_running(str(tmp_path / "file"), "c.json", 1)
    with pytest.raises(CallError, match="too long"):
        reload_running(str(tmp_path / ("d" * 200)), "c.json", 1)


def test_a_socket_of_another_user(
    answering: Callable[[bytes | None], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = answering(response(b"200 OK", RESULT))
    with monkeypatch.context() as patched:
        patched.setattr(os, "geteuid", lambda: 1000)
        patched.setattr(admin_client, "peer_of", lambda sock: Peer(7, 4242))
        with pytest.raises(CallError, match=r"belongs to another user \(uid 4242\)"):
            reload_running(path, "c.json", 10)
