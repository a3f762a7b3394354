"""Measures the cost of filters: sends the same requests alternately through a chain with them and an empty one."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from pymosn.api.stream_filter import StreamFilter
from pymosn.assembly.filters import START_TIME, STOP_TIME
from pymosn.core.foreign import outcome
from pymosn.core.headers import HeaderError, headers_from, wire_lines
from pymosn.filters.errors import describe
from pymosn.filters.loading import load_filter, load_installed
from pymosn.kit.bench_rig import BenchError, Line
from pymosn.server.resources import settle
from pymosn.version import build

#: Rounds per chain. The best one counts, because interference only makes a round slower.
ROUNDS: Final = 15
_RESPONSE_BODY: Final = b'{"id": 7, "name": "example", "tags": ["a", "b"], "stock": 12}'
_RESPONSE: Final = (
    b"HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_RESPONSE_BODY), _RESPONSE_BODY)
)
#: Fields of every request; those of `Benchmark` are added.
_FIELDS: Final = (("Host", "bench.example"), ("User-Agent", "pymosn-bench"), ("Accept", "*/*"))


class Benchmark(msgspec.Struct, kw_only=True):
    """What to measure. `filters`: a chain; each is `FILE:CLASS` or the name of an installed filter.

    `configs`: their configurations in the same order; missing ones are empty.
    """

    filters: Sequence[str]
    configs: Sequence[dict[str, Any]] = ()
    requests: int = 1000
    path: str = "/"
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""


class Measurement(msgspec.Struct, kw_only=True):
    """Measured times, in microseconds of CPU per request. `statuses`: of the responses with the filters.

    `other_empty_us`: a second empty chain, which shows the accuracy of the figures.
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
        """The time that the filters add."""
        return self.with_filters_us - self.empty_us

    @property
    def noise_us(self) -> float:
        """The difference between two identical chains."""
        return abs(self.other_empty_us - self.empty_us)


def load(name: str, config: dict[str, Any]) -> StreamFilter:
    """Loads the filter `FILE:CLASS` or an installed one. Raises FilterLoadError."""
    path, colon, class_name = name.rpartition(":")
    return load_filter(Path(path).resolve(), class_name, config) if colon else load_installed(name, config)


def measure(benchmark: Benchmark) -> Measurement:
    """Measures for some seconds. Raises FilterLoadError and BenchError."""
    import uvloop  # as in a worker

    if len(benchmark.configs) > len(benchmark.filters):
        raise BenchError(f"{len(benchmark.configs)} configurations for {len(benchmark.filters)} filters")
    configs = [*benchmark.configs, *({} for _ in benchmark.filters[len(benchmark.configs) :])]
    measured = [load(name, config) for name, config in zip(benchmark.filters, configs, strict=True)]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        loop = runner.get_loop()
        measuring = loop.create_task(_measure(benchmark, measured))
        while True:
            try:
                return loop.run_until_complete(measuring)
            except SystemExit:  # of a filter's task, which has stored it: like a worker, the loop continues
                if measuring.done():
                    raise


async def _measure(benchmark: Benchmark, measured: Sequence[StreamFilter]) -> Measurement:
    request = _request(benchmark)
    named = {f"{index} {type(entry).__name__}": entry for index, entry in enumerate(measured, 1)}
    lines = [Line({}, request, _RESPONSE), Line({}, request, _RESPONSE), Line(named, request, _RESPONSE)]
    full = lines[-1]
    best = [float("inf")] * len(lines)
    threshold = gc.get_threshold()
    try:
        for entry in measured:
            failed = await outcome(entry.start, START_TIME)
            if failed is not None:
                raise BenchError(f"the filter failed to start: {describe(failed)}")
        for line in lines:
            await line.run(max(1, benchmark.requests // 10))
        full.ends.statuses.clear()
        settle()  # as in a worker
        for _ in range(ROUNDS):
            for index, line in enumerate(lines):
                gc.collect()
                best[index] = min(best[index], await line.run(benchmark.requests))
    finally:
        gc.set_threshold(*threshold)
        gc.unfreeze()
        for entry in measured:
            await outcome(entry.context.end_tasks, STOP_TIME)
            await outcome(entry.stop, STOP_TIME)  # its errors do not matter for what was measured
    return Measurement(
        filters=benchmark.filters,
        empty_us=best[0] * 1e6,
        other_empty_us=best[1] * 1e6,
        with_filters_us=best[2] * 1e6,
        statuses=dict(sorted(full.ends.statuses.items())),
        errors=sum(int(full.metrics.group("filter", ("filter", name)).counter("errors").value) for name in named),
        requests=benchmark.requests,
        build=build(),
    )


def _request(benchmark: Benchmark) -> bytes:
    given = {name.lower() for name, _ in benchmark.headers}
    try:
        headers = headers_from([*(field for field in _FIELDS if field[0].lower() not in given), *benchmark.headers])
    except HeaderError as error:
        raise BenchError(str(error)) from error
    method = b"POST" if benchmark.body else b"GET"
    if benchmark.body:
        headers.add_raw(b"Content-Length", b"%d" % len(benchmark.body))
    return method + b" " + benchmark.path.encode() + b" HTTP/1.1\r\n" + wire_lines(headers) + b"\r\n" + benchmark.body


def as_text(result: Measurement) -> str:
    """The result for people, with its limits."""
    responses = ", ".join(f"{count} x {status}" for status, count in result.statuses.items())
    who = "the filters" if len(result.filters) > 1 else "it"
    lines = [
        f"{' + '.join(result.filters)} adds {result.added_us:.2f} us to a request ({result.build} data path)",
        f"  {result.empty_us:8.2f} us  through an empty chain ({result.other_empty_us:.2f} through another one)",
        f"  {result.with_filters_us:8.2f} us  with {who}; responses: {responses}",
        f"CPU time; the best of {ROUNDS} alternating rounds of {result.requests} sequential requests.",
        "Not included: sockets and the kernel, cold caches, concurrent requests, waiting times of the filter.",
    ]
    if result.errors:
        lines.append(f"The filter failed {result.errors} times; use `pymosn.testing` to find out why.")
    if all(status >= 400 for status in result.statuses):
        lines.append("Every request was rejected: use -H, --path and --data to make one that the filter accepts.")
    if result.noise_us > abs(result.added_us) / 2:
        lines.append(
            "The two empty chains differ too much for an accurate result: use more --requests, or a less busy machine."
        )
    if result.build == "interpreted":
        lines.append(
            "The proxy is interpreted, so both chains and the filter's calls into it are slower than when compiled."
        )
    return "\n".join(lines)
