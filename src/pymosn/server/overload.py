"""Overload protection of a worker: measures its resources once a second, reports them as metrics, and sheds load.

It also returns memory to the system that a peak has left free (`trimming`), whether there is a limit or not.

As memory runs out, a worker first disables keep-alive, then rejects requests with 503 and Retry-After, and finally stops
accepting connections. Each level includes the lower ones, and is left again when memory becomes available.
"""

from collections.abc import Callable
from typing import Final

from pymosn.assembly.worker import WorkerRuntime
from pymosn.core.log import INFO, WARN
from pymosn.core.overload import NO_KEEP_ALIVE, NORMAL, SHED, STOP_ACCEPT
from pymosn.server.capacity import USABLE, share_of, shortage
from pymosn.server.cgroups import memory_limit
from pymosn.server.resources import Statm, descriptor_count, give_back, trim
from pymosn.server.trimming import TrimPolicy

#: A level is left when memory is below its threshold by this share of the limit: hysteresis, so that it does not flap.
MARGIN: Final = 0.03
#: Checks between two attempts to return memory to the system while it is short.
GIVE_BACK_EVERY: Final = 5

MEANING: Final = {
    int(NORMAL): "normal operation resumed",
    int(NO_KEEP_ALIVE): "disabling keep-alive",
    int(SHED): "rejecting requests with 503",
    int(STOP_ACCEPT): "no longer accepting connections",
}


class OverloadManager:
    """Measures one worker and sets its overload level."""

    def __init__(
        self,
        runtime: WorkerRuntime,
        rss: Callable[[], int] | None = None,
        container_limit: int | None = None,
        relieve: Callable[[], None] = give_back,
        trim: Callable[[], None] = trim,
    ) -> None:
        """`rss`: measures memory in bytes. `container_limit`: bytes for all processes, 0 for no limit, None to detect it.

        `relieve`: frees what it can while memory is short; `trim`: returns what is free to the system.
        """
        self._runtime = runtime
        self._rss = rss or Statm().rss
        self._container = memory_limit() if container_limit is None else container_limit
        self._relieve = relieve
        self._trim = trim
        self._trimming = TrimPolicy()
        self._checks = 0
        group = runtime.metrics.group("worker", ("worker", "all"))
        self._memory = group.gauge("memory_rss")
        self._returned = group.counter("memory_returned")
        self._descriptors = group.gauge("descriptors")
        self._timers = group.gauge("timers")
        self._connections = group.gauge("connections")
        self._head_bytes = group.gauge("head_bytes")
        self._gauges = {
            NO_KEEP_ALIVE: group.gauge("overload_no_keep_alive"),
            SHED: group.gauge("overload_shed"),
            STOP_ACCEPT: group.gauge("overload_stop_accept"),
        }
        self._rises = group.counter("overload_total")
        runtime.admission.pauses = group.counter("accept_pauses")

    def check(self) -> None:
        """Measures and acts; to be called once a second."""
        runtime = self._runtime
        rss = self._rss()
        if self._trimming.is_due(rss):
            rss = self._return_memory(rss, self._trim)
        self._memory.value = rss
        self._descriptors.value = descriptor_count()
        self._timers.value = len(runtime.wheel)
        self._connections.value = runtime.admission.open
        self._head_bytes.value = runtime.runtime.overload.head_bytes
        runtime.admission.check()
        self._set_level(rss)

    def shortage(self, when: str) -> str:
        """Why this worker could not serve now, for lack of memory; empty if it could, or did not before either.

        `when`: "before its first request", or "with this configuration and the active one".
        """
        if self._runtime.runtime.overload.level >= SHED or not self._is_too_much(self._rss()):
            return ""
        self._relieve()
        needed = self._rss()
        if not self._is_too_much(needed):
            return ""
        configured = self._runtime.active.overload.memory_limit
        return shortage(needed, when, configured, self._container, self._runtime.share.count)

    def _is_too_much(self, rss: int) -> bool:
        return rss > self.limit * USABLE > 0

    def _set_level(self, rss: int) -> None:
        state = self._runtime.runtime.overload
        before = int(state.level)
        level = self._level(rss, before)
        self._checks += 1
        if level > before or (level > NORMAL and self._checks % GIVE_BACK_EVERY == 0):
            rss = self._return_memory(rss, self._relieve)
            level = self._level(rss, before)
        if level == before:
            return
        self._rises.value += int(level > before)
        text = f"memory {rss >> 20} MiB of {self.limit >> 20} MiB: {MEANING[level]}"
        self._runtime.log.write(WARN if level > before else INFO, text, "mosn.proxy.overload")
        state.level = level
        for threshold_level, gauge in self._gauges.items():
            gauge.value = int(level >= threshold_level)
        self._runtime.admission.set_memory(level < STOP_ACCEPT)

    def _return_memory(self, before: int, method: Callable[[], None]) -> int:
        """Returns free memory to the system by `method`. `before`, and the result: the resident memory in bytes."""
        method()
        rss = self._rss()
        self._returned.value += max(0, before - rss)
        self._trimming.on_trimmed(rss)
        return rss

    def _level(self, rss: int, before: int) -> int:
        if self.limit <= 0:
            return int(NORMAL)
        share = rss / self.limit
        return max(self._level_at(share), min(before, self._level_at(share + MARGIN)))

    @property
    def limit(self) -> int:
        """Bytes that this worker may use; 0 for no limit."""
        configured = self._runtime.active.overload.memory_limit
        derived = share_of(self._container, self._runtime.share.count) if self._container else 0
        return derived if configured == 0 else max(0, configured)

    def _level_at(self, share: float) -> int:
        overload = self._runtime.active.overload
        levels = ((STOP_ACCEPT, overload.stop_accept), (SHED, overload.shed), (NO_KEEP_ALIVE, overload.stop_keep_alive))
        return int(next((level for level, threshold in levels if share >= threshold), NORMAL))
