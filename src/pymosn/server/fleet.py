"""The workers of one process as a unit: started together, given commands together, replaced when they die.

**States of a worker.** Each worker id is filled by one process after the other:

    empty  --start-->  starting  --Built, Serve, Ready-->  running  --drain-->  draining  --exit-->  empty
                           |                                  |
                           +-------------- exit --------------+--->  empty, and soon started again

*starting*: has its sockets and its configuration, but accepts nothing yet. *draining*: the fleet is shutting down. Until all
workers have been ready once, the first exit or `Failed` report is a failed start (`start_failure`): the supervisor gives up.
At the first start `Serve` is sent when all workers have built the configuration: nothing listens before, and if one cannot
build it, nothing ever does.

**Commands.** A new worker first gets its initial commands (sockets, `Configure`, known health), and with `Serve` the log
commands sent so far, which are not part of the configuration. `send` reaches every live worker, whatever its state. Reports
carry no worker id, because the channel identifies it; a report or exit of a process that has been replaced is ignored.

**Changes** (`changes.py`). New code of filters runs in one worker first; if that dies, the change is rejected. The death of
any other worker prevents no change, because the change may be the remedy for it. A worker that dies between `prepare` and
`activate` or `abandon` is restarted only afterwards (`_held`), because until then it is undecided which configuration it
should get. A worker that does not confirm `Activate` in time is killed: workers must never run different configurations.

**Replacement.** A worker that dies is restarted immediately the first time; if it keeps dying soon after its start, with
growing delays (`RestartPolicy`). Workers that hang, do not become ready in time or serve nothing (`probes.py`) are killed
and then replaced like dead ones. What connects meanwhile is served by the others (`guardian.py`). The metrics of dead
workers, and of generations before this one, are kept in `totals`, so that counters never decrease. Nothing is restarted
after `drain` or `stop` was called.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from pymosn.api.tracing import TraceRecord
from pymosn.config.diagnostics import Diagnostic
from pymosn.config.dump import Marks
from pymosn.control.plane import WorkerInfo
from pymosn.core.clock import Clock
from pymosn.core.counters import GroupData, Metrics
from pymosn.core.log import ERROR, INFO, WARN, Log
from pymosn.filters.secret_fields import NO_PATHS, Paths
from pymosn.observe.totals import sum_of
from pymosn.server import messages
from pymosn.server.ejections import KnownEjections
from pymosn.server.filter_faults import KnownFaults
from pymosn.server.handshakes import Handshakes
from pymosn.server.hangs import Hangs
from pymosn.server.messages import Command, CommandsFor, LogCommand
from pymosn.server.restart_policy import RestartPolicy
from pymosn.server.taps import FleetTaps
from pymosn.server.upgrade.totals import GenerationTotals
from pymosn.server.worker_answers import crashes, errors_of, sum_of_allocations
from pymosn.server.worker_process import WorkerHandle, WorkerReceiver, describe_exit

#: Seconds to wait for the workers' metrics; the last known ones are used for a worker that does not answer.
STATS_TIME: Final = 1.0
#: Commands that are sent to a worker before the event loop does something else: a configuration has thousands of parts.
SLICE: Final = 200
#: Answers for profiles that are kept.
MOST_RECORDED: Final = 50

#: An answer that carries the ticket of its question.
Answer = TypeVar("Answer", messages.Allocations, messages.Exchanges)
Spawn = Callable[[int, WorkerReceiver], WorkerHandle]
CallLater = Callable[..., object]


class Fleet(WorkerReceiver):
    """Workers with the ids 1 to `size`. `spawn` starts a process, with OSError if it cannot."""

    def __init__(
        self, size: int, spawn: Spawn, initial_commands: CommandsFor, call_later: CallLater, clock: Clock, log: Log
    ) -> None:
        self.size = size
        self.faults: list[Diagnostic] = []
        #: Why the first start failed, in addition to `faults`; empty if it did not.
        self.start_failure = ""
        self.drain_groups = 0
        #: Called with the id of a worker whose process has ended.
        self.on_gone: Callable[[int], None] = lambda worker_id: None
        #: Called with finished traces of a worker.
        self.on_traces: Callable[[list[TraceRecord]], None] = lambda traces: None
        #: The last block of the event loop caused by each filter, by name; empty name: not caused by a filter.
        self.blocks: dict[str, messages.Blocked] = {}
        self.filter_faults = KnownFaults()
        self.handshakes = Handshakes()
        #: Answers for profiles, by ticket.
        self.recorded: dict[int, messages.Recorded] = {}
        self.taps = FleetTaps(self.send, lambda: len(self._ready()))
        #: Why workers that start now have other code than this process; empty if they have not.
        self.code_fault: Callable[[], str] = str
        #: The secret fields of all filters so far, for `dump`.
        self.marks: dict[str, Paths] = {}
        self._policies = {worker_id: RestartPolicy() for worker_id in range(1, size + 1)}
        #: The live workers by id.
        self._workers: dict[int, WorkerHandle] = {}
        #: Workers that died during a change; restarted after it.
        self._held: set[int] = set()
        self._spawn = spawn
        self._initial_commands = initial_commands
        self._call_later = call_later
        self._clock = clock
        self._log = log
        #: The hosts that workers have ejected.
        self.ejections = KnownEjections(size, clock, self._send_to)
        self._started = False
        self._ending = False
        #: Whether a worker could not stop its filters.
        self.stop_failed = False
        self._changing = False
        #: The metrics of all workers so far.
        self.totals = GenerationTotals()
        self.totals.follow(lambda: [worker.stats for worker in self._live])
        self._log_commands: dict[tuple[type, str], LogCommand] = {}
        #: What this process counts about its workers.
        self.counts = Metrics()
        group = self.counts.group("worker", ("worker", "all"))
        self._restarts, self._kills = group.counter("restarts"), group.counter("kills")
        self._blocks = group.counter("blocks")
        self._last_ticket = 0
        self._hangs = Hangs(clock)
        self._changed = asyncio.Event()

    @property
    def _live(self) -> list[WorkerHandle]:
        """The live workers in the order of their ids."""
        return [self._workers[worker_id] for worker_id in sorted(self._workers)]

    @property
    def pids(self) -> list[int]:
        """Process ids of the live workers."""
        return [worker.pid for worker in self._live]

    def workers(self) -> list[WorkerInfo]:
        """The live workers, for the admin API."""
        found: list[WorkerInfo] = []
        for worker in self._live:
            state = "starting" if worker.ready_since is None else "draining" if self._ending else "running"
            found.append({"pid": worker.pid, "state": state, "started": worker.started})
        return found

    @property
    def all_ready(self) -> bool:
        """Whether every worker is serving."""
        return len(self._ready()) == self.size

    def _ready(self) -> list[WorkerHandle]:
        return [worker for worker in self._live if worker.ready_since is not None]

    def start(self) -> None:
        """Starts all workers; then wait for `all_ready` or `start_failure`."""
        for worker_id in self._policies:
            if not self.start_failure:
                self._start_worker(worker_id)

    def send(self, command: Command) -> None:
        """Sends a command to all live workers, and log commands to later ones too."""
        if isinstance(command, LogCommand):
            self._log_commands[type(command), command.path] = command
        for worker in self._live:
            worker.send(command)

    def _send_to(self, worker_id: int, command: Command) -> None:
        if worker_id in self._workers:
            self._workers[worker_id].send(command)

    def worker(self, worker_id: int) -> WorkerHandle | None:
        """The live worker with an id."""
        return self._workers.get(worker_id)

    @property
    def log_commands(self) -> list[LogCommand]:
        """What was ordered for logs, and is sent to later workers too."""
        return list(self._log_commands.values())

    async def wait_for(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Waits until `condition` holds, checking it after each event of a worker; False after `timeout` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        return condition()

    async def _wait_for_each(
        self, asked: Sequence[WorkerHandle], answered: Callable[[WorkerHandle], int], number: int, timeout: float
    ) -> bool:
        """Waits until each of the workers `asked` has `answered` the command with a `number`, or has exited."""
        return await self.wait_for(lambda: all(worker.has_exited or answered(worker) >= number for worker in asked), timeout)

    async def stats(self) -> list[GroupData]:
        """The sum of all workers' metrics, including those of workers that have died."""
        self._last_ticket += 1
        self.send(messages.GetStats(self._last_ticket))
        await self._wait_for_each(self._ready(), lambda worker: worker.ticket, self._last_ticket, STATS_TIME)
        # In a thread, because there may be hundreds of thousands of groups. They are replaced, never changed.
        return await asyncio.to_thread(sum_of, self.totals.all())

    async def trace_allocations(self, seconds: float) -> list[tuple[str, int, int]]:
        """Memory that filters allocate within `seconds` and keep, in all workers: `file:line`, bytes, blocks."""
        found = await self.ask(
            lambda ticket: messages.TraceAllocations(ticket, seconds), lambda worker: worker.allocations, seconds
        )
        return sum_of_allocations([answer for _, answer in found])

    async def ask(
        self, question: Callable[[int], Command], answer: Callable[[WorkerHandle], Answer], seconds: float = 0.0
    ) -> list[tuple[int, Answer]]:
        """The answers of the ready workers to a question with a ticket, with their ids; of those that answer in time.

        `answer`: the last one of a worker. `seconds`: how long it takes by itself.
        """
        self._last_ticket += 1
        ticket = self._last_ticket
        asked = self._ready()
        self.send(question(ticket))
        await self._wait_for_each(asked, lambda worker: answer(worker).ticket, ticket, seconds + STATS_TIME)
        return [(worker.worker_id, found) for worker in asked if (found := answer(worker)).ticket == ticket]

    def end_hung(self, limit: float, start_limit: float) -> None:
        """Kills workers that have not responded for `limit` seconds, or not become ready within `start_limit` (0: no limit).

        They are replaced. Call it each HANG_PERIOD.
        """
        for worker, why, where in self._hangs.find(self._live, limit, start_limit if self._started else 0.0, self._ending):
            self._kill(worker, why, where)

    def end_deaf(self, worker_id: int, listener: str) -> None:
        """Kills a worker that does not accept the connections of a listener."""
        worker = self._workers.get(worker_id)
        if worker is not None and worker.ready_since is not None and not self._ending:
            self._kill(worker, f"responds, but listener {listener} accepts no connections")

    def _kill(self, worker: WorkerHandle, why: str, where: str = "") -> None:
        self._kills.value += 1
        # Once is enough: each of these times starts again.
        worker.last_report = worker.began = worker.probe.answered = self._clock.tick()
        self._log.write(ERROR, f"{worker.text()} {why}; killing it{where}", "pymosn.worker.hung")
        worker.kill()

    async def check(self, change: int, commands: Sequence[Command], timeout: float) -> list[Diagnostic]:
        """Makes every worker check a change, which creates nothing and runs no code of filters; returns the errors.

        Must be followed by `prepare` or `abandon`. No worker is replaced in between. The last of `commands` is `Check`.
        """
        self._changing = True
        sent = [(command, ()) for command in commands]
        asked, ready = self._live, self._ready()
        errors = await self._ask(asked, change, lambda worker_id: sent, lambda worker: worker.checked, timeout)
        return errors or crashes(ready)

    async def prepare(self, change: int, commands: CommandsFor, timeout: float, one_first: bool = True) -> list[Diagnostic]:
        """Sends every worker its commands to prepare a checked change, and waits for the results; returns the errors.

        `one_first`: one worker before all others, so that new code that kills or blocks its process does so to one worker
        only. Must be followed by `activate` or `abandon`. No worker is replaced in between.
        """
        ready = self._ready()
        first = ready[:1] if one_first else []
        errors = await self._ask(first, change, commands, lambda worker: worker.prepared, timeout) or crashes(first)
        if errors:
            return errors
        others = [worker for worker in self._live if worker not in first]
        return await self._ask(others, change, commands, lambda worker: worker.prepared, timeout) or crashes(ready)

    async def _ask(
        self,
        asked: Sequence[WorkerHandle],
        change: int,
        commands: CommandsFor,
        answered: Callable[[WorkerHandle], int],
        timeout: float,
    ) -> list[Diagnostic]:
        for worker in asked:
            for i, (command, descriptors) in enumerate(commands(worker.worker_id), 1):
                worker.send(command, descriptors)
                if not i % SLICE:
                    await asyncio.sleep(0)
        await self._wait_for_each(asked, answered, change, timeout)
        return errors_of(asked, answered, change, timeout)

    def abandon(self, change: int) -> None:
        """Makes the workers discard the configuration that they prepared."""
        self.send(messages.Abandon(change))
        self._end_change()

    async def activate(self, change: int, timeout: float) -> None:
        """Activates the configuration that all workers have prepared; kills and replaces workers that do not in time.

        The initial commands of new workers must already be those of the new configuration.
        """
        asked = [worker for worker in self._live if worker.prepared >= change]
        self.send(messages.Activate(change))
        self._end_change()
        await self._wait_for_each(asked, lambda worker: worker.activated, change, timeout)
        for worker in asked:
            if not worker.has_exited and worker.activated < change:
                self._log.write(ERROR, f"{worker.text()} did not apply the new configuration; killing it")
                worker.kill()

    def _end_change(self) -> None:
        self._changing = False
        for worker_id in sorted(self._held):
            self._restart(worker_id)
        self._held.clear()

    async def drain(self, timeout: float) -> bool:
        """Lets the workers finish their connections; False if some were left after `timeout` seconds.

        All workers drain one group before any of them begins the next: a later group may serve requests of an earlier one.
        """
        self._ending = True
        deadline = self._clock.tick() + timeout
        for worker in self._live:
            if worker.ready_since is None:
                worker.kill()  # has accepted nothing yet
        for group in range(self.drain_groups):
            self.send(messages.Drain(group))
            left = max(0.0, deadline - self._clock.tick())
            if not await self._wait_for_each(self._live, lambda worker: worker.drained, group, left):
                return False
        return True

    def replace_no_more(self) -> None:
        """Workers that end are not replaced from now on."""
        self._ending = True

    async def depart(self, command: messages.Depart, descriptors: Sequence[int]) -> bool:
        """Makes the workers leave their sockets to another generation; False if connections were left after its timeout."""
        self._ending = True
        for worker in self._live:
            if worker.ready_since is None:
                worker.kill()
            else:
                worker.send(command, descriptors)
        return await self.wait_for(lambda: all(worker.departing == {} for worker in self._live), command.timeout)

    def departing(self) -> dict[str, int]:
        """Connections by kind that the workers still have after `depart`."""
        found: Counter[str] = Counter()
        for worker in self._live:
            found.update(worker.departing or {})
        return dict(found)

    async def stop(self, timeout: float) -> None:
        """Ends all workers immediately; kills those that have not exited after `timeout` seconds."""
        self._ending = True
        self.send(messages.Stop())
        if not await self.wait_for(lambda: not self._workers, timeout):
            for worker in self._live:
                self._log.write(WARN, f"{worker.text()} does not stop; killing it")
                worker.kill()
            await self.wait_for(lambda: not self._workers, timeout)

    def on_report(self, worker: WorkerHandle, report: messages.Report) -> None:
        if worker.has_exited:
            return
        worker.last_report = self._clock.tick()
        match report:
            case messages.Stats():
                self.totals.note(worker.add_stats(report.groups, report.removed))
                worker.ticket = max(worker.ticket, report.ticket)
            case messages.Traces():
                self.on_traces(report.traces)
            case messages.Ejections():
                self.ejections.note(worker.worker_id, report.ejections)
            case messages.Drained():
                worker.drained = report.group
            case messages.Departing():
                worker.departing = report.connections
            case messages.Failed():
                self._on_failed(worker.worker_id, report.faults)
            case messages.Checked():
                worker.checked = report.change
                worker.errors = report.faults
            case messages.Prepared():
                worker.prepared = report.change
                worker.errors = report.faults
                self._add_marks(report.marks)
            case messages.Activated():
                worker.activated = report.change
                self.drain_groups = report.drain_groups
            case messages.Built():
                worker.is_built = True
                if report.shortage and not self._started:
                    self.start_failure = report.shortage
                self._serve()
            case messages.Ready():
                worker.ready_since = worker.probe.answered = worker.last_report
                self.drain_groups = report.drain_groups
                self._add_marks(report.marks)
                for command in self.taps.commands():
                    worker.send(command)
                if self._started:
                    self._log.write(INFO, f"{worker.text()} is ready")
                self._started = self._started or self.all_ready
            case messages.Blocked():
                self.blocks[report.filter] = report
                self._blocks.value += 1
            case messages.FilterFaults():
                self.filter_faults.add(worker.worker_id, report.faults)
            case messages.HandshakesFailed():
                self.handshakes.add(report.failures)
            case messages.Allocations():
                worker.allocations = report
            case messages.Recorded():
                self.note_recorded(report)
            case messages.Exchanges():
                worker.exchanges = report
            case messages.Tapped():
                self.taps.on_report(report)
        self._changed.set()

    def note_recorded(self, report: messages.Recorded) -> None:
        """Keeps an answer for the profile that waits for it."""
        if len(self.recorded) >= MOST_RECORDED:
            del self.recorded[next(iter(self.recorded))]  # of a profile that was given up
        self.recorded[report.ticket] = report

    def _add_marks(self, marks: Marks) -> None:
        """Fields are never unmarked, because an older version of a filter may still be in use."""
        for name, paths in marks.items():
            self.marks[name] = self.marks.get(name, NO_PATHS) | paths

    def _serve(self) -> None:
        """Makes workers accept connections: the first ones all together."""
        built = [worker for worker in self._live if worker.is_built and worker.ready_since is None]
        if not self._ending and (self._started or len(built) == self.size):
            for worker in built:
                # Not before: access logs exist from the first configuration on.
                for log_command in self._log_commands.values():
                    worker.send(log_command)
                worker.send(messages.Serve())

    def on_exit(self, worker: WorkerHandle, code: int) -> None:
        if worker.has_exited:
            return
        what = f"{worker.text()} {describe_exit(code)}"
        worker.has_exited = True
        del self._workers[worker.worker_id]
        self.on_gone(worker.worker_id)
        self.totals.retire(worker.stats)
        if self._ending:
            self.stop_failed |= code == messages.STOP_FAILED
            if code != 0:
                self._log.write(WARN, what)
        elif self._started:
            self._restarts.value += 1
            served = 0.0 if worker.ready_since is None else self._clock.tick() - worker.ready_since
            self._replace(worker.worker_id, what, self._policies[worker.worker_id].delay(served))
        else:
            self.start_failure = self.start_failure or what
        self._changed.set()

    def _on_failed(self, worker_id: int, faults: list[Diagnostic]) -> None:
        what = f"worker {worker_id} cannot build the configuration"
        if self._started:
            for fault in faults:
                self._log.write(ERROR, f"{what}: {fault.text()}")
            return
        self.start_failure = what
        self.faults += [fault for fault in faults if fault not in self.faults]

    def _replace(self, worker_id: int, what: str, delay: float) -> None:
        if delay > 0.0:
            self._log.write(ERROR, f"{what}; keeps crashing; restarting in {delay:g} s")
            self._call_later(delay, self._restart, worker_id)
            return
        self._restart(worker_id)
        new = self._workers.get(worker_id)
        self._log.write(ERROR, what if new is None else f"{what}; replaced by pid {new.pid}")

    def _restart(self, worker_id: int) -> None:
        if self._ending or worker_id in self._workers:
            return
        if self._changing:
            self._held.add(worker_id)
            return
        fault = self.code_fault()
        if fault:
            self._log.write(ERROR, f"worker {worker_id}: {fault}")
        self._start_worker(worker_id)

    def _start_worker(self, worker_id: int) -> None:
        try:
            worker = self._spawn(worker_id, self)
        except OSError as error:
            what = f"worker {worker_id} cannot be started: {error}"
            if self._started:
                delay = max(1.0, self._policies[worker_id].delay(0.0))
                self._log.write(ERROR, f"{what}; next attempt in {delay:g} s")
                self._call_later(delay, self._restart, worker_id)
            else:
                self.start_failure = self.start_failure or what
            return
        self._workers[worker_id] = worker
        worker.started = self._clock.wall()
        worker.began = self._clock.tick()
        self._send_all(worker, self._initial_commands)

    def _send_all(self, worker: WorkerHandle, commands: CommandsFor) -> None:
        for command, descriptors in commands(worker.worker_id):
            worker.send(command, descriptors)
