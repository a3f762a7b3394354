"""What a filter costs: the same requests through a chain with it and through an empty one, by turns."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from pymosn.api.stream_filter import StreamFilter
from pymosn.core.headers import HeaderError, headers_from, wire_lines
from pymosn.filters.stream.python import load_file, load_installed
from pymosn.kit.bench_rig import BenchError, Line
from pymosn.server.garbage import settle
from pymosn.version import build

#: Rounds of each chain; the best one counts, for whatever disturbs a round only makes it longer.
ROUNDS: Final = 15
_REPLY_BODY: Final = b'{"id": 7, "name": "example", "tags": ["a", "b"], "stock": 12}'
_REPLY: Final = (
    b"HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_REPLY_BODY), _REPLY_BODY)
)
#: What a small client sends; the fields of `Question` come on top.
_FIELDS: Final = (("Host", "bench.example"), ("User-Agent", "pymosn-bench"), ("Accept", "*/*"))


class Question(msgspec.Struct, kw_only=True):
    """What is to be measured. `filters`: each `FILE:CLASS`, or the name of an installed filter; a chain, in that order.

    `configs`: theirs, in the same order; those that are missing are empty.
    """

    filters: Sequence[str]
    configs: Sequence[dict[str, Any]] = ()
    requests: int = 1000
    path: str = "/"
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""


class Answer(msgspec.Struct, kw_only=True):
    """What was measured; times in microseconds of CPU for each request. `statuses`: of the replies with the filters.

    `other_empty_us`: of a second empty chain, which tells how far such a figure can be trusted.
    """

    filters: Sequence[str]
    empty_us: float
    other_empty_us: float
    with_filters_us: float
    statuses: dict[int, int]
    errors: int
    requests: int
    build: str

    @property
    def added_us(self) -> float:
        """What the filters add."""
        return self.with_filters_us - self.empty_us

    @property
    def noise_us(self) -> float:
        """By how much two chains that are the same differ."""
        return abs(self.other_empty_us - self.empty_us)


def load(name: str, config: dict[str, Any]) -> StreamFilter:
    """The filter `FILE:CLASS` or an installed one. Raises FilterLoadError."""
    path, colon, class_name = name.rpartition(":")
    return load_file(Path(path).resolve(), class_name, config) if colon else load_installed(name, config)


def measure(question: Question) -> Answer:
    """Measures, for some seconds. Raises FilterLoadError, BenchError, and what a filter's `start` raises."""
    import uvloop  # as in a worker

    if len(question.configs) > len(question.filters):
        raise BenchError(f"{len(question.configs)} configurations for {len(question.filters)} filters")
    configs = [*question.configs, *({} for _ in question.filters[len(question.configs) :])]
    measured = [load(name, config) for name, config in zip(question.filters, configs, strict=True)]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_measure(question, measured))


async def _measure(question: Question, measured: Sequence[StreamFilter]) -> Answer:
    request = _request(question)
    named = {f"{number} {type(entry).__name__}": entry for number, entry in enumerate(measured, 1)}
    lines = [Line({}, request, _REPLY), Line({}, request, _REPLY), Line(named, request, _REPLY)]
    full = lines[-1]
    best = [float("inf")] * len(lines)
    threshold = gc.get_threshold()
    try:
        for entry in measured:
            await entry.start()
        for line in lines:
            await line.run(max(1, question.requests // 10))
        full.ends.statuses.clear()
        settle()  # as in a worker
        for _ in range(ROUNDS):
            for number, line in enumerate(lines):
                gc.collect()
                best[number] = min(best[number], await line.run(question.requests))
    finally:
        gc.set_threshold(*threshold)
        gc.unfreeze()
        for entry in measured:
            await entry.context.end_tasks()
            await entry.stop()
    return Answer(
        filters=question.filters,
        empty_us=best[0] * 1e6,
        other_empty_us=best[1] * 1e6,
        with_filters_us=best[2] * 1e6,
        statuses=dict(sorted(full.ends.statuses.items())),
        errors=sum(int(full.metrics.group("filter", ("filter", name)).counter("errors").value) for name in named),
        requests=question.requests,
        build=build(),
    )


def _request(question: Question) -> bytes:
    given = {name.lower() for name, _ in question.headers}
    try:
        headers = headers_from([*(field for field in _FIELDS if field[0].lower() not in given), *question.headers])
    except HeaderError as error:
        raise BenchError(str(error)) from error
    method = b"POST" if question.body else b"GET"
    if question.body:
        headers.add_raw(b"Content-Length", b"%d" % len(question.body))
    return method + b" " + question.path.encode() + b" HTTP/1.1\r\n" + wire_lines(headers) + b"\r\n" + question.body


def as_text(answer: Answer) -> str:
    """The answer for people, with what it leaves out."""
    replies = ", ".join(f"{count} x {status}" for status, count in answer.statuses.items())
    lines = [
        f"{' + '.join(answer.filters)} adds {answer.added_us:.2f} us to a request ({answer.build} data path)",
        f"  {answer.empty_us:8.2f} us  through an empty chain ({answer.other_empty_us:.2f} through another one)",
        f"  {answer.with_filters_us:8.2f} us  with {'the filters' if len(answer.filters) > 1 else 'it'}; replies: {replies}",
        f"CPU time; the best of {ROUNDS} rounds of {answer.requests} requests, by turns, one at a time.",
        "Not in it: sockets and the kernel, cold caches, other requests at the same time, what the filter waits for.",
    ]
    if answer.errors:
        lines.append(f"The filter failed {answer.errors} times; `pymosn.testing` shows why.")
    if all(status >= 400 for status in answer.statuses):
        lines.append("No request was served: -H, --path and --data make one that the filter lets pass.")
    if answer.noise_us > abs(answer.added_us) / 2:
        lines.append("The two empty chains differ too much for this figure: take more --requests, or a quieter machine.")
    if answer.build == "interpreted":
        lines.append(
            "Interpreted, the proxy's part is slower than compiled, in both chains and in what the filter asks of it."
        )
    return "\n".join(lines)
