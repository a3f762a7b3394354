"""The parts of tracing: ids, sampling, spans of filters, names, redaction, the buffer."""

from __future__ import annotations

from typing import Any

import pytest

from pymosn.api.exchange import Exchange
from pymosn.api.http import HttpRequest
from pymosn.api.network import Connection
from pymosn.api.record import RouteInfo
from pymosn.api.tracing import MAX_ATTRIBUTES, MAX_CHILDREN, MAX_NAME, MAX_TEXT, MAX_TEXTS, NO_SPAN
from pymosn.core.clock import Clock
from pymosn.core.counters import Metrics
from pymosn.core.headers import HttpHeaders
from pymosn.core.stamps import Stamps
from pymosn.observe.tracing.buffer import FULL_BATCH, TraceBuffer
from pymosn.observe.tracing.context import NOT_SAMPLED, SAMPLED, UNDECIDED, TraceContext
from pymosn.observe.tracing.ids import IdSource
from pymosn.observe.tracing.names import span_name
from pymosn.observe.tracing.records import record_of, redacted_query
from pymosn.observe.tracing.sampling import Sampling, SamplingRule
from pymosn.observe.tracing.tracer import Recording, WorkerTracer


def exchange_of(path: str = "/", method: str = "GET", headers: bytes = b"") -> Exchange:
    made = Exchange(Connection())
    request = HttpRequest()
    request.headers = HttpHeaders(headers)
    request.method, request.path = method, path
    made.request = request
    made.protocol = "Http1"
    return made


def tracer_of(sampling: Sampling | None = None, limit: int = 10_000) -> tuple[WorkerTracer, TraceBuffer]:
    buffer = TraceBuffer(Metrics(), limit)
    return WorkerTracer(["w3c"], sampling or Sampling(), buffer, Stamps(Clock())), buffer


def begun(sampling: Sampling | None = None) -> tuple[Exchange, Recording, TraceBuffer]:
    tracer, buffer = tracer_of(sampling)
    exchange = exchange_of()
    trace = tracer.begin(exchange, "l")
    exchange.trace = trace
    return exchange, trace, buffer


def test_ids_are_cut_from_a_supply() -> None:
    asked: list[int] = []

    def supply(size: int) -> bytes:
        asked.append(size)
        return bytes(range(256)) * (size // 256)

    ids = IdSource(supply)
    assert ids.take(32) == bytes(range(16)).hex().encode()
    assert ids.take(16) == bytes(range(16, 24)).hex().encode()
    for _ in range(600):
        assert len(ids.take(16)) == 16
    assert len(asked) == 2
    assert len({IdSource().take(32) for _ in range(100)}) == 100


# ---- sampling


@pytest.mark.parametrize(
    ("rule", "path", "method", "headers", "matches"),
    [
        ({"path": "/a"}, "/a/b", "GET", b"", True),
        ({"path": "/a"}, "/b", "GET", b"", False),
        ({"method": "POST"}, "/", "POST", b"", True),
        ({"method": "POST"}, "/", "GET", b"", False),
        ({"listener": "l"}, "/", "GET", b"", True),
        ({"listener": "m"}, "/", "GET", b"", False),
        ({"service": "a.B"}, "/", "GET", b"", False),
        ({"route": "shop"}, "/", "GET", b"", True),
        ({"route": "table/all/0"}, "/", "GET", b"", True),
        ({"route": "other"}, "/", "GET", b"", False),
        ({"header": "x-a"}, "/", "GET", b"X-A: 1\r\n", True),
        ({"header": "x-a"}, "/", "GET", b"", False),
        ({"header": "x-a", "value": "1"}, "/", "GET", b"X-A: 1\r\n", True),
        ({"header": "x-a", "value": "1"}, "/", "GET", b"X-A: 2\r\n", False),
        ({"header": "x-a", "path": "/a"}, "/", "GET", b"X-A: 2\r\n", False),
    ],
)
def test_rules(rule: dict[str, Any], path: str, method: str, headers: bytes, matches: bool) -> None:
    exchange = exchange_of(path, method, headers)
    exchange.route = RouteInfo("table/all/0", None, "shop")
    context = TraceContext()
    Sampling(0.0, rules=[SamplingRule(1.0, **rule)]).decide(context, exchange, "l")
    assert context.sampled == (SAMPLED if matches else NOT_SAMPLED)


def test_the_order_of_decisions() -> None:
    exchange = exchange_of("/a", headers=b"x-trace: 1\r\n")
    rules = [SamplingRule(0.0, path="/a"), SamplingRule(1.0, path="/")]

    def decided(sampling: Sampling, received: int = UNDECIDED, debug: bool = False) -> int:
        context = TraceContext()
        context.received, context.is_debug = received, debug
        sampling.decide(context, exchange, "l")
        return int(context.sampled)

    assert decided(Sampling(1.0, rules=rules)) == NOT_SAMPLED
    assert decided(Sampling(0.0, rules=rules[1:])) == SAMPLED
    assert decided(Sampling(0.0, rules=rules), SAMPLED) == SAMPLED
    assert decided(Sampling(0.0, False, rules=rules), SAMPLED) == NOT_SAMPLED
    assert decided(Sampling(1.0, rules=rules[1:]), NOT_SAMPLED) == NOT_SAMPLED
    assert decided(Sampling(0.0, header="x-trace", rules=rules), NOT_SAMPLED) == SAMPLED
    assert decided(Sampling(0.0), SAMPLED, debug=True) == SAMPLED
    assert decided(Sampling(0.0, False), SAMPLED, debug=True) == NOT_SAMPLED


def test_the_rate_is_a_share() -> None:
    draws = iter([0.0, 0.2499, 0.25, 0.9])
    sampling = Sampling(0.25, draw=lambda: next(draws))
    found = []
    for _ in range(4):
        context = TraceContext()
        sampling.decide(context, exchange_of(), "l")
        found.append(context.sampled)
    assert found == [SAMPLED, SAMPLED, NOT_SAMPLED, NOT_SAMPLED]


# ---- spans of filters


def test_a_span_without_a_trace_has_no_effect() -> None:
    span = exchange_of().span
    assert span is NO_SPAN
    span.set_attribute("a", 1)
    with span.child("part") as part:
        part.set_attribute("b", 2)
    assert (span.attributes, span.trace_id, span.is_recorded) == (None, "", False)


@pytest.mark.parametrize("is_recorded", [True, False])
def test_attributes_of_other_types_are_refused(is_recorded: bool) -> None:
    exchange, _, _ = begun(Sampling(1.0 if is_recorded else 0.0))
    with pytest.raises(TypeError, match="got list"):
        exchange.span.set_attribute("a", [1])  # type: ignore[arg-type]


def test_attributes_are_bounded() -> None:
    exchange, _, _ = begun()
    span = exchange.span
    span.set_attribute("long", "x" * 5000)
    span.set_attribute("n" * 500, 1)
    span.set_attribute("large", 1 << 80)
    span.set_attribute("odd", "a\ud800b")
    for number in range(100):
        span.set_attribute(f"a{number}", number)
    span.set_attribute("long", True)
    attributes = span.attributes
    assert attributes is not None
    assert len(attributes) == MAX_ATTRIBUTES
    assert attributes["long"] is True
    assert attributes["n" * int(MAX_NAME)] == 1
    assert attributes["large"] == float(1 << 80)
    str(attributes["odd"]).encode()
    span.set_attribute("a0", "x" * 5000)
    assert len(str(attributes["a0"])) == MAX_TEXT


def test_the_texts_of_an_exchange_are_bounded() -> None:
    exchange, _, _ = begun()
    spans = [exchange.span, exchange.span.child("a"), exchange.span.child("b")]
    for span in spans:
        for number in range(10):
            span.set_attribute(f"a{number}", "x" * 5000)
    found = [len(key) + len(str(value)) for span in spans for key, value in (span.attributes or {}).items()]
    assert MAX_TEXTS - MAX_TEXT < sum(found) <= MAX_TEXTS


def test_the_failure_of_a_child_is_valid_text() -> None:
    exchange, _, _ = begun()
    child = exchange.span.child("a")
    child.end("odd \udcff" + "x" * 500)
    assert len(child.failure.encode()) <= 2 * MAX_NAME


def test_children_are_bounded() -> None:
    exchange, trace, buffer = begun()
    for number in range(100):
        with exchange.span.child(f"c{number}") as child:
            assert child.is_recorded == (number < MAX_CHILDREN)
            assert child.trace_id == trace.trace_id.decode()
    trace.end(exchange)
    [finished] = buffer.take(10)
    record = record_of(finished, 0.0, IdSource())
    assert len(record.spans) == 1 + MAX_CHILDREN


def test_an_exception_is_the_failure_of_a_child() -> None:
    exchange, trace, buffer = begun()
    with pytest.raises(KeyError), exchange.span.child("part"):
        raise KeyError("x")
    open_child = exchange.span.child("open")
    trace.end(exchange)
    exchange.finished = 5.0
    [finished] = buffer.take(10)
    record = record_of(finished, 0.0, IdSource())
    part, other = record.spans[1:]
    assert (part.failure, part.attributes) == ("KeyError", {"error.type": "KeyError"})
    assert (other.failure, other.name) == ("", "open")
    open_child.set_attribute("late", 1)
    open_child.end()
    with exchange.span.child("later") as later:
        assert not later.is_recorded


# ---- records


def test_names_of_spans() -> None:
    assert span_name(True, b"GET", "", "", "", "Http1") == "GET"
    assert span_name(True, b"GET", "shop", "", "", "Http1") == "GET shop"
    assert span_name(True, b"RANDOM-7", "", "", "", "Http1") == "HTTP"
    assert span_name(True, b"POST", "shop", "pkg.Echo", "Say", "Http2") == "pkg.Echo/Say"
    assert span_name(False, b"", "", "", "", "bolt") == "bolt"
    assert span_name(False, b"", "", "a.B", "", "bolt") == "a.B"


def test_secret_values_of_a_query_are_redacted() -> None:
    assert redacted_query("a=1&b") == "a=1&b"
    assert [redacted_query(query) for query in ("a=1", "token", "token=", "access%5Ftoken=x=y", "")] == [
        *("a=1", "token", "token=***REDACTED***", "access%5Ftoken=***REDACTED***", ""),
    ]
    assert redacted_query("a=1&access%5Ftoken=x&Signature=y&token") == (
        "a=1&access%5Ftoken=***REDACTED***&Signature=***REDACTED***&token"
    )


def test_long_texts_of_a_request_are_cut() -> None:
    tracer, buffer = tracer_of()
    exchange = exchange_of("/" + "a" * 60_000, headers=b"User-Agent: " + b"u" * 60_000 + b"\r\n")
    exchange.request.query = "q" * 60_000
    exchange.request.raw_method = b"M" * 60_000
    tracer.begin(exchange, "l").end(exchange)
    record = record_of(buffer.take(1)[0], 0.0, IdSource())
    assert max(len(str(value)) for value in record.spans[0].attributes.values()) == 2048


# ---- the buffer


def test_the_buffer_is_bounded_and_wakes_its_sender() -> None:
    metrics = Metrics()
    buffer = TraceBuffer(metrics, FULL_BATCH + 1)
    buffer.open()
    woken: list[str] = []
    buffer.on_first = lambda: woken.append("first")
    buffer.on_full = lambda: woken.append("full")
    tracer = WorkerTracer(["w3c"], Sampling(), buffer, Stamps(Clock()))
    for _ in range(FULL_BATCH + 3):
        exchange = exchange_of()
        tracer.begin(exchange, "l").end(exchange)
    assert woken == ["first", "full"]
    assert len(buffer) == FULL_BATCH + 1
    assert len(buffer.take(5)) == 5
    counters = metrics.group("tracing", ("side", "worker")).data()["counters"]
    assert (counters["traces_recorded_total"], counters["traces_dropped_total"]) == (FULL_BATCH + 3, 2)
