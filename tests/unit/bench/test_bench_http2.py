"""The loads of the HTTP/2 cases."""

import pytest
from bench.cases import case_named
from bench.grpc_stream import main, message
from bench.h2load import parse
from bench.load import result_of
from bench.machine import free_port
from bench.void import Void

OUTPUT = """starting benchmark...
finished in 500.10ms, 19996.00 req/s, 26.49MB/s
requests: 10000 total, 10128 started, 10000 done, 10000 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 10001 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 52.98MB (55557048) total, 17.46MB (18312007) headers (space savings 48.25%), 30.19MB (1020000) data
"""


def test_the_totals_of_h2load() -> None:
    load = parse(OUTPUT, list(range(1, 101)))
    assert (load.requests, load.bytes, load.seconds) == (10000, 1020000, pytest.approx(0.5001))
    assert (load.p50, load.p99) == (50, 99)
    assert parse(OUTPUT, []).p99 == 0


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0 failed", "1 failed"),
        ("10000 succeeded", "9999 succeeded"),
        ("0 errored", "3 errored"),
        ("0 5xx", "2 5xx"),
        ("finished", "stopped"),
    ],
)
def test_a_failed_request_voids_the_run(old: str, new: str) -> None:
    with pytest.raises(Void):
        parse(OUTPUT.replace(old, new), [])


def test_every_message_reaches_every_stream(capsys: pytest.CaptureFixture[str]) -> None:
    port = str(free_port())
    assert main([port, port, "7", "2", "4"]) == 0
    result = result_of(capsys.readouterr().out, "bench.grpc_stream")
    assert (result["chunks"], result["bytes"]) == (28, 7 * 5 * len(message(0)))


def test_requests_of_grpc() -> None:
    case = case_named("grpc_unary")
    assert case.fields["Content-Type"] == "application/grpc"
    assert case.body[:5] == b"\0\0\0\0\x64"
    assert (len(message(3)), case.in_flight) == (105, 128)
