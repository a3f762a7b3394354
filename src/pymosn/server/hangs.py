"""Finds workers that hang, do not become ready, or serve nothing."""

from collections.abc import Iterator, Sequence
from typing import Final

from pymosn.core.clock import Clock
from pymosn.server.worker_process import WorkerHandle

#: Seconds between two checks for workers whose event loop hangs.
HANG_PERIOD: Final = 1.0
#: Seconds after which a worker that misses its probes is hung, because it sends a report each second.
SILENCE: Final = 2.5


class Hangs:
    """Checks the workers each HANG_PERIOD."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = 0.0

    def find(
        self, workers: Sequence[WorkerHandle], limit: float, start_limit: float, are_ending: bool
    ) -> Iterator[tuple[WorkerHandle, str, str]]:
        """Workers that have to be killed, why, and where they are blocked if that is known.

        `limit`, `start_limit`: seconds without a response, and until they are ready; 0: no limit. `are_ending`: they need
        not serve.
        """
        now = self._clock.tick()
        # This process itself was blocked, and could not receive reports.
        is_late = now - self._last > 2.0 * HANG_PERIOD
        self._last = now
        for worker in workers:
            if worker.ready_since is None or is_late:
                worker.last_report = worker.probe.answered = now
                if now - worker.began > start_limit > 0.0 and not is_late and worker.ready_since is None:
                    yield worker, f"was not ready within {start_limit:g} s", f", last at: {_place(worker)}"
                continue
            silence = now - worker.last_report
            is_served = are_ending or worker.probe.check(now, limit)
            if silence > limit > 0.0 or (silence > SILENCE and not is_served):
                yield worker, f"has not responded for {limit:g} s", f", blocked at: {_place(worker)}"
            elif not is_served:
                yield worker, f"responds, but for {limit:g} s {worker.probe.fault or 'new connections are not served'}", ""


def _place(worker: WorkerHandle) -> str:
    return " < ".join(worker.take_stack()[:8]) or "unknown"
