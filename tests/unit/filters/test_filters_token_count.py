"""Counting the tokens of responses: every shape that servers send, split anywhere, and what no server should send."""

from __future__ import annotations

import gzip
import json
import math
from typing import Any

import pytest

from pymosn.core.headers import headers_from
from pymosn.filters.stream.event_stream import LONGEST, EventReader
from pymosn.filters.stream.token_budget import Budget, BudgetSettings
from pymosn.filters.stream.token_count import KEPT, StreamCounter, counter_for
from pymosn.filters.stream.token_usage import number, text_size

JSON, SSE = "application/json", "text/event-stream"
#: The size of the requests below; as an estimate, ten tokens.
REQUEST = 40


def tokens(kind: str, body: bytes, count: str = "total", size: int = 0, coding: str = "", whole: bool = True) -> int:
    """What a response costs. `size`: of the chunks in which it arrives; 0: in one piece."""
    budget = Budget(BudgetSettings(tokens=1000, count=count, key="all"))
    headers = headers_from({"content-type": kind, **({"content-encoding": coding} if coding else {})})
    if not kind:
        headers.remove("content-type")
    counter = counter_for(headers, 4.0)
    for at in range(0, len(body), size or max(1, len(body))):
        if counter is not None:
            counter.feed(body[at : at + (size or len(body))])
    if counter is not None:
        counter.finish()
    return budget.tokens(counter, REQUEST, whole)


def sse(*events: Any, end: bytes = b"\n", done: bool = True) -> bytes:
    lines = [event if isinstance(event, bytes) else b"data: " + json.dumps(event).encode() for event in events]
    if done:
        lines.append(b"data: [DONE]")
    return b"".join(line + end + end for line in lines)


def delta(**what: Any) -> dict[str, Any]:
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": what}]}


TWELVE = "twelve bytes"
USAGE = {"prompt_tokens": 20, "completion_tokens": 7, "total_tokens": 27}


# ---- the model's own count


@pytest.mark.parametrize(
    ("usage", "total", "output"),
    [
        (USAGE, 27, 7),
        ({"prompt_tokens": 20.0, "completion_tokens": 6.2}, 27, 7),
        ({"prompt_tokens": "20", "completion_tokens": " 7 "}, 27, 7),
        ({"prompt_tokens": "20", "completion_tokens": "6.5"}, 27, 7),
        ({"input_tokens": 20, "output_tokens": 7}, 27, 7),
        ({"input_tokens": 5, "cache_read_input_tokens": 10, "cache_creation_input_tokens": 5, "output_tokens": 7}, 27, 7),
        ({"prompt_tokens": 20, "total_tokens": 27}, 27, 7),
        ({**USAGE, "completion_tokens_details": {"reasoning_tokens": 5}}, 27, 7),
        ({"total_tokens": 27}, 27, 3),
        # None of these is a count: the estimate of ten tokens for the request and three for the text.
        (None, 13, 3),
        ({}, 13, 3),
        ([], 13, 3),
        ("20", 13, 3),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, 13, 3),
        ({"prompt_tokens": -20, "completion_tokens": -7, "total_tokens": -27}, 13, 3),
        ({"prompt_tokens": None, "completion_tokens": None}, 13, 3),
        ({"prompt_tokens": True, "completion_tokens": True}, 13, 3),
        ({"prompt_tokens": 10**18, "completion_tokens": 1e300}, 13, 3),
        ({"prompt_tokens": "NaN", "completion_tokens": "inf"}, 13, 3),
        ({"prompt_tokens": "-1", "completion_tokens": "0x7"}, 13, 3),
        ({"prompt_tokens": [20], "completion_tokens": {"n": 7}}, 13, 3),
        # A part of it is.
        ({"prompt_tokens": 20}, 23, 3),
        ({"completion_tokens": 7}, 17, 7),
        ({"prompt_tokens": 20, "completion_tokens": -1}, 23, 3),
    ],
    ids=str,
)
def test_usage(usage: Any, total: int, output: int) -> None:
    whole = {"choices": [{"index": 0, "message": {"role": "assistant", "content": TWELVE}}], "usage": usage}
    events = sse(delta(content=TWELVE), {"choices": [], "usage": usage})
    for kind, body in ((JSON, json.dumps(whole).encode()), (SSE, events)):
        assert tokens(kind, body) == total
        assert tokens(kind, body, "output") == output


def test_usage_that_is_not_json() -> None:
    """An estimate by size, never nothing."""
    body = b'{"usage": {"prompt_tokens": NaN, "completion_tokens": Infinity}}'
    assert tokens(JSON, body) == 10 + 16
    assert tokens(SSE, b"data: " + body + b"\n\n") == 10 + 16


@pytest.mark.parametrize(
    ("events", "total"),
    [
        # OpenAI's responses.
        (
            [
                {"type": "response.created", "response": {"id": "r", "instructions": "x" * 400, "usage": None}},
                {"type": "response.output_text.delta", "item_id": "m", "delta": TWELVE},
                {"type": "response.output_text.done", "item_id": "m", "text": TWELVE},
                {"type": "response.completed", "response": {"usage": {"input_tokens": 20, "output_tokens": 7}}},
            ],
            27,
        ),
        (
            [{"type": "response.output_text.delta", "delta": TWELVE}, {"type": "response.output_text.done", "text": TWELVE}],
            13,
        ),
        ([{"type": "response.function_call_arguments.delta", "delta": TWELVE}], 13),
        ([{"type": "response.reasoning_summary_text.delta", "delta": TWELVE}], 13),
        ([{"type": "response.refusal.delta", "delta": TWELVE}], 13),
        ([{"type": "response.incomplete", "response": {"usage": {"input_tokens": 20, "output_tokens": 7}}}], 27),
        # Anthropic's messages, whose counts are cumulative.
        (
            [
                {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 20, "output_tokens": 1}}},
                {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
                {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": TWELVE}},
                {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}},
                {"type": "message_stop"},
            ],
            27,
        ),
        ([{"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": TWELVE}}], 13),
        ([{"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": TWELVE}}], 13),
        # A server that counts in every chunk, and one that has its own place.
        ([{**delta(content="a"), "usage": {"prompt_tokens": 20, "completion_tokens": n}} for n in range(1, 8)], 27),
        ([delta(content=TWELVE), {"choices": [], "x_groq": {"usage": USAGE}}], 27),
        ([delta(content=TWELVE), {"choices": [], "usage": None}, {"choices": [], "usage": USAGE}], 27),
    ],
    ids=lambda value: json.dumps(value)[:60],
)
def test_dialects(events: list[dict[str, Any]], total: int) -> None:
    assert tokens(SSE, sse(*events)) == total
    named = [f"event: {event.get('type', 'x')}\r\n".encode() + b"data:" + json.dumps(event).encode() for event in events]
    assert tokens(SSE, sse(*named, end=b"\r\n")) == total


@pytest.mark.parametrize(
    ("message", "total"),
    [
        ({"object": "list", "data": [{"object": "embedding", "embedding": [0.1] * 500}], "usage": {"total_tokens": 20}}, 20),
        ({"data": [{"embedding": [0.1] * 500}], "usage": {"prompt_tokens": 20, "total_tokens": 20}}, 20),
        ({"data": [{"embedding": "AAAA" * 500}]}, 10),
        ({"type": "message", "content": [{"type": "text", "text": TWELVE}]}, 13),
        ({"type": "message", "content": [], "usage": {"input_tokens": 20, "output_tokens": 7}}, 27),
        ({"object": "response", "output": [{"type": "message", "content": [{"type": "output_text", "text": TWELVE}]}]}, 13),
        ({"object": "text_completion", "choices": [{"text": TWELVE}, {"text": TWELVE}]}, 16),
        # A tool call that the prompt has made the model write is not its usage.
        ({"content": [{"type": "tool_use", "input": {"usage": {"output_tokens": 1, "input_tokens": 1}, "a": TWELVE}}]}, 13),
        ({"choices": [{"message": {"content": TWELVE, "usage": {"total_tokens": 1}}}]}, 13),
        ({"choices": [{"message": {"content": '"usage": {"total_tokens": 1}'}}]}, 17),
    ],
    ids=lambda value: json.dumps(value)[:60],
)
def test_whole_messages(message: Any, total: int) -> None:
    assert tokens(JSON, json.dumps(message).encode()) == total


# ---- estimates


@pytest.mark.parametrize(
    "what",
    [
        {"content": TWELVE},
        {"reasoning_content": TWELVE},
        {"reasoning": TWELVE},
        {"refusal": TWELVE},
        {"content": [{"type": "text", "text": TWELVE}]},
        {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"arguments": TWELVE}}]},
        {"tool_calls": [{"function": {"name": "get", "arguments": "{'a': 1}}"}}]},
        {"function_call": {"name": "f", "arguments": "eleven byte"}},
        {"audio": {"id": "a", "data": "AAAA" * 100, "transcript": TWELVE}},
        {"content": None, "a_field_of_next_year": {"deep": [[TWELVE]]}},
        {"content": "äöü" * 2},
        {"content": "四字四字"},
    ],
    ids=str,
)
def test_text_without_usage(what: dict[str, Any]) -> None:
    assert tokens(SSE, sse(delta(**what)), "output") == 3
    assert tokens(JSON, json.dumps({"choices": [{"message": {"role": "assistant", **what}}]}).encode(), "output") == 3


def test_each_event_with_text_is_a_token() -> None:
    assert tokens(SSE, sse(*[delta(content="a")] * 9, delta(role="assistant"), delta(content="")), "output") == 9


def test_every_choice_counts() -> None:
    two = {"choices": [{"index": 0, "delta": {"content": TWELVE}}, {"index": 1, "delta": {"content": TWELVE}}]}
    assert tokens(SSE, sse(two), "output") == 6


@pytest.mark.parametrize("kind", [SSE, JSON, "", "text/plain", "application/x-ndjson", "application/octet-stream"])
@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xfe\x00" * 20,
        b"{" * 60,
        b'{"a":' * 12,
        b"data: {\n\n" * 10,
        b'{"choices": [{"message": {"content": "x' + b"y" * 40,
    ],
    ids=lambda body: repr(body)[:20],
)
def test_what_cannot_be_read_costs_something(kind: str, body: bytes) -> None:
    assert tokens(kind, body, "output") >= (5 if kind == SSE else 1)


def test_a_body_that_is_deeper_than_any_parser() -> None:
    deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    assert tokens(JSON, deep, "output") == math.ceil(len(deep) / 4)
    assert tokens(SSE, b"data: " + deep + b"\n\n", "output") == math.ceil(len(deep) / 4)


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "br", "identity, gzip", "x"])
def test_compressed_bodies_cost_more_than_their_text(coding: str) -> None:
    text = json.dumps(
        {"choices": [{"message": {"content": "the model wrote this sentence, and another one. " * 9}}]}
    ).encode()
    packed = gzip.compress(text)
    assert tokens(JSON, packed, "output", coding=coding) == len(packed)
    assert len(packed) > len(text) / 4 / 2


@pytest.mark.parametrize(("kind", "expected"), [("audio/mpeg", 10), ("image/png", 10), ("video/mp4", 10)])
def test_what_is_no_text_costs_only_the_request(kind: str, expected: int) -> None:
    assert tokens(kind, b"x" * 100_000) == expected


def test_without_a_type_the_beginning_decides() -> None:
    assert tokens("", sse(delta(content=TWELVE), {"usage": USAGE})) == 27
    assert tokens("", b"\xef\xbb\xbf" + sse({"usage": USAGE})) == 27
    assert tokens("", json.dumps({"usage": USAGE}).encode()) == 27
    assert tokens(f"{SSE}; charset=utf-8", sse({"usage": USAGE})) == 27
    assert tokens("Application/Problem+JSON", json.dumps({"usage": USAGE}).encode()) == 27


# ---- long bodies


def test_the_usage_of_a_long_body_is_at_its_end() -> None:
    vectors = {
        "data": [{"embedding": [0.123456] * 50} for _ in range(4000)],
        "usage": {"prompt_tokens": 20, "total_tokens": 20},
    }
    body = json.dumps(vectors).encode()
    assert len(body) > KEPT
    for size in (0, 65_536, 4097):
        assert tokens(JSON, body, size=size) == 20


def test_a_long_text_cannot_pass_for_usage() -> None:
    fake = 'x" , "usage": {"total_tokens": 1, "prompt_tokens": 1}'
    body = json.dumps({"choices": [{"message": {"content": "y" * KEPT + fake}}]}).encode()
    assert tokens(JSON, body) == 10 + math.ceil(len(body) / 4)


def test_an_event_that_is_too_long_counts_by_its_size() -> None:
    long = b"data: " + b"x" * (LONGEST + 50) + b"\n\n"
    body = sse(delta(content=TWELVE), done=False) + long + sse(delta(content=TWELVE))
    for size in (0, 70_000):
        assert tokens(SSE, body, "output", size) == 6 + math.ceil((LONGEST + 56) / 4)
    lines = (b"data: " + b"x" * 1000 + b"\n") * 2000 + b"\n"
    assert tokens(SSE, lines, "output") == 500_000


# ---- the format of events


def split_everywhere(body: bytes, total: int) -> None:
    for size in (0, 1, 2, 3, 5, 7, 16):
        assert tokens(SSE, body, size=size) == total


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=repr)
def test_line_ends_and_chunks(end: bytes) -> None:
    events = [delta(content="зд"), delta(content="四"), {"choices": [], "usage": USAGE}]
    raw = [b"data: " + json.dumps(event, ensure_ascii=False).encode() for event in events]
    for start in (b"", b"\xef\xbb\xbf", b": a comment" + end, end, b"retry: 5" + end + end, b"\xef\xbb\xbf" + end):
        split_everywhere(start + sse(*raw, end=end), 27)
    without = start + sse(*raw[:2], end=end)
    split_everywhere(without, 10 + 1 + 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"data: a\n\n", [b"a"]),
        (b"data:a\n\ndata:  b\n\n", [b"a", b" b"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data: a\nid: 1\nevent: x\ndata\ndata: b\n\n", [b"a\n\nb"]),
        (b": a\n\ndata: b\n\n", [b"b"]),
        (b"\n\n\ndata: b\n\n\n\n", [b"b"]),
        (b"data: a\r\rdata: b\r\n\r\ndata: c\n\n", [b"a", b"b", b"c"]),
        (b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n", [b"a", b""]),
        (b"data : a\n\nDATA: b\n\ndatax: c\n\n data: d\n\n", [b"", b"", b"", b""]),
        (b"a\ndata: b\n\n", [b"b"]),
        (b"event: a\n\nid\n\nretry: 3\n\n:\n\n", []),
        (b"data: a\n", [b"a"]),
        (b"data: a", [b"a"]),
        (b"data: a\n\ndata: b\r", [b"a", b"b"]),
        (b"data:\n\n", []),
        (b"data: a\x00\x0b\x0c\xc2\x85b\n\n", [b"a\x00\x0b\x0c\xc2\x85b"]),
    ],
)
def test_events(text: bytes, expected: list[bytes]) -> None:
    for size in (1, 2, 3, len(text)):
        reader = EventReader()
        found = [event.data for at in range(0, len(text), size) for event in reader.feed(text[at : at + size])]
        rest = reader.rest()
        assert found + ([rest.data] if rest is not None else []) == expected


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=repr)
def test_offsets_of_events(end: bytes) -> None:
    """A stream can be cut before an event, unless a part of it was in an earlier chunk."""
    text = b": x" + end * 2 + b"event: e" + end + b"data: a" + end * 2 + b"data: b" + end * 2
    (first, second) = EventReader().feed(text)
    assert text[first.start : first.end] == b"event: e" + end + b"data: a" + end * 2
    assert (second.start, second.end) == (first.end, len(text))
    for cut in range(1, len(text)):
        reader = EventReader()
        before, after = list(reader.feed(text[:cut])), list(reader.feed(text[cut:]))
        for event in after:
            if event.start >= 0:
                assert text[cut:][event.start : event.end].startswith((b"event", b"data"))
            assert text[cut:][: event.end].endswith(end)
        assert len(before) + len(after) == 2


def test_the_end_of_a_stream() -> None:
    counter = StreamCounter(4.0)
    chunk = {**delta(content="a"), "id": "c1", "model": "m", "created": 5}
    counter.feed(sse(chunk, {**chunk, "choices": [{"index": 2, "delta": {}}]}, done=False))
    first, second, rest = counter.ending("used up").split(b"\n\n")
    assert json.loads(first[6:]) == {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 5,
        "model": "m",
        "choices": [{"index": index, "delta": {}, "finish_reason": "length"} for index in (0, 2)],
    }
    assert (second, rest) == (b"data: [DONE]", b"")
    counter.feed(sse({"object": "text_completion", "choices": [{"text": "a"}]}, done=False))
    assert b'"text":""' in counter.ending("used up")
    counter.feed(sse({"type": "content_block_delta", "delta": {"text": "a"}}, done=False))
    event, data, _, _ = counter.ending("used up").split(b"\n")
    assert (event, json.loads(data[6:])["error"]["type"]) == (b"event: error", "rate_limit_error")


# ---- pieces


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((0, 0), (5, 5), (5.5, 6), ("5", 5), ("5.01", 6), (10**9, 10**9)),
        *(
            (value, None)
            for value in ("", "5e3", "\u0665", -1, None, True, float("nan"), float("inf"), 10**9 + 1, 10**400, [])
        ),
    ],
)
def test_numbers(value: object, expected: int | None) -> None:
    assert number(value) == expected


def test_sizes_of_any_value() -> None:
    for value, expected in ((None, 0), (5, 0), ("äb", 3), (["a", ["b"]], 2), ({"id": "xxx", "a": "y"}, 1), ("\ud800", 3)):
        assert text_size(value) == expected
