"""Tables of contexts, by the specifications of their formats: what is read, what is ignored, and what is written."""

from __future__ import annotations

from base64 import b64encode

import pytest

from pymosn.core.headers import Headers, HttpHeaders
from pymosn.observe.tracing.context import NOT_SAMPLED, SAMPLED, UNDECIDED, TraceContext
from pymosn.observe.tracing.formats import FORMATS, OF_DRIVERS, formats
from pymosn.observe.tracing.sofa import digits_of

T = "4bf92f3577b34da6a3ce929d0e0e4736"
SHORT = "a3ce929d0e0e4736"
S = "00f067aa0ba902b7"
P = "05e3ac9a4f6e3b90"
ZEROS = "0" * 16
CLIENT = b"b7ad6b7169203331"
SERVER = b"0000000000000abc"


def sw8(*parts: str, sample: str = "1", span: str = "3") -> str:
    encoded = [b64encode(part.encode()).decode() for part in parts]
    return "-".join([sample, *encoded[:2], span, *encoded[2:]])


SOFA_ID = "0a0fe8ba1575371398127100018846"
SW8_PARTS = (T, "segment.1", "shop", "shop-1", "/buy", "10.0.0.9:80")


def headers_of(*lines: str) -> Headers:
    return HttpHeaders("".join(f"{line}\r\n" for line in lines).encode())


def read(name: str, headers: Headers, is_rpc: bool = False) -> TraceContext | None:
    [one] = formats([name], "proxy", "machine", lambda: "0a0101011600000000000100042")
    context = TraceContext()
    before = vars_of(context)
    if one.read(headers, is_rpc, context):
        return context
    assert vars_of(context) == before, "an ignored context has an effect"
    return None


def vars_of(context: TraceContext) -> tuple[object, ...]:
    return (
        *(context.trace_id, context.parent_id, context.own_id, context.rpc_id, context.state),
        *(context.facts, context.received, context.is_debug, context.is_w3c),
    )


@pytest.mark.parametrize(
    ("name", "lines", "trace", "parent", "received"),
    [
        ("w3c", [f"traceparent: 00-{T}-{S}-01"], T, S, SAMPLED),
        ("w3c", [f"traceparent: 00-{T}-{S}-00"], T, S, NOT_SAMPLED),
        ("w3c", [f"traceparent: 00-{T}-{S}-03"], T, S, SAMPLED),
        ("w3c", [f"traceparent: 00-{T}-{S}-0b"], T, S, SAMPLED),
        ("w3c", [f"traceparent: 00-{T}-{S}-0a"], T, S, NOT_SAMPLED),
        ("w3c", [f"traceparent: cc-{T}-{S}-01-what-later-versions-have"], T, S, SAMPLED),
        ("w3c", [f"traceparent: cc-{T}-{S}-01"], T, S, SAMPLED),
        ("b3", [f"b3: {T}-{S}"], T, S, UNDECIDED),
        ("b3", [f"b3: {T}-{S}-1"], T, S, SAMPLED),
        ("b3", [f"b3: {T}-{S}-0-{P}"], T, S, NOT_SAMPLED),
        ("b3", [f"b3: {SHORT}-{S}-d-{P}"], ZEROS + SHORT, S, SAMPLED),
        ("b3", ["b3: 0"], "", "", NOT_SAMPLED),
        ("b3", ["b3: 1"], "", "", SAMPLED),
        ("b3multi", [f"X-B3-TraceId: {T}", f"X-B3-SpanId: {S}"], T, S, UNDECIDED),
        ("b3multi", [f"x-b3-traceid: {SHORT}", f"x-b3-spanid: {S}", "x-b3-sampled: 1"], ZEROS + SHORT, S, SAMPLED),
        ("b3multi", [f"x-b3-traceid: {T}", f"x-b3-spanid: {S}", "x-b3-sampled: false"], T, S, NOT_SAMPLED),
        ("b3multi", [f"x-b3-traceid: {T}", f"x-b3-spanid: {S}", "x-b3-flags: 1"], T, S, SAMPLED),
        ("b3multi", [f"x-b3-traceid: {T}", f"x-b3-spanid: {S}", f"x-b3-parentspanid: {P}"], T, S, UNDECIDED),
        ("b3multi", ["x-b3-sampled: 0"], "", "", NOT_SAMPLED),
        ("jaeger", [f"uber-trace-id: {T}:{S}:0:1"], T, S, SAMPLED),
        ("jaeger", [f"uber-trace-id: {T}%3A{S}%3a{P}%3A0"], T, S, NOT_SAMPLED),
        ("jaeger", ["uber-trace-id: 1a:2B::3"], "1a".rjust(32, "0"), "2b".rjust(16, "0"), SAMPLED),
        ("sw8", [f"sw8: {sw8(*SW8_PARTS)}"], T, "", SAMPLED),
        ("sw8", [f"sw8: {sw8(*SW8_PARTS, sample='0')}"], T, "", NOT_SAMPLED),
        ("sofa", [f"SOFA-TraceId: {SOFA_ID}", "SOFA-RpcId: 0.1"], f"00{SOFA_ID}", "", UNDECIDED),
        ("sofa", [f"SOFA-TraceId: {SOFA_ID}"], f"00{SOFA_ID}", "", UNDECIDED),
    ],
)  # fmt: skip
def test_valid_contexts(name: str, lines: list[str], trace: str, parent: str, received: int) -> None:
    context = read(name, headers_of("a: b", *lines))
    assert context is not None
    assert (context.trace_id.decode(), context.parent_id.decode(), context.received) == (trace, parent, received)


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("w3c", []),
        ("w3c", ["traceparent:"]),
        ("w3c", [f"traceparent: ff-{T}-{S}-01"]),
        ("w3c", [f"traceparent: 00-{T}-{S}-01-more"]),
        ("w3c", [f"traceparent: 00-{T}-{S}-0"]),
        ("w3c", [f"traceparent: 00-{T}-{S}-0g"]),
        ("w3c", [f"traceparent: 0-{T}-{S}-011"]),
        ("w3c", [f"traceparent: 00-{T.upper()}-{S}-01"]),
        ("w3c", [f"traceparent: 00-{'0' * 32}-{S}-01"]),
        ("w3c", [f"traceparent: 00-{T}-{ZEROS}-01"]),
        ("w3c", [f"traceparent: 00_{T}-{S}-01"]),
        ("w3c", [f"traceparent: cc-{T}-{S}-01.more"]),
        ("w3c", [f"traceparent: cc-{T}-{S}-01-{'x' * 512}"]),
        ("w3c", [f"traceparent: 00-{T}-{S}-01", f"traceparent: 00-{T}-{S}-01"]),
        ("w3c", [f"traceparent: 00-{T}-{S}-\xe9\xe9"]),
        ("b3", ["b3:"]),
        ("b3", ["b3: 2"]),
        ("b3", ["b3: true"]),
        ("b3", [f"b3: {T}"]),
        ("b3", [f"b3: {T}-{S}-"]),
        ("b3", [f"b3: {T}-{S}-x"]),
        ("b3", [f"b3: {T}-{S}-1-{P}-1"]),
        ("b3", [f"b3: {T}-{S}-1-short"]),
        ("b3", [f"b3: {T[1:]}-{S}-1"]),
        ("b3", [f"b3: {T}-{ZEROS}-1"]),
        ("b3", [f"b3: {T}0-{S}-1"]),
        ("b3multi", [f"x-b3-traceid: {T}"]),
        ("b3multi", [f"x-b3-spanid: {S}", "x-b3-sampled: 1"]),
        ("b3multi", [f"x-b3-traceid: {T}", f"x-b3-spanid: {S}", "x-b3-sampled: maybe"]),
        ("b3multi", [f"x-b3-traceid: {T}x", f"x-b3-spanid: {S}"]),
        ("b3multi", [f"x-b3-traceid: {T}", f"x-b3-traceid: {T}", f"x-b3-spanid: {S}"]),
        ("b3multi", ["x-b3-flags: 0"]),
        ("jaeger", [f"uber-trace-id: {T}:{S}:0"]),
        ("jaeger", [f"uber-trace-id: {T}:{S}:0:1:1"]),
        ("jaeger", [f"uber-trace-id: {T}0:{S}:0:1"]),
        ("jaeger", [f"uber-trace-id: 0:{S}:0:1"]),
        ("jaeger", [f"uber-trace-id: {T}:0:0:1"]),
        ("jaeger", [f"uber-trace-id: {T}:{S}:0:"]),
        ("jaeger", [f"uber-trace-id: {T}:{S}:0:100"]),
        ("jaeger", [f"uber-trace-id: {T}:{S}:x:1"]),
        ("jaeger", [f"uber-trace-id: {'0' * 100}{T}:{S}:0:1"]),
        ("sw8", ["sw8: 1"]),
        ("sw8", [f"sw8: {sw8(*SW8_PARTS, sample='2')}"]),
        ("sw8", [f"sw8: {sw8(*SW8_PARTS, span='x')}"]),
        ("sw8", [f"sw8: {sw8(*SW8_PARTS, span='1' * 10)}"]),
        ("sw8", [f"sw8: {sw8(*SW8_PARTS)}-x"]),
        ("sw8", [f"sw8: {sw8('', *SW8_PARTS[1:])}"]),
        ("sw8", [f"sw8: {sw8('a b', *SW8_PARTS[1:])}"]),
        ("sw8", [f"sw8: {sw8(*SW8_PARTS).replace('=', '')}"]),
        ("sw8", [f"sw8: {sw8(T, 'segment', 'x' * 4096, '', '', '')}"]),
        ("sofa", ["SOFA-RpcId: 0.1"]),
        ("sofa", ["SOFA-TraceId: a b"]),
        ("sofa", [f"SOFA-TraceId: {'a' * 129}"]),
        ("sofa", ["SOFA-TraceId: a;b"]),
    ],
)
def test_invalid_contexts_are_ignored(name: str, lines: list[str]) -> None:
    assert read(name, headers_of("a: b", *lines)) is None


def test_facts_of_skywalking() -> None:
    context = read("sw8", headers_of(f"sw8: {sw8(*SW8_PARTS)}"))
    assert context is not None
    assert context.facts == {
        "sw8.parent_segment": "segment.1",
        "sw8.parent_span": "3",
        "sw8.parent_service": "shop",
        "sw8.parent_instance": "shop-1",
        "sw8.parent_endpoint": "/buy",
        "sw8.address": "10.0.0.9:80",
    }


@pytest.mark.parametrize("rpc_id", ["", "0.", ".1", "0..1", "a", "0.1x", "1." * 70 + "1"])
def test_an_invalid_rpc_id_is_replaced(rpc_id: str) -> None:
    context = read("sofa", headers_of("SOFA-TraceId: abc", f"SOFA-RpcId: {rpc_id}"))
    assert context is not None
    assert context.rpc_id == b"0"


def test_ids_in_other_forms_have_a_digest() -> None:
    assert digits_of(b"abc") == b"abc".rjust(32, b"0")
    for other in (b"0", b"xyz", b"a" * 33, f"{T}.12.16000000000001".encode()):
        assert len(digits_of(other)) == 32
        assert digits_of(other) == digits_of(other) != digits_of(other + b"x")


def written(name: str, *lines: str, trace: str = T, sampled: int = SAMPLED, debug: bool = False) -> list[tuple[str, str]]:
    [one] = formats([name], "proxy", "machine", lambda: "")
    context = TraceContext()
    context.trace_id, context.span_id, context.sampled, context.is_debug = trace.encode(), SERVER, sampled, debug
    context.rpc_id, context.endpoint, context.peer = b"0.1", "GET shop", "10.0.0.1:80"
    headers = headers_of("a: b", *lines)
    one.write(headers, False, context, CLIENT, 2)
    one.write(headers, False, context, CLIENT, 2)  # as for another attempt
    return headers.items()[1:]


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("w3c", {}, [("traceparent", f"00-{T}-{CLIENT.decode()}-01")]),
        ("w3c", {"sampled": NOT_SAMPLED}, [("traceparent", f"00-{T}-{CLIENT.decode()}-00")]),
        ("b3", {}, [("b3", f"{T}-{CLIENT.decode()}-1-{SERVER.decode()}")]),
        ("b3", {"sampled": NOT_SAMPLED}, [("b3", f"{T}-{CLIENT.decode()}-0-{SERVER.decode()}")]),
        ("b3", {"trace": ZEROS + SHORT, "debug": True}, [("b3", f"{SHORT}-{CLIENT.decode()}-d-{SERVER.decode()}")]),
        (
            "b3multi",
            {},
            [
                ("x-b3-traceid", T),
                ("x-b3-spanid", CLIENT.decode()),
                ("x-b3-parentspanid", SERVER.decode()),
                ("x-b3-sampled", "1"),
            ],
        ),
        (
            "b3multi",
            {"trace": ZEROS + SHORT, "debug": True},
            [
                ("x-b3-traceid", SHORT),
                ("x-b3-spanid", CLIENT.decode()),
                ("x-b3-parentspanid", SERVER.decode()),
                ("x-b3-flags", "1"),
            ],
        ),
        ("jaeger", {}, [("uber-trace-id", f"{T}:{CLIENT.decode()}:0:1")]),
        ("jaeger", {"sampled": NOT_SAMPLED}, [("uber-trace-id", f"{T}:{CLIENT.decode()}:0:0")]),
        ("jaeger", {"debug": True}, [("uber-trace-id", f"{T}:{CLIENT.decode()}:0:3")]),
        (
            "sw8",
            {},
            [("sw8", sw8(T, f"{T}.{SERVER.decode()}", "proxy", "machine", "GET shop", "10.0.0.1:80", span="2"))],
        ),
        ("sofa", {}, [("sofa-traceid", T), ("sofa-rpcid", "0.1.2")]),
    ],
)  # fmt: skip
def test_what_is_written(name: str, options: dict[str, object], expected: list[tuple[str, str]]) -> None:
    assert written(name, **options) == expected  # type: ignore[arg-type]


def test_what_was_received_is_replaced() -> None:
    old = {
        "w3c": ["traceparent: x", "Traceparent: y", "tracestate: of=another"],
        "b3": ["B3: 0", "b3: 1"],
        "b3multi": ["X-B3-TraceId: x", "X-B3-Flags: 1", "X-B3-Sampled: 0"],
        "jaeger": ["Uber-Trace-Id: x"],
        "sw8": ["SW8: 1"],
        "sofa": ["SOFA-TraceId: x", "SOFA-RpcId: y"],
    }
    for name in FORMATS:
        assert written(name, *old[name]) == written(name)


def test_what_is_written_is_read() -> None:
    for name in FORMATS:
        lines = [f"{key}: {value}" for key, value in written(name)]
        context = read(name, headers_of(*lines))
        assert context is not None, name
        assert context.trace_id == T.encode()
        if name not in ("sw8", "sofa"):
            assert context.parent_id == CLIENT


def test_all_drivers_have_known_formats() -> None:
    for names in OF_DRIVERS.values():
        assert names
        assert set(names) <= set(FORMATS)
    with pytest.raises(ValueError, match="unknown format 'zipkin'"):
        formats(["zipkin"], "", "", str)


def test_a_long_tracestate_is_recorded_by_whole_entries() -> None:
    entries = [f"v{number}={'x' * 40}" for number in range(20)]
    context = read("w3c", headers_of(f"traceparent: 00-{T}-{S}-01", f"tracestate: {','.join(entries)}"))
    assert context is not None
    assert context.state.decode() == ",".join(entries[:11])
    context = read("w3c", headers_of(f"traceparent: 00-{T}-{S}-01", f"tracestate: a={'x' * 600}"))
    assert context is not None
    assert context.state == b""
