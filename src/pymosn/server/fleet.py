"""The workers of one process: started together, replaced when they die, ordered and counted as one."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from pymosn.config.diagnostics import Diagnostic, error_at
from pymosn.control.plane import WorkerInfo
from pymosn.core.clock import Clock
from pymosn.core.counters import GroupData
from pymosn.core.log import ERROR, INFO, WARN, Log
from pymosn.observe.totals import Totals
from pymosn.server.messages import (
    Abandon,
    Allocations,
    Blocked,
    Command,
    Commit,
    Committed,
    Drain,
    Drained,
    Failed,
    GetStats,
    LogCommand,
    Prepared,
    Ready,
    Report,
    Stats,
    Stop,
    TraceAllocations,
)
from pymosn.server.restart import RestartPolicy
from pymosn.server.worker_process import WorkerHandle, WorkerReceiver, describe_exit

#: Seconds to wait for the workers' numbers; of one that does not answer, its last ones count.
STATS_TIME: Final = 1.0

Spawn = Callable[[int, WorkerReceiver], WorkerHandle]
Briefing = Callable[[int], Sequence[tuple[Command, Sequence[int]]]]


class Scheduler(Protocol):
    """The part of an event loop that a fleet needs."""

    def call_later(self, delay: float, callback: Callable[..., object], *args: object) -> object:
        """Calls `callback` in `delay` seconds."""


class _Slot:
    """The place of one worker, whoever fills it at the moment."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.worker: WorkerHandle | None = None
        self.ready_since: float | None = None
        self.policy = RestartPolicy()
        self.stats: list[GroupData] = []
        self.ticket = 0
        self.drained = -1
        self.started = 0.0
        self.is_held = False
        self.prepared = 0
        self.committed = 0
        self.objections: list[Diagnostic] = []
        #: When it was last heard of, on the monotonic clock.
        self.heard = 0.0
        self.allocations: Allocations | None = None


class Fleet(WorkerReceiver):
    """Workers 1 to `size`.

    `spawn(number, receiver)` starts a process (OSError when it cannot); `briefing(number)` gives the orders that a new
    worker gets first, with their descriptors.
    """

    def __init__(self, size: int, spawn: Spawn, briefing: Briefing, scheduler: Scheduler, clock: Clock, log: Log) -> None:
        self.faults: list[Diagnostic] = []
        #: Why the first start failed, beside `faults`; empty when it did not.
        self.start_failure = ""
        self.drain_groups = 0
        self._slots = [_Slot(number) for number in range(1, size + 1)]
        self._spawn = spawn
        self._briefing = briefing
        self._scheduler = scheduler
        self._clock = clock
        self._log = log
        self._started = False
        self._ending = False
        # A worker that dies during a change is replaced after it.
        self._changing = False
        self._retired = Totals()
        self._log_orders: dict[tuple[type, str], LogCommand] = {}
        self._last_ticket = 0
        self._looked = 0.0
        #: The last standstill that each filter caused; by its name, empty for those of nobody's filter.
        self.blocks: dict[str, Blocked] = {}
        self._changed = asyncio.Event()

    @property
    def pids(self) -> list[int]:
        """Process ids of the live workers."""
        return [slot.worker.pid for slot in self._slots if slot.worker is not None]

    def workers(self) -> list[WorkerInfo]:
        """The live workers, for the admin API."""
        found: list[WorkerInfo] = []
        for slot in self._slots:
            if slot.worker is not None:
                state = "starting" if slot.ready_since is None else "draining" if self._ending else "running"
                found.append({"pid": slot.worker.pid, "state": state, "started": slot.started})
        return found

    @property
    def all_ready(self) -> bool:
        """Every worker serves."""
        return all(slot.ready_since is not None for slot in self._slots)

    def start(self) -> None:
        """Starts all workers. Wait for `all_ready` or `start_failure`."""
        for slot in self._slots:
            if not self.start_failure:
                self._start_worker(slot)

    def order(self, order: Command) -> None:
        """Gives an order to all live workers. What it says of logs holds for later ones too."""
        if isinstance(order, LogCommand):
            self._log_orders[type(order), order.path] = order
        for slot in self._slots:
            if slot.worker is not None:
                slot.worker.send(order)

    async def wait_for(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Waits until `condition` holds, checked whenever something happens to a worker; False after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return condition()
        return True

    async def stats(self) -> list[GroupData]:
        """The metrics of all workers added up, those of workers that have died included."""
        self._last_ticket += 1
        ticket = self._last_ticket
        self.order(GetStats(ticket))
        await self.wait_for(
            lambda: all(slot.worker is None or slot.ready_since is None or slot.ticket >= ticket for slot in self._slots),
            STATS_TIME,
        )
        return self.last_stats()

    async def trace_allocations(self, seconds: float) -> list[tuple[str, int, int]]:
        """What filters allocate within `seconds` and keep, in all workers: `file:line`, bytes, blocks."""
        self._last_ticket += 1
        ticket = self._last_ticket
        asked = [slot for slot in self._slots if slot.ready_since is not None]
        self.order(TraceAllocations(ticket, seconds))

        def is_answered(slot: _Slot) -> bool:
            return slot.worker is None or (slot.allocations is not None and slot.allocations.ticket == ticket)

        await self.wait_for(lambda: all(is_answered(slot) for slot in asked), seconds + STATS_TIME)
        sums: dict[str, tuple[int, int]] = {}
        for slot in asked:
            if slot.allocations is not None and slot.allocations.ticket == ticket:
                for line, size, count in slot.allocations.lines:
                    before = sums.get(line, (0, 0))
                    sums[line] = (before[0] + size, before[1] + count)
        return sorted(((line, *both) for line, both in sums.items()), key=lambda entry: -entry[1])

    def end_hung(self, limit: float, period: float) -> None:
        """Kills workers that have not been heard of for `limit` seconds; they are replaced. Call it every `period`."""
        now = self._clock.tick()
        is_late = now - self._looked > 2.0 * period  # this process itself stood still: nobody could be heard
        self._looked = now
        for slot in self._slots:
            worker = slot.worker
            if worker is None or slot.ready_since is None or is_late:
                slot.heard = now
            elif now - slot.heard > limit > 0.0:
                slot.heard = now
                where = " < ".join(worker.take_stack()[:8]) or "unknown"
                what = f"worker {slot.number} (pid {worker.pid}) has not been heard of for {limit:g} s"
                self._log.write(ERROR, f"{what} and is killed; it stands at: {where}", "pymosn.worker.hung")
                worker.kill()

    def last_stats(self) -> list[GroupData]:
        """The same from what the workers said last, at most about a second ago."""
        totals = Totals()
        totals.add(self._retired.groups())
        for slot in self._slots:
            totals.add(slot.stats)
        return totals.groups()

    async def prepare(self, change: int, orders: Briefing, timeout: float) -> list[Diagnostic]:
        """Gives every worker the orders that make it prepare a change, and waits; returns what is against it.

        Call `commit` or `abandon` afterwards. Until then nobody is replaced.
        """
        self._changing = True
        asked = {slot: slot.worker for slot in self._slots if slot.worker is not None}
        for slot, worker in asked.items():
            for order, descriptors in orders(slot.number):
                worker.send(order, descriptors)
        await self.wait_for(
            lambda: all(slot.prepared >= change or slot.worker is not asked[slot] for slot in asked), timeout
        )
        faults: list[Diagnostic] = []
        for slot, worker in asked.items():
            if slot.worker is not worker:
                faults.append(_objection(f"worker {slot.number} died when it built the configuration"))
            elif slot.prepared < change:
                faults.append(_objection(f"worker {slot.number} did not answer within {timeout:g} s"))
            else:
                faults += [fault for fault in slot.objections if fault not in faults]
        return faults

    def abandon(self, change: int) -> None:
        """Lets the workers forget what they prepared."""
        self.order(Abandon(change))
        self._end_change()

    async def commit(self, change: int, timeout: float) -> None:
        """Puts in force what all workers have prepared. One that does not answer in time is killed, and then replaced.

        The briefing of new workers must be that of the change already.
        """
        self.order(Commit(change))
        self._end_change()
        asked = {slot: slot.worker for slot in self._slots if slot.worker is not None and slot.prepared >= change}
        await self.wait_for(
            lambda: all(slot.committed >= change or slot.worker is not asked[slot] for slot in asked), timeout
        )
        for slot, worker in asked.items():
            if slot.worker is worker and slot.committed < change:
                self._log.write(ERROR, f"worker {slot.number} (pid {worker.pid}) does not change; killing it")
                worker.kill()

    def _end_change(self) -> None:
        self._changing = False
        for slot in self._slots:
            if slot.worker is None and slot.is_held:
                slot.is_held = False
                self._start_again(slot)

    async def drain(self, timeout: float) -> bool:
        """Lets the workers end their connections; False when some were left after `timeout` seconds. Nobody is replaced.

        All workers drain one group before any of them begins the next: a later group serves what an earlier one still needs.
        """
        self._ending = True
        deadline = self._clock.tick() + timeout
        for slot in self._slots:
            if slot.worker is not None and slot.ready_since is None:
                slot.worker.kill()  # has accepted nothing yet
        for group in range(self.drain_groups):
            self.order(Drain(group))

            def is_drained(group: int = group) -> bool:
                return all(slot.worker is None or slot.drained >= group for slot in self._slots)

            if not await self.wait_for(is_drained, max(0.0, deadline - self._clock.tick())):
                return False
        return True

    async def stop(self, timeout: float) -> None:
        """Ends all workers now; one that does not obey within `timeout` seconds is killed."""
        self._ending = True
        self.order(Stop())
        if not await self.wait_for(lambda: not self.pids, timeout):
            for slot in self._slots:
                if slot.worker is not None:
                    self._log.write(WARN, f"worker {slot.number} (pid {slot.worker.pid}) does not stop; killing it")
                    slot.worker.kill()
            await self.wait_for(lambda: not self.pids, timeout)

    def on_report(self, worker: WorkerHandle, report: Report) -> None:
        slot = self._slots[worker.number - 1]
        if slot.worker is not worker:
            return
        match report:
            case Stats():
                slot.stats = report.groups
                slot.ticket = max(slot.ticket, report.ticket)
            case Drained():
                slot.drained = report.group
            case Failed():
                self._on_failed(slot, report.faults)
            case Prepared():
                slot.prepared = report.change
                slot.objections = report.faults
            case Committed():
                slot.committed = report.change
                self.drain_groups = report.drain_groups
            case Ready():
                slot.ready_since = self._clock.tick()
                self.drain_groups = report.drain_groups
                if self._started:
                    self._log.write(INFO, f"worker {slot.number} (pid {worker.pid}) serves")
                self._started = self._started or self.all_ready
            case Blocked():
                self.blocks[report.filter] = report
            case Allocations():
                slot.allocations = report
        slot.heard = self._clock.tick()
        self._changed.set()

    def on_exit(self, worker: WorkerHandle, code: int) -> None:
        slot = self._slots[worker.number - 1]
        if slot.worker is not worker:
            return
        served = 0.0 if slot.ready_since is None else self._clock.tick() - slot.ready_since
        slot.worker = None
        slot.ready_since = None
        self._retired.add(slot.stats, gauges=False)
        slot.stats = []
        what = f"worker {slot.number} (pid {worker.pid}) {describe_exit(code)}"
        if self._ending:
            if code != 0:
                self._log.write(WARN, what)
        elif self._started:
            self._replace(slot, what, slot.policy.delay(served))
        else:
            self.start_failure = self.start_failure or what
        self._changed.set()

    def _on_failed(self, slot: _Slot, faults: list[Diagnostic]) -> None:
        if self._started:
            for fault in faults:
                self._log.write(ERROR, f"worker {slot.number} cannot build the configuration: {fault.text()}")
            return
        self.start_failure = f"worker {slot.number} cannot build the configuration"
        self.faults += [fault for fault in faults if fault not in self.faults]

    def _replace(self, slot: _Slot, what: str, delay: float) -> None:
        if delay > 0.0:
            self._log.write(ERROR, f"{what}; it keeps dying, next start in {delay:g} s")
            self._scheduler.call_later(delay, self._start_again, slot)
            return
        self._start_again(slot)
        if slot.worker is not None:
            self._log.write(ERROR, f"{what}; replaced by pid {slot.worker.pid}")
        else:
            self._log.write(ERROR, what)

    def _start_again(self, slot: _Slot) -> None:
        if self._ending or slot.worker is not None:
            return
        if self._changing:
            slot.is_held = True
        else:
            self._start_worker(slot)

    def _start_worker(self, slot: _Slot) -> None:
        slot.drained = -1
        slot.prepared = slot.committed = 0
        try:
            worker = self._spawn(slot.number, self)
        except OSError as error:
            self._on_spawn_failed(slot, error)
            return
        slot.worker = worker
        slot.started = self._clock.wall()
        for order, descriptors in self._briefing(slot.number):
            worker.send(order, descriptors)
        for order in self._log_orders.values():
            worker.send(order)

    def _on_spawn_failed(self, slot: _Slot, error: OSError) -> None:
        what = f"worker {slot.number} cannot be started: {error}"
        if self._started:
            delay = max(1.0, slot.policy.delay(0.0))
            self._log.write(ERROR, f"{what}; next try in {delay:g} s")
            self._scheduler.call_later(delay, self._start_again, slot)
        else:
            self.start_failure = self.start_failure or what


def _objection(text: str) -> Diagnostic:
    return error_at("", text)
