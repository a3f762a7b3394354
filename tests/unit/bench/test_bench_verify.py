"""What voids a run."""

import socket

import pytest
from bench.cases import LARGE_SIZE, LOAD_CASES, large_body
from bench.load import parse
from bench.verify import check_totals, exchange
from bench.void import Void

SMALL = LOAD_CASES[0]
RESULT = (
    'result {"requests": 1000, "bytes": 250000, "microseconds": 2000000, "p50": 900, "p99": 5000, '
    '"errors": {"connect": 0, "read": %d, "write": 0, "status": %d, "timeout": 0}}'
)


def answer(reply: bytes) -> tuple[bytes, bytes]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(reply)
        theirs.shutdown(socket.SHUT_WR)
        return exchange(ours, 80, "/small", {})


def test_a_clean_run_is_read() -> None:
    result = parse("Running 2s test\n\n" + RESULT % (0, 0) + "\n")
    assert (result.requests, result.seconds, result.p50, result.p99) == (1000, 2.0, 900, 5000)


def test_a_single_error_voids() -> None:
    with pytest.raises(Void, match="1 read"):
        parse(RESULT % (1, 0))
    with pytest.raises(Void, match="2 status"):
        parse(RESULT % (0, 2))


def test_a_load_generator_that_failed_voids() -> None:
    with pytest.raises(Void, match="unable to connect"):
        parse("unable to connect to 127.0.0.1:1 Connection refused")


def test_totals_that_add_up_pass() -> None:
    check_totals(SMALL, requests=1000, received=250_000 + 64 * 250, response_size=250, arrived=1064, spare=128)


@pytest.mark.parametrize(
    ("requests", "received", "arrived", "message"),
    [
        (0, 0, 0, "no request completed"),
        (1000, 150_000, 1000, "differ from the probe"),
        (1000, 350_000, 1000, "differ from the probe"),
        (1000, 250_000, 999, "999 reached the upstream"),
        (1000, 250_000, 1200, "1200 reached the upstream"),
    ],
)
def test_totals_that_do_not_add_up_void(requests: int, received: int, arrived: int, message: str) -> None:
    with pytest.raises(Void, match=message):
        check_totals(SMALL, requests, received, response_size=250, arrived=arrived, spare=128)


def test_a_reply_is_read_whole() -> None:
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    assert answer(reply) == (reply[:-5], b"hello")


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "502"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", "closed within"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "no content-length"),
    ],
)
def test_a_bad_reply_voids(reply: bytes, message: str) -> None:
    with pytest.raises(Void, match=message):
        answer(reply)


def test_no_two_blocks_of_the_large_body_are_alike() -> None:
    body = large_body()
    assert len(body) == LARGE_SIZE
    assert len({body[i : i + 256] for i in range(0, LARGE_SIZE, 256)}) == LARGE_SIZE // 256
