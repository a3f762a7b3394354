"""The service that exports the traces of all workers by the configured driver."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from pymosn.api.tracing import TraceRecord
from pymosn.config.schema import MosnConfig
from pymosn.config.schema.observability import Tracing
from pymosn.control.service import Service
from pymosn.control.tracing.drivers import MakeExporter, make_exporter
from pymosn.control.tracing.exporter import OFF, REASONS, Facts
from pymosn.control.tracing.pipeline import Counts, Pause, Pipeline
from pymosn.core.clock import Clock
from pymosn.core.counters import GroupData
from pymosn.core.log import Log

#: Seconds to export what waits, at the end and after a change of the driver.
FLUSH_TIME: Final = 5.0


class TraceExport(Service):
    """Receives finished traces, and exports them by the driver of the active configuration.

    After a change of `tracing` what was recorded before is still exported by the previous driver.
    """

    name = "tracing"

    def __init__(self, clock: Clock, log: Log, make: MakeExporter = make_exporter, pause: Pause = asyncio.sleep) -> None:
        self._clock = clock
        self._log = log
        self._make = make
        self._pause = pause
        self._facts = Facts()
        self._active: Pipeline | None = None
        self._settings: Tracing | None = None
        #: What became of spans, by driver.
        self._counts: dict[str, Counts] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def receive(self, traces: Sequence[TraceRecord]) -> None:
        """Takes over finished traces of a worker."""
        if self._active is None:
            # Recorded just before tracing was turned off.
            if self._settings is not None:
                self._counts_of(self._settings.driver).dropped[OFF] += sum(len(trace.spans) for trace in traces)
            return
        for trace in traces:
            self._active.add(trace)

    def follow(self, config: MosnConfig) -> None:
        self._facts.listener_types = {listener.known_name(): listener.type for listener in config.servers[0].listeners}
        wanted = config.tracing if config.tracing is not None and config.tracing.enable else None
        # What has prevented an exporter, such as a missing file, may have been repaired since.
        if self._active is not None and wanted == self._settings and not self._active.is_off:
            return
        if self._active is not None:
            self._end(self._active)
            self._active = None
        if wanted is None:
            return
        self._settings = wanted
        make = self._make(wanted, self._facts, self._log)
        if make is None:
            return  # checking the configuration has reported why
        self._active = Pipeline(wanted.driver, make, self._counts_of(wanted.driver), self._clock, self._log, self._pause)
        self._active.start()

    def reopen_logs(self) -> None:
        """Reopens files after they were renamed (SIGUSR1)."""
        if self._active is not None:
            self._active.reopen()

    def metrics(self) -> list[GroupData]:
        """The group `tracing` of each driver so far: what became of its spans, see docs/tracing.md."""
        return [self._group(driver, counts) for driver, counts in self._counts.items()]

    async def stop(self) -> None:
        if self._active is not None:
            self._end(self._active)
            self._active = None
        if self._ending:
            await asyncio.wait(self._ending)

    def _end(self, pipeline: Pipeline) -> None:
        task = asyncio.get_running_loop().create_task(pipeline.stop(FLUSH_TIME))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _counts_of(self, driver: str) -> Counts:
        return self._counts.setdefault(driver, Counts())

    def _group(self, driver: str, counts: Counts) -> GroupData:
        waiting = self._active.waiting if self._active is not None and self._active.driver == driver else 0
        dropped = {f"spans_dropped_{reason}_total": counts.dropped[reason] for reason in REASONS}
        return {
            "type": "tracing",
            "labels": [("driver", driver)],
            "counters": {"spans_exported_total": counts.exported, "export_retries_total": counts.retries, **dropped},
            "gauges": {"spans_waiting": waiting},
            "histograms": {},
        }
