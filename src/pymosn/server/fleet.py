"""The workers of one process as a unit: started together, given commands together, replaced when they die.

**States of a worker.** A slot belongs to one worker id and outlives the processes that fill it:

    empty  --start-->  starting  --Ready-->  running  --drain-->  draining  --exit-->  empty
                           |                    |
                           +------- exit -------+--->  empty, and soon started again

*starting*: the process runs, has its sockets and its configuration, but accepts nothing yet. *running*: it has reported
`Ready`. *draining*: the fleet is shutting down. Until all workers have been ready once, the first exit or `Failed` report is
a failed start (`start_failure`): nothing is restarted, and the supervisor gives up.

**Who gets which commands.** A new worker first gets its initial commands: sockets, `Configure`, known health. Then it gets
the log commands sent to the fleet so far, because they are not part of the configuration. `send` reaches every live worker,
whatever its state. Reports carry no id of their own: the channel that they arrive on identifies the worker, and a report or
exit of a process that no longer fills its slot is ignored.

**Changes** (see `changes.py`): `prepare` sends each worker its commands and waits for `Prepared`, a death or the timeout;
`activate` or `abandon` follows. A worker that dies in between is restarted only afterwards (`is_held`), because until then
it is undecided which configuration it should get. A worker that does not confirm `Activate` in time is killed: workers must
never run different configurations.

**Replacement.** A worker that dies is restarted immediately the first time; if it keeps dying soon after its start, with
growing delays (`restart.py`). Hung workers are killed (`end_hung`) and then replaced like dead ones. The metrics of dead
workers are kept in `_retired`, so that counters never decrease.

**Shutdown.** `drain` sends `Drain` for one group of listeners after the other; `stop` ends all processes. Nothing is
restarted from then on.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from pymosn.config.diagnostics import Diagnostic
from pymosn.control.plane import WorkerInfo
from pymosn.core.clock import Clock
from pymosn.core.counters import GroupData
from pymosn.core.log import ERROR, INFO, WARN, Log
from pymosn.observe.totals import Totals
from pymosn.server.background import Scheduler
from pymosn.server.messages import (
    Abandon,
    Activate,
    Activated,
    Allocations,
    Blocked,
    Command,
    CommandsFor,
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

#: Seconds to wait for the workers' metrics; the last known ones are used for a worker that does not answer.
STATS_TIME: Final = 1.0

Spawn = Callable[[int, WorkerReceiver], WorkerHandle]


class _Slot:
    """The state of one worker id."""

    def __init__(self, worker_id: int) -> None:
        self.worker_id = worker_id
        self.worker: WorkerHandle | None = None
        self.ready_since: float | None = None
        self.policy = RestartPolicy()
        self.stats: list[GroupData] = []
        self.ticket = 0
        self.drained = -1
        self.started = 0.0
        #: Died during a change; restarted after it.
        self.is_held = False
        #: The last changes that the worker has prepared and activated.
        self.prepared = 0
        self.activated = 0
        self.errors: list[Diagnostic] = []
        #: Time of the last report, on the monotonic clock.
        self.last_report = 0.0
        self.allocations: Allocations | None = None

    def text(self) -> str:
        """`worker 1 (pid 4711)`."""
        return f"worker {self.worker_id}" if self.worker is None else f"worker {self.worker_id} (pid {self.worker.pid})"


class Fleet(WorkerReceiver):
    """Workers with the ids 1 to `size`.

    `spawn(worker_id, receiver)` starts a process (OSError if it cannot); `initial_commands(worker_id)` returns the first
    commands of a new worker.
    """

    def __init__(
        self, size: int, spawn: Spawn, initial_commands: CommandsFor, scheduler: Scheduler, clock: Clock, log: Log
    ) -> None:
        self.size = size
        self.faults: list[Diagnostic] = []
        #: Why the first start failed, in addition to `faults`; empty if it did not.
        self.start_failure = ""
        self.drain_groups = 0
        self._slots = [_Slot(worker_id) for worker_id in range(1, size + 1)]
        self._spawn = spawn
        self._initial_commands = initial_commands
        self._scheduler = scheduler
        self._clock = clock
        self._log = log
        self._started = False
        self._ending = False
        self._changing = False
        self._retired = Totals()
        self._log_commands: dict[tuple[type, str], LogCommand] = {}
        self._last_ticket = 0
        self._last_hang_check = 0.0
        #: The last block of the event loop caused by each filter, by name; empty name: not caused by a filter.
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
        """Whether every worker is serving."""
        return all(slot.ready_since is not None for slot in self._slots)

    def start(self) -> None:
        """Starts all workers; then wait for `all_ready` or `start_failure`."""
        for slot in self._slots:
            if not self.start_failure:
                self._start_worker(slot)

    def send(self, command: Command) -> None:
        """Sends a command to all live workers, and log commands to later ones too."""
        if isinstance(command, LogCommand):
            self._log_commands[type(command), command.path] = command
        for slot in self._slots:
            if slot.worker is not None:
                slot.worker.send(command)

    async def wait_for(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Waits until `condition` holds, checking it after each event of a worker; False after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return condition()
        return True

    async def stats(self) -> list[GroupData]:
        """The sum of all workers' metrics, including those of workers that have died."""
        self._last_ticket += 1
        ticket = self._last_ticket
        self.send(GetStats(ticket))
        await self.wait_for(
            lambda: all(slot.worker is None or slot.ready_since is None or slot.ticket >= ticket for slot in self._slots),
            STATS_TIME,
        )
        totals = Totals()
        totals.add(self._retired.groups())
        for slot in self._slots:
            totals.add(slot.stats)
        return totals.groups()

    async def trace_allocations(self, seconds: float) -> list[tuple[str, int, int]]:
        """Memory that filters allocate within `seconds` and keep, in all workers: `file:line`, bytes, blocks."""
        self._last_ticket += 1
        ticket = self._last_ticket
        asked = [slot for slot in self._slots if slot.ready_since is not None]
        self.send(TraceAllocations(ticket, seconds))

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
        """Kills workers that have not responded for `limit` seconds; they are replaced. To be called each `period`."""
        now = self._clock.tick()
        # This process itself was blocked, and could not receive reports.
        is_late = now - self._last_hang_check > 2.0 * period
        self._last_hang_check = now
        for slot in self._slots:
            worker = slot.worker
            if worker is None or slot.ready_since is None or is_late:
                slot.last_report = now
            elif now - slot.last_report > limit > 0.0:
                slot.last_report = now
                where = " < ".join(worker.take_stack()[:8]) or "unknown"
                text = f"{slot.text()} has not responded for {limit:g} s; killing it, blocked at: {where}"
                self._log.write(ERROR, text, "pymosn.worker.hung")
                worker.kill()

    async def prepare(self, change: int, commands: CommandsFor, timeout: float) -> list[Diagnostic]:
        """Sends every worker its commands to prepare a change, and waits for the results; returns the errors.

        Must be followed by `activate` or `abandon`. No worker is replaced in between.
        """
        self._changing = True
        asked = {slot: slot.worker for slot in self._slots if slot.worker is not None}
        for slot, worker in asked.items():
            for command, descriptors in commands(slot.worker_id):
                worker.send(command, descriptors)
        await self.wait_for(
            lambda: all(slot.prepared >= change or slot.worker is not asked[slot] for slot in asked), timeout
        )
        errors: list[Diagnostic] = []
        for slot, worker in asked.items():
            if slot.worker is not worker:
                errors.append(Diagnostic(message=f"worker {slot.worker_id} crashed while building the configuration"))
            elif slot.prepared < change:
                errors.append(Diagnostic(message=f"worker {slot.worker_id} did not answer within {timeout:g} s"))
            else:
                errors += [error for error in slot.errors if error not in errors]
        return errors

    def abandon(self, change: int) -> None:
        """Makes the workers discard the configuration that they prepared."""
        self.send(Abandon(change))
        self._end_change()

    async def activate(self, change: int, timeout: float) -> None:
        """Activates the configuration that all workers have prepared; kills and replaces workers that do not in time.

        The initial commands of new workers must already be those of the new configuration.
        """
        self.send(Activate(change))
        self._end_change()
        asked = {slot: slot.worker for slot in self._slots if slot.worker is not None and slot.prepared >= change}
        await self.wait_for(
            lambda: all(slot.activated >= change or slot.worker is not asked[slot] for slot in asked), timeout
        )
        for slot, worker in asked.items():
            if slot.worker is worker and slot.activated < change:
                self._log.write(ERROR, f"{slot.text()} did not apply the new configuration; killing it")
                worker.kill()

    def _end_change(self) -> None:
        self._changing = False
        for slot in self._slots:
            if slot.worker is None and slot.is_held:
                slot.is_held = False
                self._start_again(slot)

    async def drain(self, timeout: float) -> bool:
        """Lets the workers finish their connections; False if some were left after `timeout` seconds.

        All workers drain one group before any of them begins the next: a later group may serve requests of an earlier one.
        """
        self._ending = True
        deadline = self._clock.tick() + timeout
        for slot in self._slots:
            if slot.worker is not None and slot.ready_since is None:
                slot.worker.kill()  # has accepted nothing yet
        for group in range(self.drain_groups):
            self.send(Drain(group))

            def is_drained(group: int = group) -> bool:
                return all(slot.worker is None or slot.drained >= group for slot in self._slots)

            if not await self.wait_for(is_drained, max(0.0, deadline - self._clock.tick())):
                return False
        return True

    async def stop(self, timeout: float) -> None:
        """Ends all workers immediately; kills those that have not exited after `timeout` seconds."""
        self._ending = True
        self.send(Stop())
        if not await self.wait_for(lambda: not self.pids, timeout):
            for slot in self._slots:
                if slot.worker is not None:
                    self._log.write(WARN, f"{slot.text()} does not stop; killing it")
                    slot.worker.kill()
            await self.wait_for(lambda: not self.pids, timeout)

    def on_report(self, worker: WorkerHandle, report: Report) -> None:
        slot = self._slots[worker.worker_id - 1]
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
                slot.errors = report.faults
            case Activated():
                slot.activated = report.change
                self.drain_groups = report.drain_groups
            case Ready():
                slot.ready_since = self._clock.tick()
                self.drain_groups = report.drain_groups
                if self._started:
                    self._log.write(INFO, f"{slot.text()} is ready")
                self._started = self._started or self.all_ready
            case Blocked():
                self.blocks[report.filter] = report
            case Allocations():
                slot.allocations = report
        slot.last_report = self._clock.tick()
        self._changed.set()

    def on_exit(self, worker: WorkerHandle, code: int) -> None:
        slot = self._slots[worker.worker_id - 1]
        if slot.worker is not worker:
            return
        served = 0.0 if slot.ready_since is None else self._clock.tick() - slot.ready_since
        what = f"{slot.text()} {describe_exit(code)}"
        slot.worker = None
        slot.ready_since = None
        self._retired.add(slot.stats, gauges=False)
        slot.stats = []
        if self._ending:
            if code != 0:
                self._log.write(WARN, what)
        elif self._started:
            self._replace(slot, what, slot.policy.delay(served))
        else:
            self.start_failure = self.start_failure or what
        self._changed.set()

    def _on_failed(self, slot: _Slot, faults: list[Diagnostic]) -> None:
        what = f"worker {slot.worker_id} cannot build the configuration"
        if self._started:
            for fault in faults:
                self._log.write(ERROR, f"{what}: {fault.text()}")
            return
        self.start_failure = what
        self.faults += [fault for fault in faults if fault not in self.faults]

    def _replace(self, slot: _Slot, what: str, delay: float) -> None:
        if delay > 0.0:
            self._log.write(ERROR, f"{what}; keeps crashing; restarting in {delay:g} s")
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
        slot.prepared = slot.activated = 0
        try:
            worker = self._spawn(slot.worker_id, self)
        except OSError as error:
            self._on_spawn_failed(slot, error)
            return
        slot.worker = worker
        slot.started = self._clock.wall()
        for command, descriptors in self._initial_commands(slot.worker_id):
            worker.send(command, descriptors)
        for log_command in self._log_commands.values():
            worker.send(log_command)

    def _on_spawn_failed(self, slot: _Slot, error: OSError) -> None:
        what = f"worker {slot.worker_id} cannot be started: {error}"
        if self._started:
            delay = max(1.0, slot.policy.delay(0.0))
            self._log.write(ERROR, f"{what}; next attempt in {delay:g} s")
            self._scheduler.call_later(delay, self._start_again, slot)
        else:
            self.start_failure = self.start_failure or what
