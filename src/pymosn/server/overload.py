"""A worker's own state: measured once a second, shown in the metrics, and kept within bounds.

The ladder: as memory runs out, replies first end their connections, then requests are turned away with 503 and Retry-After,
then accepting stops. Each step includes those before it; all of it goes back by itself.
"""

from collections.abc import Callable
from typing import Final

from pymosn.assembly.worker import WorkerRuntime
from pymosn.core.log import INFO, WARN
from pymosn.core.overload import NO_KEEP_ALIVE, NORMAL, SHED, STOP_ACCEPT
from pymosn.server.memory import Statm, cgroup_limit, descriptor_count, give_back, share_of

#: A step is left when memory is below its threshold by this share of the limit: no step forth and back each second.
MARGIN: Final = 0.03
#: Looks between two attempts to give memory back while it is short.
GIVE_BACK_EVERY: Final = 5

MEANING: Final = {
    int(NORMAL): "all is served again",
    int(NO_KEEP_ALIVE): "replies end their connections",
    int(SHED): "requests are turned away with 503",
    int(STOP_ACCEPT): "accepting stops",
}


class OverloadManager:
    """Looks after one worker."""

    def __init__(
        self,
        runtime: WorkerRuntime,
        rss: Callable[[], int] | None = None,
        container_limit: int | None = None,
        relieve: Callable[[], None] = give_back,
    ) -> None:
        """`rss`: measures memory in bytes. `container_limit`: bytes for the whole process, 0 for none, None to find out."""
        self._runtime = runtime
        self._rss = rss or Statm().rss
        limit = cgroup_limit() if container_limit is None else container_limit
        self._derived = share_of(limit, runtime.workers) if limit else 0
        self._relieve = relieve
        self._looks = 0
        group = runtime.metrics.group("worker", ("worker", "all"))
        self._memory = group.gauge("memory_rss")
        self._descriptors = group.gauge("descriptors")
        self._timers = group.gauge("timers")
        self._connections = group.gauge("connections")
        self._head_bytes = group.gauge("head_bytes")
        self._steps = {
            NO_KEEP_ALIVE: group.gauge("overload_no_keep_alive"),
            SHED: group.gauge("overload_shed"),
            STOP_ACCEPT: group.gauge("overload_stop_accept"),
        }
        self._rises = group.counter("overload_total")
        runtime.admission.pauses = group.counter("accept_pauses")

    def look(self) -> None:
        """Measures and acts; call it once a second."""
        runtime = self._runtime
        rss = self._rss()
        self._memory.value = rss
        self._descriptors.value = descriptor_count()
        self._timers.value = len(runtime.wheel)
        self._connections.value = runtime.admission.open
        self._head_bytes.value = runtime.runtime.overload.head_bytes
        runtime.admission.check()
        self._climb(rss)

    def _climb(self, rss: int) -> None:
        state = self._runtime.runtime.overload
        stage = self._stage(rss, int(state.level))
        self._looks += 1
        if stage > state.level or (stage > NORMAL and self._looks % GIVE_BACK_EVERY == 0):
            self._relieve()
            rss = self._rss()
            stage = self._stage(rss, int(state.level))
        if stage == state.level:
            return
        self._tell(rss, stage, stage > state.level)
        state.level = stage
        for step, gauge in self._steps.items():
            gauge.value = int(stage >= step)
        self._runtime.admission.set_memory(stage < STOP_ACCEPT)

    def _stage(self, rss: int, before: int) -> int:
        limit = self.limit
        if limit <= 0:
            return int(NORMAL)
        share = rss / limit
        return max(self._step(share), min(before, self._step(share + MARGIN)))

    @property
    def limit(self) -> int:
        """Bytes that this worker may use; 0 for no limit."""
        configured = self._runtime.overload.memory_limit
        return self._derived if configured == 0 else max(0, configured)

    def _step(self, share: float) -> int:
        overload = self._runtime.overload
        steps = ((STOP_ACCEPT, overload.stop_accept), (SHED, overload.shed), (NO_KEEP_ALIVE, overload.stop_keep_alive))
        return int(next((step for step, threshold in steps if share >= threshold), NORMAL))

    def _tell(self, rss: int, stage: int, rises: bool) -> None:
        if rises:
            self._rises.value += 1
        text = f"memory {rss >> 20} MiB of {self.limit >> 20} MiB: {MEANING[stage]}"
        self._runtime.log.write(WARN if rises else INFO, text, "mosn.proxy.overload")
