"""The supervisor: the parent process, which runs the control plane and one process per worker.

It handles no traffic. It binds all sockets and keeps them, so that a worker that is replaced loses no connection in the
backlog; it holds the active configuration (`changes.py`) and the workers (`fleet.py`). Everything else is a service
(`control/service.py`) with three operations: start, follow the active configuration, stop. `_service_list` is the one place
that determines the order: the services are started from top to bottom and stopped from bottom to top. If one fails to start,
the ones before it are stopped and the process ends.

A run has these stages: start the services; serve until a signal requests a shutdown; reject further changes; drain the
workers, unless an immediate stop was requested; stop the services. Signals: SIGTERM, SIGINT and SIGQUIT see `shutdown.py`,
SIGHUP reloads the configuration, SIGUSR1 reopens the logs.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Sequence

import uvloop

from pymosn.config.schema import MosnConfig
from pymosn.control.admin import create_app
from pymosn.control.demo import create_demo
from pymosn.control.discovery import Discovery
from pymosn.control.health import HealthChecks
from pymosn.control.http_server import HttpServer
from pymosn.control.plane import Candidate
from pymosn.control.service import Service
from pymosn.core.clock import Clock
from pymosn.core.log import ERROR, INFO, WARN
from pymosn.filters.loading import FILTERS, installed
from pymosn.observe.logs import LogSet
from pymosn.observe.roller import parse_roller
from pymosn.server import supervisor_plane
from pymosn.server.background import BackgroundTasks
from pymosn.server.changes import Changes, ProcessInfo
from pymosn.server.filter_watch import FilterWatch
from pymosn.server.fleet import Fleet
from pymosn.server.hang_watch import HangWatch
from pymosn.server.logs import open_logs
from pymosn.server.messages import Command, HostHealth, ReopenLogs
from pymosn.server.pid_file import PidFile
from pymosn.server.process_sockets import ProcessSockets
from pymosn.server.rolling import LogRolling
from pymosn.server.run_options import CLEAN, RunOptions, StartError
from pymosn.server.services import Services
from pymosn.server.shutdown import ShutdownSignals
from pymosn.server.sizing import available_cpus, raise_open_file_limit, worker_count
from pymosn.server.worker_process import WorkerHandle, WorkerProcess, WorkerReceiver
from pymosn.server.workers import ShutdownRequested, Workers


class Supervisor:
    """One run of the proxy, from the first socket to the exit of the last worker. `run` may be called once."""

    def __init__(self, options: RunOptions, loop: asyncio.AbstractEventLoop, on_ready: Callable[[], None]) -> None:
        """`on_ready` is called when all workers are serving."""
        self._options = options
        self._on_ready = on_ready
        self._loop = loop
        server = options.config.servers[0]
        self._worker_count = worker_count(options.workers, os.environ.get("GOMAXPROCS"), server.processor, available_cpus())
        self._logs = _open_logs(options)
        self._log = self._logs.process_log
        clock = Clock()
        self._tasks = BackgroundTasks(loop, self._on_task_error)
        self._signals = ShutdownSignals()
        self._services = Services(self._log)
        self._sockets = ProcessSockets(options, self._worker_count)
        self._fleet = Fleet(self._worker_count, self._spawn, self._initial_commands, loop, clock, self._log)
        self._workers = Workers(self._fleet, self._signals, options, self._log)
        self._health = HealthChecks(self._on_health, clock, self._log)
        process = ProcessInfo(
            name=options.source.name,
            config_dir=options.config_dir,
            base_dir=options.base_dir,
            workers=self._worker_count,
            log_ceiling=options.log_ceiling,
        )
        self._changes = Changes(
            options.config,
            options.places,
            process,
            self._fleet,
            self._sockets.listeners,
            Discovery(self._on_hosts, self._log),
            self._services.follow,
            self._log,
        )
        policy = parse_roller(server.global_log_roller)
        self._rolling = LogRolling(options.config, options.base_dir, policy, self._reopen_logs, clock, self._log)
        self._plane = supervisor_plane.SupervisorPlane(
            self._changes, self._fleet, self._health, self._logs, self._rolling.paths
        )

    def _service_list(self) -> list[Service]:
        """All services in the order in which they start; they stop in reverse."""
        options = self._options
        app = create_app(self._plane, self._log, installed(FILTERS))
        return [
            # First, so that all addresses that are in use are reported together, and nothing has to be undone.
            self._sockets,
            # Resolves the names of hosts; before the workers start, because they need addresses.
            self._changes,
            self._health,
            FilterWatch(options.config_dir, self._on_filter_files, self._log),
            self._workers,
            # The file and the admin API announce a process that works; they disappear before the workers stop.
            *([] if options.is_demo else [PidFile(options.pid_path, self._log)]),
            HttpServer(create_demo(), self._sockets.demo, "demo upstream"),
            HttpServer(app, self._sockets.admin, "admin API"),
            # They need running workers: to make them reopen their logs, and to see them respond.
            self._rolling,
            HangWatch(self._fleet),
        ]

    async def run(self) -> int:
        """Serves until a signal arrives; returns the exit code. StartError if it cannot start; then nothing is left."""
        self._signals.listen(self._loop)
        self._loop.add_signal_handler(signal.SIGUSR1, self._reopen_logs)
        self._loop.add_signal_handler(signal.SIGHUP, self._reload)
        self._plane.stage = supervisor_plane.STARTING
        with contextlib.closing(self._logs), contextlib.suppress(ShutdownRequested):
            async with self._services.running(self._service_list()):
                self._announce()
                self._on_ready()
                await self._signals.requested.wait()
                self._changes.reject_all()
                await self._drain()
                self._plane.stage = supervisor_plane.STOPPING
        return CLEAN

    def _announce(self) -> None:
        self._plane.stage = supervisor_plane.RUNNING
        pids = ", ".join(str(pid) for pid in self._fleet.pids)
        self._log.write(INFO, f"ready: {self._worker_count} workers (pids {pids}) serve")
        for name, address in self._sockets.listeners.addresses().items():
            self._log.write(INFO, f"listener {name} on {address}")
        if self._sockets.admin:
            host, port = self._sockets.admin[0].getsockname()[:2]
            self._log.write(INFO, f"admin API on http://{host}:{port}/")

    async def _drain(self) -> None:
        """Lets requests in flight finish, unless an immediate stop was requested."""
        # A socket is open until its last copy is closed: the workers must hold the last one to refuse new connections.
        self._sockets.listeners.close()
        if not self._signals.now.is_set():
            self._plane.stage = supervisor_plane.GRACEFUL_STOPPING
            await self._workers.drain(self._changes.config.servers[0].graceful_timeout)

    def _spawn(self, worker_id: int, receiver: WorkerReceiver) -> WorkerHandle:
        return WorkerProcess(self._loop, worker_id, receiver)

    def _initial_commands(self, worker_id: int) -> list[tuple[Command, Sequence[int]]]:
        health = [(HostHealth(cluster, hosts), ()) for cluster, hosts in self._health.unhealthy().items()]
        return [*self._sockets.listeners.handover(worker_id), (self._changes.configure(worker_id), ()), *health]

    def _reopen_logs(self) -> None:
        self._logs.reopen()
        self._health.reopen_logs()
        self._fleet.send(ReopenLogs())

    def _reload(self) -> None:
        """Reads the configuration again and activates it."""
        source = self._options.source
        if source.path is None:
            self._log.write(WARN, "SIGHUP: not started from a file; nothing to reload")
            return

        def edit(active: MosnConfig) -> Candidate:
            loaded = source.load()
            return Candidate(loaded.config, loaded.faults, loaded.places)

        self._tasks.begin(self._changes.apply("SIGHUP", edit))

    def _on_filter_files(self, names: list[str]) -> None:
        self._tasks.begin(self._changes.reload_filters(f"edit of {', '.join(names)}"))

    def _on_hosts(self, cluster: str) -> None:
        self._tasks.begin(self._changes.push_hosts(cluster))

    def _on_health(self, cluster: str, address: str, healthy: bool) -> None:
        self._fleet.send(HostHealth(cluster, {address: healthy}))

    def _on_task_error(self, error: BaseException) -> None:
        self._log.write(ERROR, f"a change failed: {error!r}")


def _open_logs(options: RunOptions) -> LogSet:
    try:
        return open_logs(options.config, options.base_dir, options.log_ceiling)
    except OSError as error:
        raise StartError(lines=[f"the process log cannot be opened: {error}"]) from error


def run(options: RunOptions, on_ready: Callable[[], None]) -> int:
    """Runs the proxy in the foreground; returns the exit code. `on_ready` is called when all workers are serving.

    StartError if it cannot start.
    """
    raise_open_file_limit()
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(Supervisor(options, loop, on_ready).run())
    finally:
        loop.close()
