import asyncio
import os
import socket
from collections.abc import Callable, Coroutine, Sequence

from tests.kit import FakeClock, Lines

from pymosn.config.diagnostics import Diagnostic
from pymosn.core.counters import GroupData
from pymosn.server.fleet import Fleet
from pymosn.server.messages import (
    Built,
    Command,
    Configure,
    Drain,
    Drained,
    Failed,
    GetStats,
    Probe,
    Ready,
    Serve,
    SetLogLevel,
    Stats,
    Stop,
    SwitchLog,
)
from pymosn.server.probes import ANSWER
from pymosn.server.worker_process import WorkerHandle, WorkerReceiver

CONFIGURE = Configure(b"", "/conf", "/", 1)
REQUESTS: list[GroupData] = [
    {"type": "downstream", "labels": [], "counters": {"n": 3}, "gauges": {"g": 2}, "histograms": {}}
]


class FakeScheduler:
    def __init__(self) -> None:
        self.calls: list[tuple[float, Callable[..., object], tuple[object, ...]]] = []

    def call_later(self, delay: float, callback: Callable[..., object], *args: object) -> None:
        self.calls.append((delay, callback, args))

    def run_next(self) -> float:
        delay, callback, args = self.calls.pop(0)
        callback(*args)
        return delay


class FakeWorker(WorkerHandle):
    def __init__(self, worker_id: int, pid: int, receiver: WorkerReceiver) -> None:
        super().__init__(worker_id, pid)
        self.receiver = receiver
        self.commands: list[Command] = []
        self.is_killed = False
        self.answers = True
        self.fault = ""
        self._probe: socket.socket | None = None

    def take_stack(self) -> list[str]:
        return ["filters.py:7 in on_request"]

    def send(self, command: Command, descriptors: Sequence[int] = ()) -> None:
        if isinstance(command, Probe):
            self._probe = socket.socket(fileno=os.dup(descriptors[0]))
        else:
            self.commands.append(command)

    def live(self) -> None:
        """Sends a report, and answers its probe."""
        if not self.is_killed and self.ready_since is not None:
            self.receiver.on_report(self, Stats(0, []))
        if self._probe is not None:
            with self._probe:
                if self.answers:
                    self._probe.send(ANSWER + self.fault.encode())
            self._probe = None

    def kill(self) -> None:
        self.is_killed = True
        self.exit(-9)

    def ready(self, drain_groups: int = 1) -> None:
        self.receiver.on_report(self, Ready(drain_groups))

    def exit(self, code: int) -> None:
        self.receiver.on_exit(self, code)


class Stage:
    """A fleet over fake processes; pids count from 1001."""

    def __init__(self, size: int = 2) -> None:
        self.clock = FakeClock(100.0)
        self.scheduler = FakeScheduler()
        self.log = Lines()
        self.spawned: list[FakeWorker] = []
        self.spawn_error: OSError | None = None
        self.fleet = Fleet(
            size, self._spawn, lambda worker_id: [(CONFIGURE, ())], self.scheduler.call_later, self.clock, self.log
        )
        self.fleet.start()

    def _spawn(self, worker_id: int, receiver: WorkerReceiver) -> WorkerHandle:
        if self.spawn_error is not None:
            raise self.spawn_error
        worker = FakeWorker(worker_id, 1001 + len(self.spawned), receiver)
        self.spawned.append(worker)
        return worker

    def all_ready(self, drain_groups: int = 1) -> "Stage":
        for worker in self.spawned:
            worker.ready(drain_groups)
        return self


async def settle() -> None:
    """Lets tasks run until they wait for something."""
    for _ in range(5):
        await asyncio.sleep(0)


def run(scenario: Coroutine[object, object, None]) -> None:
    asyncio.run(scenario)


def test_all_are_started_briefed_and_waited_for() -> None:
    stage = Stage(size=3)
    assert [worker.worker_id for worker in stage.spawned] == [1, 2, 3]
    assert all(worker.commands == [CONFIGURE] for worker in stage.spawned)
    stage.spawned[0].ready()
    assert not stage.fleet.all_ready
    stage.all_ready()
    assert stage.fleet.all_ready
    assert stage.fleet.pids == [1001, 1002, 1003]


def test_a_killed_worker_is_replaced_at_once_and_logged() -> None:
    stage = Stage().all_ready()
    stage.spawned[1].exit(-9)
    assert stage.spawned[2].worker_id == 2
    assert stage.spawned[2].commands == [CONFIGURE]
    assert stage.log.lines == ["worker 2 (pid 1002) was killed by SIGKILL; replaced by pid 1003"]
    assert not stage.fleet.all_ready
    stage.spawned[2].ready()
    assert stage.fleet.all_ready
    assert stage.log.lines[-1] == "worker 2 (pid 1003) is ready"


def test_one_that_keeps_dying_at_start_is_started_more_and_more_slowly() -> None:
    stage = Stage(size=1).all_ready()
    stage.spawned[0].exit(1)
    delays = []
    for _ in range(4):
        stage.spawned[-1].exit(1)
        assert stage.fleet.pids == []
        delays.append(stage.scheduler.run_next())
        assert len(stage.fleet.pids) == 1
    assert delays == [0.5, 1.0, 2.0, 4.0]
    assert stage.log.lines[-1] == "worker 1 (pid 1005) exited with 1; keeps crashing; restarting in 4 s"


def test_serving_for_a_while_makes_the_next_replacement_immediate() -> None:
    stage = Stage(size=1).all_ready()
    stage.spawned[-1].exit(1)
    stage.spawned[-1].ready()
    stage.clock.now += 60.0
    stage.spawned[-1].exit(1)
    assert stage.fleet.pids == [1003]
    assert stage.scheduler.calls == []


def test_a_death_during_the_first_start_fails_it_and_replaces_no_worker() -> None:
    stage = Stage()
    stage.spawned[0].ready()
    stage.spawned[1].exit(-11)
    assert stage.fleet.start_failure == "worker 2 (pid 1002) was killed by SIGSEGV"
    assert len(stage.spawned) == 2


def test_faults_of_all_workers_are_kept_once() -> None:
    stage = Stage()
    fault = Diagnostic(severity="error", file="a.json", line=3, column=1, path="servers[0]", message="no such module")
    for worker in stage.spawned:
        worker.receiver.on_report(worker, Failed([fault]))
        worker.exit(1)
    assert stage.fleet.faults == [fault]
    assert stage.fleet.start_failure


def test_a_system_that_refuses_processes_is_asked_again() -> None:
    stage = Stage(size=1).all_ready()
    stage.spawn_error = OSError(11, "Resource temporarily unavailable")
    stage.spawned[0].exit(-9)
    assert stage.fleet.pids == []
    stage.spawn_error = None
    stage.scheduler.run_next()
    assert stage.fleet.pids == [1002]


def test_log_commands_hold_for_later_workers_the_last_one_counts() -> None:
    stage = Stage().all_ready()
    stage.fleet.send(SetLogLevel("mosn.log", "DEBUG"))
    stage.fleet.send(SetLogLevel("mosn.log", "ERROR"))
    stage.fleet.send(SwitchLog("access.log", False))
    stage.spawned[0].exit(-9)
    assert stage.spawned[2].commands == [CONFIGURE]  # its access logs do not exist yet
    stage.fleet.on_report(stage.spawned[2], Built())
    assert stage.spawned[2].commands[1:] == [SetLogLevel("mosn.log", "ERROR"), SwitchLog("access.log", False), Serve()]


def test_stats_are_those_of_the_living_and_the_counters_of_the_dead() -> None:
    async def scenario() -> None:
        stage = Stage().all_ready()
        stage.spawned[0].receiver.on_report(stage.spawned[0], Stats(0, REQUESTS))
        stage.spawned[0].exit(-9)
        asked = asyncio.ensure_future(stage.fleet.stats())
        await settle()
        living = stage.spawned[1]
        assert living.commands[-1] == GetStats(1)
        living.receiver.on_report(living, Stats(1, REQUESTS))
        (group,) = await asked  # the new worker, not ready yet, is not waited for
        assert group["counters"] == {"n": 6}
        assert group["gauges"] == {"g": 2}

    run(scenario())


def test_reports_replace_the_groups_that_they_name_and_drop_removed_ones() -> None:
    async def scenario() -> None:
        stage = Stage(size=1).all_ready()
        worker = stage.spawned[0]

        def group(name: str, number: int) -> GroupData:
            return {"type": "t", "labels": [("l", name)], "counters": {"n": number}, "gauges": {}, "histograms": {}}

        worker.receiver.on_report(worker, Stats(0, [group("a", 1), group("b", 1)]))
        worker.receiver.on_report(worker, Stats(0, [group("b", 5), group("c", 7)]))
        asked = asyncio.ensure_future(stage.fleet.stats())
        await settle()
        worker.receiver.on_report(worker, Stats(1, [], [("t", (("l", "a"),))]))
        assert [found["counters"]["n"] for found in await asked] == [5, 7]

    run(scenario())


def test_all_workers_drain_one_group_before_any_begins_the_next() -> None:
    async def scenario() -> None:
        stage = Stage().all_ready(drain_groups=2)
        one, two = stage.spawned
        drain = asyncio.ensure_future(stage.fleet.drain(30.0))
        await settle()
        one.receiver.on_report(one, Drained(0))
        await settle()
        assert one.commands[-1] == Drain(0)
        two.receiver.on_report(two, Drained(0))
        await settle()
        assert one.commands[-1] == two.commands[-1] == Drain(1)
        two.exit(-9)
        one.receiver.on_report(one, Drained(1))
        assert await drain
        assert len(stage.spawned) == 2  # no worker is replaced during shutdown

    run(scenario())


def test_draining_ends_with_the_time_given() -> None:
    async def scenario() -> None:
        stage = Stage().all_ready()
        assert not await stage.fleet.drain(0.0)

    run(scenario())


def test_a_worker_that_does_not_stop_is_killed() -> None:
    async def scenario() -> None:
        stage = Stage().all_ready()
        stop = asyncio.ensure_future(stage.fleet.stop(0.0))
        assert stage.spawned[0].commands[-1] != Stop()
        await stop
        assert all(worker.commands[-1] == Stop() and worker.is_killed for worker in stage.spawned)
        assert stage.fleet.pids == []

    run(scenario())


def test_nothing_is_served_before_all_workers_have_built_the_configuration() -> None:
    stage = Stage(size=2)
    one, two = stage.spawned
    one.receiver.on_report(one, Built())
    assert Serve() not in one.commands
    two.receiver.on_report(two, Built())
    assert one.commands[-1] == two.commands[-1] == Serve()
    stage.all_ready()
    one.exit(-9)
    new = stage.spawned[2]
    new.receiver.on_report(new, Built())
    assert new.commands[-1] == Serve()  # a replacement waits for nobody
    assert two.commands.count(Serve()) == 1


def test_a_start_that_fails_and_one_that_is_stopped_serve_nothing() -> None:
    stage = Stage(size=2)
    one, two = stage.spawned
    one.receiver.on_report(one, Built())
    two.receiver.on_report(two, Failed([]))
    two.exit(1)
    assert Serve() not in one.commands

    async def scenario() -> None:
        stopped = Stage(size=1)
        stop = asyncio.ensure_future(stopped.fleet.stop(0.0))
        await settle()
        (worker,) = stopped.spawned
        worker.receiver.on_report(worker, Built())
        await stop
        assert Serve() not in worker.commands

    run(scenario())


def watch(stage: Stage, seconds: int, limit: float = 5.0, start_limit: float = 20.0) -> None:
    """Checks for hung workers for that time, in which every worker that lives reports and answers its probes."""
    for _ in range(seconds):
        stage.clock.now += 1.0
        for worker in stage.spawned:
            worker.live()
        stage.fleet.end_hung(limit, start_limit)


def test_workers_that_report_and_answer_are_left_alone() -> None:
    stage = Stage().all_ready()
    watch(stage, 60)
    assert not any(worker.is_killed for worker in stage.spawned)


def test_a_replacement_that_is_not_ready_in_time_is_killed_and_replaced() -> None:
    stage = Stage().all_ready()
    stage.spawned[0].exit(-9)
    watch(stage, 20)
    assert not stage.spawned[2].is_killed
    watch(stage, 1)
    assert stage.spawned[2].is_killed
    text = "worker 1 (pid 1003) was not ready within 20 s; killing it, last at: filters.py:7 in on_request"
    assert text in stage.log.lines
    stage.scheduler.run_next()
    assert stage.spawned[3].worker_id == 1


def test_without_a_start_limit_a_replacement_has_all_the_time() -> None:
    stage = Stage().all_ready()
    stage.spawned[0].exit(-9)
    watch(stage, 1000, start_limit=0.0)
    assert not stage.spawned[2].is_killed


def test_a_worker_that_reports_but_answers_no_probe_is_killed() -> None:
    stage = Stage().all_ready()
    stage.spawned[0].answers = False
    watch(stage, 5)
    assert not stage.spawned[0].is_killed
    watch(stage, 2)
    assert stage.spawned[0].is_killed
    assert not stage.spawned[1].is_killed
    text = "worker 1 (pid 1001) responds, but for 5 s new connections are not served; killing it"
    assert stage.log.lines[0] == text


def test_a_worker_that_finds_its_own_fault_is_killed_with_it() -> None:
    stage = Stage().all_ready()
    stage.spawned[0].fault = "listener web: its socket was closed"
    watch(stage, 8)
    text = "worker 1 (pid 1001) responds, but for 5 s listener web: its socket was closed; killing it"
    assert stage.log.lines[0] == text
    assert stage.spawned[0].is_killed


def test_a_worker_that_the_guardian_calls_deaf_is_killed_once_it_is_ready() -> None:
    stage = Stage().all_ready()
    gone: list[int] = []
    stage.fleet.on_gone = gone.append
    stage.fleet.end_deaf(2, "web")
    assert gone == [2]
    assert stage.log.lines[0] == "worker 2 (pid 1002) responds, but listener web accepts no connections; killing it"
    stage.fleet.end_deaf(2, "web")  # its replacement is starting
    stage.fleet.end_deaf(3, "web")
    assert len(stage.spawned) == 3
