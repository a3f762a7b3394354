"""The supervisor: binds, starts the workers, serves the admin API, and ends everything in order."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

import uvloop

from pymosn.config.schema import MosnConfig
from pymosn.control.admin import create_app
from pymosn.control.demo import create_demo
from pymosn.control.discovery import Discovery
from pymosn.control.health import HealthChecks
from pymosn.control.http_server import HttpServer
from pymosn.control.plane import Candidate
from pymosn.core.clock import Clock
from pymosn.core.log import ERROR, INFO, WARN
from pymosn.observe.logs import LogSet
from pymosn.observe.roller import parse_roller
from pymosn.server import plane
from pymosn.server.changes import Changes, ProcessInfo
from pymosn.server.filter_watch import FilterWatch
from pymosn.server.fleet import Fleet
from pymosn.server.listeners import ListenerSockets
from pymosn.server.logs import log_paths, open_logs
from pymosn.server.messages import Command, HostHealth, ReopenLogs
from pymosn.server.pid_file import PidFile
from pymosn.server.rolling import LogRolling
from pymosn.server.run_options import CLEAN, RunOptions, StartError
from pymosn.server.shutdown import ShutdownSignals
from pymosn.server.sizing import available_cpus, raise_open_file_limit, worker_count
from pymosn.server.sockets import BindError, close_all, listen
from pymosn.server.worker_process import WorkerHandle, WorkerProcess, WorkerReceiver
from pymosn.version import VERSION, build

#: Seconds in which all workers must be ready at the first start, before it counts as failed.
START_TIME: Final = 60.0
#: Seconds that workers get for ending at once before they are killed.
STOP_TIME: Final = 3.0
#: Seconds between two looks at whether workers are heard of.
HANG_PERIOD: Final = 1.0
#: Where the demo upstream of the built-in example listens.
DEMO_ADDRESS: Final = ("127.0.0.1", 8080)


class Supervisor:
    """One run of the proxy, from the first socket to the last worker's end. `run` may be called once."""

    def __init__(self, what: RunOptions, loop: asyncio.AbstractEventLoop, on_ready: Callable[[], None]) -> None:
        """`on_ready` is called once all workers serve."""
        self._what = what
        self._on_ready = on_ready
        self._loop = loop
        self._server = what.config.servers[0]
        self._workers = worker_count(what.workers, os.environ.get("GOMAXPROCS"), self._server.processor, available_cpus())
        self._listeners = ListenerSockets()
        self._admin: list[socket.socket] = []
        self._demo: list[socket.socket] = []
        self._wish = ShutdownSignals()
        self._tasks: set[asyncio.Task[object]] = set()
        self._logs = _open_logs(what)
        self._log_paths = log_paths(what.config, what.base_dir)
        self._log = self._logs.process_log
        self._clock = Clock()
        self._fleet = Fleet(self._workers, self._spawn, self._briefing, loop, self._clock, self._log)
        self._discovery = Discovery(self._on_hosts, self._log)
        self._health = HealthChecks(self._on_health, self._clock, self._log)
        site = ProcessInfo(
            name=what.name,
            config_dir=what.config_dir,
            base_dir=what.base_dir,
            workers=self._workers,
            log_ceiling=what.log_ceiling,
        )
        self._changes = Changes(what.config, what.places, site, self._fleet, self._listeners, self._discovery, self._log)
        self._filters = FilterWatch(what.config_dir, self._on_filter_files, self._log)
        policy = parse_roller(self._server.global_log_roller)
        self._rolling = LogRolling(self._log_paths, policy, self._reopen_logs, self._clock, self._log)
        self._plane = plane.SupervisorPlane(self._changes, self._fleet, self._health, self._logs, self._log_paths)

    async def run(self) -> int:
        """Serves until a signal ends it; returns the exit code. StartError when it cannot begin; then nothing is left."""
        self._wish.listen(self._loop)
        self._loop.add_signal_handler(signal.SIGUSR1, self._reopen_logs)
        self._loop.add_signal_handler(signal.SIGHUP, self._reload)
        async with AsyncExitStack() as stack:
            stack.callback(self._logs.close)
            stack.callback(self._close_sockets)
            self._bind()
            stack.callback(self._discovery.close)
            stack.callback(self._health.close)
            stack.callback(self._filters.close)
            self._changes.followers += [self._health.follow, self._follow_logs, self._filters.follow]
            await self._changes.begin()
            stack.push_async_callback(self._stop_fleet)
            if not await self._start_fleet():
                return CLEAN
            self._write_pid(stack)
            await self._serve_http(stack)
            stack.callback(self._loop.create_task(self._rolling.run()).cancel)
            stack.callback(self._loop.create_task(self._end_hung()).cancel)
            self._announce()
            self._on_ready()
            await self._wish.asked.wait()
            self._changes.close()
            await self._drain()
        return CLEAN

    def _bind(self) -> None:
        """Binds everything, so that all taken addresses are reported at once."""
        lines = self._listeners.bind(self._server.listeners, self._workers)
        admin = self._what.config.admin
        endpoint = admin.endpoint() if admin is not None else None
        try:
            if endpoint is not None:
                self._admin = listen("admin", *endpoint, 1)
        except BindError as error:
            lines.append(str(error))
        try:
            if self._what.is_demo:
                self._demo = listen("demo upstream", *DEMO_ADDRESS, 1)
        except BindError as error:
            lines.append(str(error))
        if lines:
            raise StartError(lines=lines)

    async def _start_fleet(self) -> bool:
        """Starts the workers; False when a signal came before they were ready."""
        fleet = self._fleet
        self._plane.stage = plane.STARTING
        self._log.write(INFO, f"pymosn {VERSION} ({build()}) starts {self._workers} workers for {self._what.name}")
        fleet.start()
        await _until(self._wish.asked, fleet.wait_for(lambda: fleet.all_ready or bool(fleet.start_failure), START_TIME))
        if fleet.start_failure:
            faults = [fault.placed(self._what.places, self._what.name) for fault in fleet.faults]
            raise StartError(faults=faults, lines=[] if faults else [fleet.start_failure])
        if self._wish.asked.is_set():
            return False
        if not fleet.all_ready:
            raise StartError(lines=[f"the workers were not ready within {START_TIME:g} s"])
        return True

    def _write_pid(self, stack: AsyncExitStack) -> None:
        if self._what.is_demo:
            return  # whoever only tries it finds nothing new in the current folder
        path = self._what.config.pid or os.path.join(self._what.base_dir, "logs", "mosn.pid")
        try:
            stack.enter_context(PidFile(path))
        except OSError as error:
            self._log.write(WARN, f"no pid file: {path}: {error.strerror}")

    async def _serve_http(self, stack: AsyncExitStack) -> None:
        """Serves the admin API, and the demo upstream if wanted, until the stack unwinds."""
        if self._demo:
            await stack.enter_async_context(HttpServer(create_demo(), self._demo[0]))
        if self._admin:
            await stack.enter_async_context(
                HttpServer(create_app(self._plane, self._log, self._what.stream_filters), self._admin[0])
            )

    def _announce(self) -> None:
        self._plane.stage = plane.RUNNING
        pids = ", ".join(str(pid) for pid in self._fleet.pids)
        self._log.write(INFO, f"ready: {self._workers} workers (pids {pids}) serve")
        for name, address in self._listeners.addresses().items():
            self._log.write(INFO, f"listener {name} on {address}")
        if self._admin:
            host, port = self._admin[0].getsockname()[:2]
            self._log.write(INFO, f"admin API on http://{host}:{port}/")

    async def _end_hung(self) -> None:
        while True:
            self._fleet.end_hung(self._changes.config.servers[0].worker_hang_limit, HANG_PERIOD)
            await asyncio.sleep(HANG_PERIOD)

    async def _drain(self) -> None:
        """Lets what is in flight end, unless asked to stop now."""
        # A socket is open until its last copy is closed: the workers must hold the last one to refuse new connections.
        self._listeners.close()
        if self._wish.now.is_set():
            return
        self._plane.stage = plane.GRACEFUL_STOPPING
        timeout = self._changes.config.servers[0].graceful_timeout
        self._log.write(INFO, f"draining for at most {timeout:g} s")
        if await _until(self._wish.now, self._fleet.drain(timeout)) is False:
            self._log.write(WARN, "connections were left when the graceful timeout passed; they are cut")

    async def _stop_fleet(self) -> None:
        self._plane.stage = plane.STOPPING
        await self._fleet.stop(STOP_TIME)
        self._log.write(INFO, "stopped")

    def _spawn(self, number: int, receiver: WorkerReceiver) -> WorkerHandle:
        return WorkerProcess(self._loop, number, receiver)

    def _briefing(self, number: int) -> list[tuple[Command, Sequence[int]]]:
        health = [(HostHealth(cluster, hosts), ()) for cluster, hosts in self._health.unhealthy().items()]
        return [*self._listeners.handover(number), (self._changes.briefing(number), ()), *health]

    def _reopen_logs(self) -> None:
        self._logs.reopen()
        self._health.reopen_logs()
        self._fleet.order(ReopenLogs())

    def _reload(self) -> None:
        """Reads the configuration file again and puts it in force."""
        reload = self._what.reload
        if reload is None:
            self._log.write(WARN, "SIGHUP: the configuration comes from no file; nothing was changed")
            return

        def edit(before: MosnConfig) -> Candidate:
            loaded = reload()
            return Candidate(loaded.config, loaded.faults, loaded.places)

        self._keep(self._changes.apply("SIGHUP", edit))

    def _on_filter_files(self, names: list[str]) -> None:
        self._keep(self._changes.reload_filters(f"edit of {', '.join(names)}"))

    def _on_hosts(self, cluster: str) -> None:
        self._keep(self._changes.push_hosts(cluster))

    def _on_health(self, cluster: str, address: str, healthy: bool) -> None:
        self._fleet.order(HostHealth(cluster, {address: healthy}))

    def _follow_logs(self, config: MosnConfig) -> None:
        added = [path for path in log_paths(config, self._what.base_dir) if path not in self._log_paths]
        self._log_paths += added
        self._rolling.add(added)

    def _keep(self, work: Coroutine[Any, Any, object]) -> None:
        """Runs `work` in a task; the loop itself holds tasks only weakly."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: "asyncio.Task[object]") -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._log.write(ERROR, f"a change failed: {error!r}")

    def _close_sockets(self) -> None:
        self._listeners.close()
        close_all([*self._admin, *self._demo])


def _open_logs(what: RunOptions) -> LogSet:
    try:
        return open_logs(what.config, what.base_dir, what.log_ceiling)
    except OSError as error:
        raise StartError(lines=[f"the process log cannot be opened: {error}"]) from error


async def _until(event: asyncio.Event, work: Coroutine[Any, Any, bool]) -> bool | None:
    """What `work` gives, or None when the event came first; `work` is cancelled then."""
    tasks = (asyncio.ensure_future(work), asyncio.ensure_future(event.wait()))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks[0].result() if tasks[0].done() else None
    finally:
        for task in tasks:
            task.cancel()


def run(what: RunOptions, on_ready: Callable[[], None]) -> int:
    """Runs the proxy in the foreground; returns the exit code. `on_ready` is called once all workers serve.

    StartError when it cannot begin.
    """
    raise_open_file_limit()
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(Supervisor(what, loop, on_ready).run())
    finally:
        loop.close()
