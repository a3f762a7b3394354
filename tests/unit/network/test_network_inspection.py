"""What a listener finds out from the first bytes, and which chain that selects."""

import pytest

from pymosn.api.network import DONE, MORE_BYTES, REFUSE, Accepted, Connection, FilterChainFactory
from pymosn.core.counters import DownstreamStats, MetricGroup
from pymosn.network.chain_match import ChainConditions
from pymosn.network.filter_chains import Chain, ChainStep
from pymosn.network.inspection import H2C, HTTP_1_0, HTTP_1_1, LONGEST_LINE, NONE, Inspection, http_protocols
from pymosn.network.reject_all import RejectAllFactory
from pymosn.protocol.http2.frames import PREFACE


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"GET / HTTP/1.1\r\n", HTTP_1_1),
        (b"GET / HTTP/1.0\n", HTTP_1_0),
        (b"GET / HTTP/2.0\r\n", NONE),
        (b"GET /", None),
        (b"PROPFIND / HTTP/1.1\r\n", HTTP_1_1),
        (b"PROP", None),
        (b"SEARCH for it\r\n", NONE),
        (b"BREW / HTTP/1.1\r\n", NONE),
        (b"G", None),
        (b"GET " + b"a" * int(LONGEST_LINE), HTTP_1_1),
        (PREFACE, H2C),
        (PREFACE[:5], None),
        (b"HELO mail\r\n", NONE),
        (b"\x00\x01", NONE),
    ],
)
def test_protocols_of_plain_text(data: bytes, expected: tuple[str, ...] | None) -> None:
    assert http_protocols(data) == expected


STATS = DownstreamStats(MetricGroup("downstream", (("listener", "l"),)))
HTTP, OTHER = RejectAllFactory(STATS), RejectAllFactory(STATS)


def step(inspection: Inspection, on_undecided: str = "") -> ChainStep:
    def chain(name: str, conditions: ChainConditions, factory: FilterChainFactory) -> Chain:
        return Chain(name, conditions, factory, None, speaks_http=False, speaks_first=True, reads_hello=False)

    conditions = ChainConditions(protocols=("http/1.1", "h2c"), transport="raw_buffer")
    return ChainStep(
        [chain("http", conditions, HTTP), chain("rest", ChainConditions(is_default=True), OTHER)],
        STATS,
        inspection,
        inspector=False,
        on_undecided=on_undecided,
    )


def accepted(port: int = 26021) -> Accepted:
    connection = Connection()
    connection.original_destination = f"10.0.0.1:{port}"
    connection.remote_ip = "10.0.0.2"
    return Accepted(connection)


def test_plain_http_has_its_chain() -> None:
    chosen = step(Inspection(finds_http=True))
    found = accepted()
    assert chosen.needs_bytes(found)
    assert chosen.on_first_bytes(found, b"GET / HT") == MORE_BYTES
    assert chosen.on_first_bytes(found, b"GET / HTTP/1.1\r\n") == DONE
    assert found.factory is HTTP
    other = accepted()
    assert chosen.on_first_bytes(other, b"HELO mail\r\n") == DONE
    assert other.factory is OTHER


def test_without_inspection_the_protocol_of_plain_text_is_unknown() -> None:
    found = accepted()
    assert step(Inspection()).on_first_bytes(found, b"GET / HTTP/1.1\r\n") == DONE
    assert found.factory is OTHER


def test_on_excepted_ports_a_server_may_speak_first() -> None:
    ports = ((26020, 26024),)
    chosen = step(Inspection(finds_http=True, tls_skipped=ports, http_skipped=ports))
    found = accepted(26021)
    assert not chosen.needs_bytes(found)
    assert chosen.on_first_bytes(found, b"") == DONE
    assert found.factory is OTHER
    assert chosen.needs_bytes(accepted(26025))
    only_tls = step(Inspection(finds_http=True, tls_skipped=ports))
    assert only_tls.needs_bytes(found)
    hello = accepted(26021)
    assert only_tls.on_first_bytes(hello, b"\x16\x03\x01\x00") == DONE  # not looked for: other bytes
    assert hello.factory is OTHER


def test_a_silent_client_gets_the_chain_whose_server_speaks_first() -> None:
    found = accepted()
    assert step(Inspection(finds_http=True)).on_undecided(found) == DONE
    assert found.factory is OTHER
    begun = accepted()
    begun.waiting = 3
    assert step(Inspection(finds_http=True)).on_undecided(begun) == REFUSE


def test_undecided_plain_text_continues_where_that_is_configured() -> None:
    chosen = step(Inspection(finds_http=True), "continue")
    begun = accepted()
    assert chosen.on_first_bytes(begun, b"PUT this there") == MORE_BYTES
    begun.waiting = 14
    assert chosen.on_undecided(begun) == DONE
    assert begun.factory is OTHER
    # The beginning of a ClientHello is no plain text.
    hello = accepted()
    assert chosen.on_first_bytes(hello, b"\x16\x03\x01\x01") == MORE_BYTES
    hello.waiting = 4
    assert chosen.on_undecided(hello) == REFUSE


def test_undecided_clients_are_closed_where_that_is_configured() -> None:
    chosen = step(Inspection(finds_http=True), "close")
    assert chosen.on_undecided(accepted()) == REFUSE
    begun = accepted()
    assert chosen.on_first_bytes(begun, b"PUT") == MORE_BYTES
    begun.waiting = 3
    assert chosen.on_undecided(begun) == REFUSE
