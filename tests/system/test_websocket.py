"""WebSocket through two hops of the real program: `websockets` on both ends, and the families of Autobahn's cases by hand.

Autobahn's own suite (autobahntestsuite on PyPI) is Python 2 to this day. What its cases are for, a server's conduct, is not
a proxy's; that every byte of them passes is. So each case here is sent to the server directly and through the proxy: the
answers must be the same bytes.
"""

from __future__ import annotations

import copy
import json
import os
import random
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from plain_sockets import PATIENCE, read_exactly
from process_fixtures import Start
from pymosn_process import READY, Pymosn, TwoHops, eventually
from web_sockets import ASK, BINARY, CLOSE, PING, PONG, TEXT, Echo, FrameEcho, RawClient, frame
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, PerMessageDeflate
from websockets.frames import CloseCode
from websockets.sync.client import ClientConnection, connect


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture(scope="module")
def hops(echo: Echo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoHops]:
    yield from running(echo.port, tmp_path_factory.mktemp("websocket"))


def running(port: int, directory: Path) -> Iterator[TwoHops]:
    """A proxy for all tests that leave it as it is."""
    hops = TwoHops(port)
    path = directory / "conf" / "mosn.json"
    path.parent.mkdir()
    path.write_text(json.dumps(hops.config))
    proxy = Pymosn(["-c", str(path)], directory, {})
    try:
        proxy.wait_for(READY)
        yield hops
    finally:
        proxy.end()


def open_socket(hops: TwoHops, path: str = "/echo", **options: Any) -> ClientConnection:
    options = {"max_size": None, "ping_interval": None, "close_timeout": PATIENCE, "open_timeout": PATIENCE, **options}
    return connect(f"ws://127.0.0.1:{hops.client_port}{path}", **options)


def tunnels(hops: TwoHops, key: str = "tunnel_active") -> int:
    """The sum over both listeners and all workers."""
    stats = json.loads(hops.admin("/api/v1/stats"))
    return int(stats["downstream"]["proxy.global"][key])


# ---- a real client and a real server


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 1 << 20])
def test_messages_of_all_lengths(hops: TwoHops, size: int) -> None:
    with open_socket(hops, compression=None) as client:
        client.send("x" * size)
        assert client.recv() == "x" * size
        data = random.Random(size).randbytes(size)
        client.send(data)
        assert client.recv() == data


def test_fragments_pings_and_compression(hops: TwoHops) -> None:
    with open_socket(hops) as client:
        assert client.protocol.extensions, "permessage-deflate was negotiated through both hops"
        client.send(["frag", "ments ", "of one"])
        assert client.recv() == "fragments of one"
        client.send(["zip " * 50_000, "zap " * 50_000])
        assert list(client.recv_streaming())
        for payload in (b"", b"p" * 125):
            assert client.ping(payload).wait(PATIENCE)


#: Autobahn's 12.x: what is compressed, by how well it can be; and 13.x: what the two sides agree about windows.
DEFLATE_KINDS: dict[str, Callable[[int], str | bytes]] = {
    "text": lambda size: ("the quick brown fox \u00e9\u20ac jumps " * (size // 24 + 1))[:size],
    "one byte": lambda size: b"\0" * size,
    "random": lambda size: random.Random(size).randbytes(size),
    "json": lambda size: json.dumps([{"id": number, "name": f"n{number}"} for number in range(size // 24 + 1)])[:size],
}
DEFLATE_OFFERS = [
    {},
    {"server_no_context_takeover": True},
    {"client_no_context_takeover": True},
    {"server_max_window_bits": 9, "client_max_window_bits": 9},
    {"server_max_window_bits": 11, "client_max_window_bits": 10},
    {"server_no_context_takeover": True, "client_no_context_takeover": True, "server_max_window_bits": 10},
]


@pytest.mark.parametrize("offer", DEFLATE_OFFERS, ids=str)
def test_compressed_messages(hops: TwoHops, offer: dict[str, Any]) -> None:
    """Autobahn's families 12 and 13: many sizes and many messages in one context, in frames whole and in pieces."""
    with open_socket(hops, compression=None, extensions=[ClientPerMessageDeflateFactory(**offer)]) as client:
        (agreed,) = client.protocol.extensions
        assert isinstance(agreed, PerMessageDeflate)
        for name, wanted in offer.items():
            side = "remote" if name.startswith("server") else "local"
            assert getattr(agreed, name.replace("server", side).replace("client", side)) == wanted
        for make in DEFLATE_KINDS.values():
            for size, count in ((0, 2), (16, 40), (64, 20), (256, 20), (1024, 10), (4096, 10), (65536, 3), (131072, 2)):
                message = make(size)
                for number in range(count):
                    client.send([message[: size // 2], message[size // 2 :]] if number % 2 else message)
                assert all(client.recv() == message for _ in range(count))


@pytest.mark.parametrize("code", [1000, 1001, 1011, 3000, 4999])
def test_close_codes_of_either_side(hops: TwoHops, echo: Echo, code: int) -> None:
    with open_socket(hops, f"/close/{code}") as client, pytest.raises(ConnectionClosed) as caught:
        client.recv()
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (code, "as asked")
    with open_socket(hops, f"/echo?{code}") as client:
        client.close(code, "bye")
    assert eventually(lambda: (f"/echo?{code}", code) in echo.ends)


def test_refused_upgrade_is_an_ordinary_reply(hops: TwoHops) -> None:
    with pytest.raises(InvalidStatus) as caught:
        open_socket(hops, "/refuse")
    assert caught.value.response.status_code == 403
    assert caught.value.response.body == b"no\n"


def test_frames_behind_a_refused_upgrade_are_not_tunnelled(hops: TwoHops, echo: Echo) -> None:
    count = len(echo.connections)
    refused = RawClient(hops.client_port, ASK.replace(b"/echo", b"/refuse"), frame(TEXT, b"smuggled"))
    assert refused.head.startswith(b"HTTP/1.1 403 ")
    assert b"HTTP/1.1 400 " in refused.talk([])
    assert len(echo.connections) == count


# ---- the families of Autobahn's cases

_RANDOM = random.Random(6455)
SIZES = (0, 1, 125, 126, 127, 128, 65535, 65536, 65537)
GOOD_TEXT = ("Hello-µ@ßöäüàá-UTF-8!!", "\u0800\uffff", "\U00010000\U0010ffff", "\u0000\ue000\ufffd", "κόσμε")
BAD_TEXT = (
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited", b"\xf4\x90\x80\x80", b"\xc0\xaf", b"\xfe", b"\xff",
    b"\xe0\x80\xaf", b"\xc3", b"\xed\xbf\xbf", b"\x80", b"\xf8\x88\x80\x80\x80",
)  # fmt: skip
GOOD_CODES = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)
BAD_CODES = (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535)


def close(code: int = 1000, reason: bytes = b"") -> bytes:
    return frame(CLOSE, code.to_bytes(2, "big") + reason)


def split(data: bytes, count: int) -> list[bytes]:
    return [data[at : at + count] for at in range(0, len(data), count)]


def fragments(opcode: int, payload: bytes, size: int, between: bytes = b"") -> bytes:
    """One message in frames of `size` bytes, with `between` after each but the last."""
    parts = split(payload, size)
    last = len(parts) - 1
    return b"".join(
        frame(opcode if at == 0 else 0, part, at == last) + (b"" if at == last else between) for at, part in enumerate(parts)
    )


def cases() -> Iterator[tuple[str, list[bytes]]]:
    for size in SIZES:
        yield f"1 text of {size}", [frame(TEXT, b"*" * size), close()]
        yield f"1 binary of {size}", [frame(BINARY, _RANDOM.randbytes(size)), close()]
    yield "1 in chops", [*split(frame(TEXT, b"*" * 65536), 997), close()]
    yield "1 byte by byte", split(frame(TEXT, b"*" * 200) + close(), 1)
    for payload in (b"", b"Hello", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", b"\xfe" * 125, b"\xfe" * 126):
        yield f"2 ping of {len(payload)}", [frame(PING, payload), close()]
        yield f"2 ping of {len(payload)} in bytes", [*split(frame(PING, payload), 1), close()]
        yield f"2 pong unasked of {len(payload)}", [frame(PONG, payload), frame(PING, b"?"), close()]
    yield "2 ten pings at once", [b"".join(frame(PING, b"payload-%d" % n) for n in range(10)), close()]
    for rsv in range(1, 8):
        yield f"3 rsv {rsv}", [frame(TEXT, b"first"), frame(TEXT, b"second", rsv=rsv), frame(PING, b"?")]
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        yield f"4 opcode {opcode}", [frame(TEXT, b"first"), frame(opcode, b"x"), frame(PING, b"?")]
    for opcode in (PING, PONG, CLOSE):
        yield f"5 fragment of control frame {opcode}", [frame(opcode, b"frag", fin=False), frame(0, b"ment"), close()]
    for size in (1, 2, 1000):
        message = b"fragment" * 100
        yield f"5 fragments of {size}", [fragments(TEXT, message, size), close()]
        yield f"5 fragments of {size}, pings between", [fragments(TEXT, message, size, frame(PING, b"between")), close()]
    yield "5 continuation of nothing", [frame(0, b"x"), frame(TEXT, b"y"), close()]
    yield "5 text in a text", [frame(TEXT, b"a", fin=False), frame(TEXT, b"b"), close()]
    for number, text in enumerate(GOOD_TEXT):
        yield f"6 text {number}", [frame(TEXT, text.encode()), close()]
        yield f"6 text {number} byte by byte", [fragments(TEXT, text.encode(), 1), close()]
    for number, bad in enumerate(BAD_TEXT):
        yield f"6 no UTF-8 {number}", [frame(TEXT, bad), close()]
        yield f"6 no UTF-8 {number} in fragments", [fragments(TEXT, bad + b"more", 1), close()]
    yield "7 close without a code", [frame(TEXT, b"x"), frame(CLOSE)]
    yield "7 close with one byte", [frame(CLOSE, b"a")]
    yield "7 close with a long reason", [close(1000, b"*" * 123)]
    yield "7 close with too long a reason", [close(1000, b"*" * 124)]
    yield "7 close with no UTF-8", [close(1000, BAD_TEXT[0])]
    yield "7 frames behind a close", [close() + frame(TEXT, b"late") + frame(PING, b"late") + close()]
    yield "7 close in a fragmented message", [frame(TEXT, b"a", fin=False), close(), frame(0, b"b")]
    for code in (*GOOD_CODES, *BAD_CODES):
        yield f"7 close {code}", [close(code)]
    for size in (1 << 16, 1 << 18, 1 << 20, 1 << 22):
        yield f"9 text of {size}", [frame(TEXT, b"*" * size), close()]
        yield f"9 binary of {size} in fragments", [fragments(BINARY, _RANDOM.randbytes(size), size // 16), close()]
    yield "9 binary in chops of 64", [*split(frame(BINARY, _RANDOM.randbytes(1 << 16)), 64), close()]
    yield "9 a thousand messages", [*[frame(TEXT, b"*" * 16)] * 1000, close()]
    yield "10 fragments of 1300", [fragments(TEXT, b"*" * 65536, 1300), close()]


@pytest.fixture(scope="module")
def frame_echo() -> Iterator[FrameEcho]:
    server = FrameEcho()
    yield server
    server.close()


@pytest.fixture(scope="module")
def frame_hops(frame_echo: FrameEcho, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoHops]:
    yield from running(frame_echo.port, tmp_path_factory.mktemp("frames"))


@pytest.mark.parametrize("pieces", [pytest.param(pieces, id=name) for name, pieces in cases()])
def test_autobahn_family(frame_hops: TwoHops, frame_echo: FrameEcho, pieces: list[bytes]) -> None:
    direct = RawClient(frame_echo.port).talk(pieces)
    assert direct, "the server at least closes"
    assert RawClient(frame_hops.client_port).talk(pieces) == direct


def test_frames_sent_before_the_agreement_arrive(frame_hops: TwoHops) -> None:
    client = RawClient(frame_hops.client_port, behind=frame(TEXT, b"early"))
    assert client.talk([frame(CLOSE, b"\x03\xe8")]) == b"\x81\x05early\x88\x02\x03\xe8"


def test_no_tunnel_of_all_these_is_left(frame_hops: TwoHops) -> None:
    assert eventually(lambda: tunnels(frame_hops) == 0)


# ---- ends that nobody announced


def test_reset_by_the_client_reaches_the_server(hops: TwoHops, echo: Echo) -> None:
    client = RawClient(hops.client_port, ASK.replace(b"/echo", b"/left"))
    client.sock.sendall(frame(TEXT, b"x"))
    assert read_exactly(client.sock, 3) == b"\x81\x01x"
    client.reset()
    assert eventually(lambda: ("/left", CloseCode.ABNORMAL_CLOSURE) in echo.ends)
    assert eventually(lambda: tunnels(hops) == 0)


def test_reset_by_the_server_reaches_the_client(hops: TwoHops, echo: Echo) -> None:
    with open_socket(hops, "/reset") as client:
        assert eventually(lambda: echo.serves("/reset"))
        echo.abort_all()
        with pytest.raises(ConnectionClosedError):
            client.recv(timeout=PATIENCE)
        assert client.close_code == CloseCode.ABNORMAL_CLOSURE


def test_half_close_of_a_client_ends_the_server(hops: TwoHops, echo: Echo) -> None:
    client = RawClient(hops.client_port, ASK.replace(b"/echo", b"/half"))
    client.sock.sendall(frame(TEXT, b"x"))
    assert read_exactly(client.sock, 3) == b"\x81\x01x"
    client.sock.shutdown(socket.SHUT_WR)
    client.talk([])
    assert eventually(lambda: any(path == "/half" for path, _ in echo.ends))


# ---- back-pressure


def test_server_is_not_read_faster_than_the_client_reads(start: Start) -> None:
    echo = Echo()
    try:
        hops = TwoHops(echo.port)
        proxy = start(hops.config)
        proxy.wait_for(READY)
        pids = proxy.worker_pids()
        before = memory(pids)
        client = RawClient(hops.client_port, ASK.replace(b"/echo", b"/flood"))
        counts: list[int] = []

        def stands_still() -> bool:
            threading.Event().wait(0.1)
            counts.append(echo.sent)
            return len(counts) > 5 and counts[-1] > 0 and len(set(counts[-5:])) == 1

        assert eventually(stands_still)
        assert echo.sent < 128, "32 MB of buffers between two idle ends would be no back-pressure"
        assert memory(pids) - before < 16 * 1024 * 1024
        got = len(client.data)
        wanted = 256 * (262_144 + 10)
        while got < wanted:
            more = client.sock.recv(1 << 20)
            assert more
            got += len(more)
        assert got == wanted
        client.reset()
    finally:
        echo.close()


def memory(pids: list[int]) -> int:
    pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE")


# ---- reload and drain


def test_sockets_live_through_reloads_and_until_the_graceful_timeout(start: Start, tmp_path: Path, echo: Echo) -> None:
    with ExitStack() as stack:
        live_through_all(stack, start, tmp_path, echo)


def live_through_all(stack: ExitStack, start: Start, tmp_path: Path, echo: Echo) -> None:
    hops = TwoHops(echo.port)
    hops.server["graceful_timeout"] = "6s"
    proxy = start(hops.config)
    proxy.wait_for(READY)
    clients = [stack.enter_context(open_socket(hops)) for _ in range(8)]
    for turn in range(3):
        config = copy.deepcopy(hops.config)
        route = {"match": {"prefix": "/new"}, "direct_response": {"status": 200, "body": f"turn {turn}"}}
        host = config["servers"][0]["routers"][0]["virtual_hosts"][0]
        host["routers"] = [route, *host["routers"]]
        config["servers"][0]["listeners"][1]["connection_idle_timeout"] = f"{80 + turn}s"
        (tmp_path / "conf" / "mosn.json").write_text(json.dumps(config))
        proxy.send(signal.SIGHUP)
        assert eventually(lambda body=f"turn {turn}": hops.get("/new") == (200, body))  # type: ignore[misc]
        for client in clients:
            client.send(f"turn {turn}")
            assert client.recv(timeout=PATIENCE) == f"turn {turn}"
    assert tunnels(hops) == 16
    assert tunnels(hops, "tunnel_total") == 16
    proxy.send(signal.SIGTERM)
    for client in clients[:2]:
        client.send("still here")
        assert client.recv(timeout=PATIENCE) == "still here"
        client.close(1000)
        assert client.close_code == 1000
    for client in clients[2:]:
        with pytest.raises(ConnectionClosedError):
            client.recv(timeout=PATIENCE)
    assert proxy.exit_code() == 0
