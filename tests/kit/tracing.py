"""Tracing in a Talk: a tracer whose ids are counted, and the records of finished traces."""

from __future__ import annotations

from collections.abc import Sequence

from tests.kit.talk import Talk

from pymosn.api.tracing import SpanRecord, TraceRecord
from pymosn.observe.tracing.buffer import TraceBuffer
from pymosn.observe.tracing.ids import IdSource
from pymosn.observe.tracing.records import record_of
from pymosn.observe.tracing.sampling import Sampling
from pymosn.observe.tracing.tracer import WorkerTracer


class Counted:
    """Numbers in order, from 1, in place of random ones: an id of a span is a number, and one of a trace two."""

    def __init__(self) -> None:
        self._last = 0

    def __call__(self, size: int) -> bytes:
        made = b"".join((self._last + 1 + number).to_bytes(8, "big") for number in range(size // 8))
        self._last += size // 8
        return made


class Traces:
    """Switches tracing on in a talk, and collects what is recorded."""

    def __init__(self, talk: Talk, *formats: str, sampling: Sampling | None = None, limit: int = 64) -> None:
        self.talk = talk
        self.buffer = TraceBuffer(talk.metrics, limit)
        self.buffer.open()
        self.switch(formats or ("w3c",), sampling)

    def switch(self, formats: Sequence[str], sampling: Sampling | None = None) -> None:
        """Another configuration."""
        self.talk.runtime.tracer = WorkerTracer(
            list(formats),
            sampling or Sampling(),
            self.buffer,
            self.talk.runtime.stamps,
            "proxy",
            "machine",
            IdSource(Counted()),
        )

    def take(self) -> list[TraceRecord]:
        """The traces that have finished."""
        offset = self.talk.runtime.stamps.offset()
        ids = IdSource(lambda size: b"\xff" * size)
        return [record_of(trace, offset, ids) for trace in self.buffer.take(len(self.buffer))]

    def only(self) -> TraceRecord:
        """The only trace that has finished."""
        [record] = self.take()
        return record

    def counts(self) -> dict[str, int]:
        """The counters that are not 0."""
        return {
            key: value
            for key, value in self.talk.metrics.group("tracing", ("side", "worker")).data()["counters"].items()
            if value
        }


def ids_of(spans: Sequence[SpanRecord]) -> list[tuple[str, str]]:
    """The ids of spans and of their parents, as numbers."""
    return [(str(int(span.span_id, 16)), str(int(span.parent_id or "0", 16))) for span in spans]
