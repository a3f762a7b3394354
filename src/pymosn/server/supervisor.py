"""The supervisor: the parent process, which runs the control plane and one process per worker.

It handles no traffic, but accepts connections that a worker leaves waiting (`guardian.py`). It binds all sockets and keeps
them, so that a worker that is replaced loses no connection in the backlog; it holds the active configuration (`changes.py`)
and the workers (`fleet.py`). Everything else is a service (`control/service.py`) with three operations: start, follow the
active configuration, stop. `_service_list` alone determines the order: they start from top to bottom and stop from bottom to
top, also if one of them fails to start.

A run has these stages: start the services; serve until a signal requests a shutdown (`shutdown.py`); reject further changes;
drain the workers, unless an immediate stop was requested; stop the services. SIGHUP reloads the configuration, SIGUSR1
reopens the logs, SIGUSR2 starts another process that takes over (`upgrade/`).
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace

from pymosn.api.network import join_address
from pymosn.config.schema.top import Admin
from pymosn.control.access import TcpDoor
from pymosn.control.discovery import Discovery
from pymosn.control.expiry import Expiry
from pymosn.control.health import HealthChecks
from pymosn.control.http_server import HttpServer
from pymosn.control.plane import GRACEFUL_STOPPING, RUNNING, STOPPING
from pymosn.control.service import Service
from pymosn.control.tracing.service import TraceExport
from pymosn.control.xds.bootstrap import is_needed
from pymosn.core.clock import Clock
from pymosn.core.errors import describe
from pymosn.core.log import ERROR, INFO, WARN
from pymosn.filters.loading import FILTERS, installed
from pymosn.filters.sources import read_sources
from pymosn.observe.logs import LogSet
from pymosn.observe.roller import parse_roller
from pymosn.server.background import BackgroundTasks
from pymosn.server.changes import Changes
from pymosn.server.draining import Draining
from pymosn.server.extensions import Extensions
from pymosn.server.families import Families
from pymosn.server.file_watch import CertificateWatch
from pymosn.server.filter_files import FilterFiles
from pymosn.server.filter_watch import FilterWatch
from pymosn.server.fleet import Fleet
from pymosn.server.guardian import Guardian
from pymosn.server.http_servers import http_servers
from pymosn.server.installed_code import code_fault
from pymosn.server.logs import log_paths
from pymosn.server.messages import Command, Depart, Guard, HostHealth, Own, ReadDatagrams, Receive, ReopenLogs
from pymosn.server.metrics_sinks import MetricsSinks
from pymosn.server.notify import Notifier
from pymosn.server.pid_file import PidFile, pid_path
from pymosn.server.privileges import Privileges
from pymosn.server.process_sockets import ProcessSockets
from pymosn.server.profiler import Profiler
from pymosn.server.rolling import LogRolling
from pymosn.server.rotation import Rotation
from pymosn.server.run_options import NOT_STARTED, NOT_STOPPED_WELL, RunOptions, plan_workers
from pymosn.server.services import Services
from pymosn.server.shutdown import LATER_SIGNALS, ShutdownSignals
from pymosn.server.supervisor_plane import SupervisorPlane
from pymosn.server.ticket_keys import TicketKeys
from pymosn.server.tls_files import TlsFiles
from pymosn.server.upgrade.asking import Upgrades
from pymosn.server.upgrade.first_resources import FirstResources
from pymosn.server.upgrade.generations import Generations
from pymosn.server.upgrade.inheritance import Inheritance
from pymosn.server.upgrade.kinds import carried_state
from pymosn.server.upgrade.launching import SuccessorProcess
from pymosn.server.upgrade.leaving import FOREGROUND, Leave
from pymosn.server.upgrade.mosn_start import MosnSockets, MosnTakeover
from pymosn.server.upgrade.moving import key_of
from pymosn.server.upgrade.predecessor import Upgrade
from pymosn.server.upgrade.request import UpgradeRequest
from pymosn.server.upgrade.sessions import SESSION_LIMIT
from pymosn.server.upgrade.successor import Succession, Takeover, first_of
from pymosn.server.upgrade.tether import Tether
from pymosn.server.worker_process import WorkerProcess
from pymosn.server.workers import ShutdownRequested, Workers
from pymosn.server.write_back import WriteBack

if TYPE_CHECKING:
    from pymosn.control.xds.service import XdsService


class Supervisor:
    """One run of the proxy, from the first socket to the exit of the last worker. `run` may be called once."""

    def __init__(
        self,
        options: RunOptions,
        privileges: Privileges,
        logs: LogSet,
        loop: asyncio.AbstractEventLoop,
        tether: Tether,
        inheritance: Inheritance | None = None,
    ) -> None:
        """`inheritance`: what the process sends that this one is going to replace."""
        self._options = options
        self._loop = loop
        self._privileges = privileges
        self._logs = logs
        self._log = logs.process_log
        plan = plan_workers(options.workers, options.config)
        workers = plan.number
        if plan.fewer:
            self._log.write(WARN, plan.fewer)
        clock = self._clock = Clock()
        self._tasks = BackgroundTasks(loop, lambda error: self._log.write(ERROR, f"a change failed: {describe(error)}"))
        self._tether = tether
        self._signals = ShutdownSignals(loop, tether)
        tether.stop_now = self._signals.request_stop
        self._notifier = Notifier(tether.notify, os.environ, tether.main_pid, loop.call_later, self._log)
        self._services = Services(self._log)
        given = None if options.mosn is None else MosnSockets(options.mosn)
        self._sockets = ProcessSockets(options, workers, self._log, privileges.account, inheritance, given)
        families = Families()
        families.on_orphan = tether.on_end
        spawn = partial(WorkerProcess, loop, families)
        self._fleet = Fleet(workers, spawn, self._initial_commands, loop.call_later, clock, self._log)
        self._traces = TraceExport(clock, self._log)
        self._fleet.on_traces = self._traces.receive
        self._guardian = Guardian(workers, partial(self._on_deaf, loop), self._log)
        self._fleet.on_gone = self._guardian.on_gone
        self._fleet.code_fault = code_fault
        self._sockets.listeners.on_change = self._guardian.watch
        self._workers = Workers(self._fleet, families, self._signals, options, plan.decided_by, self._log)
        self._health = HealthChecks(self._on_health, clock, self._log, find=lambda text: self._changes.material.pem(text))
        sockets = self._sockets
        discovery = Discovery(
            lambda cluster: self._tasks.begin(self._changes.push_hosts()), self._log, refuses=sockets.is_service
        )
        files = FilterFiles(options.config_dir, privileges.account and privileges.account.uid)
        self._tls_files = TlsFiles(options.config, options.config_dir)
        follow = self._services.follow
        self._changes = Changes(
            options,
            self._fleet,
            sockets.listeners,
            files,
            self._tls_files,
            discovery,
            follow,
            self._log,
            sockets.services,
        )
        self._changes.announced = self._notifier.reload
        self._ticket_keys = TicketKeys(self._fleet.send, clock, self._log)
        self._rotation = Rotation(self._tls_files, self._changes, self._tasks.begin, self._log, loop.call_later)
        policy = parse_roller(options.config.servers[0].global_log_roller)
        self._rolling = LogRolling(options.config, options.base_dir, policy, self._reopen_logs, clock, self._log)
        self._draining = Draining(self._fleet.send, sockets.listeners.close_some, loop.call_later, self._log)
        stop = self._signals.request
        self._plane = SupervisorPlane(self._changes, self._fleet, self._health, self._logs, self._rolling.paths, stop)
        self._plane.draining = self._draining
        self._plane.profiler = Profiler(self._fleet, loop, self._tasks.begin)
        self._plane.traces = self._traces
        self._plane.writes_back = options.writes_back
        self._extensions = Extensions(
            options.config_dir,
            self._plane,
            self._tasks.begin,
            loop.call_later,
            lambda: installed(FILTERS),
            self._fleet.marks,
            self._log,
        )
        self._extensions.active = self._changes
        self._changes.extensions = self._extensions
        self._http_servers: list[HttpServer] = []
        self._sinks = MetricsSinks(self._sockets, self._plane, self._tasks.begin, loop.call_later, self._log)
        self._plane.main_pid = tether.main_pid
        self._pid_file = PidFile(pid_path(options.config, options.base_dir), self._log, tether.main_pid)
        self._carried = carried_state(
            self._changes,
            self._tls_files,
            self._fleet,
            self._ticket_keys,
            self._health,
            self._draining,
            self._logs,
            lambda: log_paths(self._changes.config, options.base_dir),
            self._plane.own_counts,
            self._log,
        )
        self._generations = Generations(inheritance, lambda: self._fleet.size)
        self._takeover: Takeover | None = None
        if inheritance is not None:
            self._takeover = Takeover(inheritance, workers, self._carried, self._signals, loop, self._log)
            self._takeover.on_taken = self._take_over
            self._takeover.listener_keys = self._listener_keys
            self._takeover.on_ended = lambda: self._tasks.begin(self._fleet.totals.end_inherited(self._changes.effective))
        self._generations.takeover = self._takeover
        self._upgrade = self._generations.upgrade = Upgrade(
            partial(SuccessorProcess, loop, families, tether),
            self._changes,
            self._generations.estate,
            self._sockets.held,
            self._carried,
            loop.call_later,
            self._log,
        )
        self._upgrade.refusal = self._upgrade_refusal
        self._upgrade.on_begin = partial(self._notifier.reloading, "Upgrading.")
        self._upgrade.on_failed = self._on_upgrade_failed
        self._upgrade.on_taken = self._on_taken
        self._upgrade.on_successor_gone = lambda code: tether.on_end(tether.successor, code)
        self._plane.upgrades = Upgrades(self._upgrade, self._generations, self._tasks.begin)
        tether.handle(loop, signal.SIGUSR1, self._reopen_logs)
        tether.handle(loop, signal.SIGHUP, self._reload)
        tether.handle(loop, signal.SIGUSR2, partial(self._begin_upgrade, "SIGUSR2"))

    def _service_list(self) -> list[Service]:
        """All services in the order in which they start; they stop in reverse."""
        options = self._options
        self._http_servers, live = http_servers(
            self._plane, self._changes, self._sockets, self._port(), self._profiling_port(), self._log
        )
        xds = self._xds()
        return [
            # First, so that all addresses that are in use are reported together, and nothing has to be undone.
            self._sockets,
            # Certificates and keys, some of which only root can read.
            self._tls_files,
            # Directly after them: everything else runs as the configured user.
            self._privileges,
            # Resolves the names of hosts; before the workers start, because they need addresses.
            self._changes,
            self._health,
            FilterWatch(
                options.config_dir,
                lambda paths: read_sources(paths).digests,
                lambda: self._changes.last_read.digests,
                self._reload_filters,
                self._log,
            ),
            *self._write_back(),
            self._ticket_keys,
            self._draining,
            # Before the workers, because it ends after them: their last traces come when they stop.
            self._traces,
            self._workers,
            CertificateWatch(self._tls_files, lambda: self._changes.material, self._rotation.on_edit, self._log),
            self._rotation,
            Expiry(self._changes.certificates, self._clock, self._log),
            self._guardian,
            # They may change the configuration of running workers, and what serves should have it from the beginning.
            self._extensions,
            *(
                []
                if options.mosn is None
                else [MosnTakeover(options.mosn, self._sockets.listeners, self._taken_from_mosn, self._log)]
            ),
            # Everything before it works; everything after it is visible from outside, and the predecessor's until then.
            *([] if self._takeover is None else self._taking_over(self._takeover, xds)),
            # The file and the admin API announce a process that works; they disappear before the workers stop.
            *([] if options.is_demo else [self._pid_file]),
            *self._http_servers,
            self._sinks,
            live,  # after them, so that its streams end first
            # It changes the configuration of running workers.
            *([] if self._takeover is not None else xds),
            # It needs running workers, to make them reopen their logs.
            self._rolling,
            *([] if self._takeover is None else [Succession(self._takeover)]),
            self._notifier,
        ]

    def _write_back(self) -> list[WriteBack]:
        if not self._options.writes_back:
            return []
        return [WriteBack(self._options, self._changes, lambda: self._fleet.marks, self._tasks.begin, self._log)]

    def _xds(self) -> "list[XdsService]":
        """The service of xDS, if the configuration uses it. Its libraries are imported only then."""
        options = self._options
        if not is_needed(options.config):
            return []
        from pymosn.control.xds.service import XdsService

        service = XdsService(options.config, options.base_dir, self._changes, self._log)
        self._plane.xds_service = service
        return [service]

    def _taking_over(self, takeover: Takeover, xds: "Sequence[XdsService]") -> list[Service]:
        """The services that end with the takeover: after the first resources of xDS, which the predecessor had as well."""
        lost = takeover.inheritance.spare_listeners
        first = [FirstResources(service.missing, lost, takeover.tell, self._log) for service in xds]
        return [*xds, *first, takeover]

    def _port(self) -> TcpDoor:
        """What the clients of the admin port may do."""
        admin = self._options.config.admin or Admin()
        return TcpDoor(admin, self._options.config_dir, lambda: self._sockets.is_admin_local, self._log)

    def _profiling_port(self) -> TcpDoor:
        """What the clients of the port for profiles may do: all on a loopback address, else with the token."""
        admin = replace(self._options.config.admin or Admin(), allow_changes_without_token=True)
        return TcpDoor(admin, self._options.config_dir, lambda: self._sockets.is_pprof_local, self._log)

    async def run(self, on_ready: Callable[[], None]) -> int:
        """Serves until a signal arrives; returns the exit code. StartError if it cannot start.

        `on_ready` is called when all workers are serving. The main process stays as long as another generation serves.
        """
        code = NOT_STARTED
        leave = Leave(self._fleet, self._upgrade, self._takeover, self._signals, self._log)
        with contextlib.closing(self._logs), contextlib.suppress(ShutdownRequested):
            async with self._services.running(self._service_list()):
                self._announce()
                signal.pthread_sigmask(signal.SIG_UNBLOCK, LATER_SIGNALS)
                self._notifier.ready("Serving.")
                on_ready()
                await first_of(self._signals.requested, self._upgrade.taken)
                await self._upgrade.settle("the process is shutting down")
                if self._upgrade.has_left:
                    await self._leave(leave)
                else:
                    await self._services.stop_early((self._extensions.name,))
                    self._changes.reject_all()
                    self._notifier.stopping("Stopping.")
                    if self._takeover is not None:
                        self._takeover.tell_stopping()
                    await self._drain()
                    if self._signals.now.is_set():
                        self._tether.hurry()
                self._plane.stage = STOPPING
                self._fleet.taps.end_all("stopping")
                code = 0
            stop_failed = self._services.stop_failed or self._fleet.stop_failed
            if code == 0 and stop_failed and not (self._signals.now.is_set() or self._upgrade.has_left):
                code = NOT_STOPPED_WELL
            if self._upgrade.has_left:
                await leave.outlast()
                await self._upgrade.send_last()
        self._upgrade.close()
        if self._upgrade.has_left:
            self._options.source.discard()
        return await self._tether.stay() or code

    def _take_over(self) -> None:
        """This process is the one that serves."""
        self._tether.take_over()
        self._sockets.own()
        self._fleet.send(Own(self._sockets.listeners.kept()))
        self._loop.call_later(SESSION_LIMIT, self._read_datagrams)

    def _taken_from_mosn(self) -> None:
        """MOSN has left its sockets to this process."""
        self._sockets.own()
        self._fleet.send(Own(self._sockets.listeners.kept()))

    def _on_taken(self, pid: int) -> None:
        """Another one does. Who reads of it, and asks for something else, must reach that one."""
        for server in self._http_servers:
            server.stop_listening()
        self._sinks.stop_listening()
        self._fleet.taps.end_all("upgrade")
        self._notifier.leave()
        self._tether.on_taken(pid)
        self._signals.pass_on(self._tether.forward)

    def _on_upgrade_failed(self) -> None:
        self._tether.on_failed()
        self._notifier.ready("Serving; an upgrade has failed.")

    def _announce(self) -> None:
        self._plane.stage = RUNNING
        pids = ", ".join(str(pid) for pid in self._fleet.pids)
        self._log.write(INFO, f"ready: {self._fleet.size} workers (pids {pids}) serve")
        for name, address in self._sockets.listeners.addresses().items():
            self._log.write(INFO, f"listener {name} on {address}")
        if self._sockets.admin:
            host, port = self._sockets.admin[0].getsockname()[:2]
            url = f"http://{join_address(host, port)}/"
            self._log.write(INFO, f"admin API on {url}, dashboard on {url}ui/")
            if not self._sockets.is_admin_local:
                self._log.write(WARN, "the admin port is not on a loopback address: all clients that reach it may read")
        if self._sockets.pprof:
            host, port = self._sockets.pprof[0].getsockname()[:2]
            self._log.write(INFO, f"profiles on http://{join_address(host, port)}/debug/pprof/")
        if self._sockets.admin_unix:
            self._log.write(INFO, f"admin API for changes on unix:{self._options.admin_socket}")
            if not self._sockets.admin:
                self._log.write(INFO, "no dashboard, as admin.address is not set; `pymosn top` uses the unix socket")

    async def _drain(self) -> None:
        """Lets requests in flight finish, unless an immediate stop was requested."""
        # A socket is open until its last copy is closed: the workers must hold the last one to refuse new connections.
        self._sockets.listeners.close()
        if not self._signals.now.is_set():
            self._plane.stage = GRACEFUL_STOPPING
            asked, usual = self._options.drain_time, self._changes.config.servers[0].graceful_timeout
            await self._workers.drain(usual if asked is None else asked)

    async def _leave(self, leave: Leave) -> None:
        """Another process has taken over: leaves it all sockets and files, and lets connections finish."""
        if self._takeover is not None:
            self._takeover.outlasts = True
        self._plane.stage = GRACEFUL_STOPPING
        self._fleet.replace_no_more()
        self._pid_file.leave()
        self._sockets.leave()
        ready = self._upgrade.ready
        keys = {} if ready is None else ready.listeners
        depart = Depart(self._changes.config.servers[0].graceful_timeout, keys, self._upgrade.dropped)
        # At the same time, because what the workers accept until then may have to end with them.
        async with asyncio.TaskGroup() as work:
            work.create_task(self._services.stop_early(FOREGROUND))
            await leave.run(depart)

    def _read_datagrams(self) -> None:
        if self._sockets.listeners.end_waiting():
            self._fleet.send(ReadDatagrams())

    def _listener_keys(self) -> dict[str, str]:
        return {listener.known_name(): key_of(listener) for listener in self._changes.config.servers[0].listeners}

    def _upgrade_refusal(self) -> str:
        """Why no upgrade may begin now; empty if one may."""
        if self._signals.requested.is_set():
            return "the process is shutting down"
        if self._plane.stage != RUNNING:
            return "the process has not started completely"
        if self._changes.config.disable_upgrade or self._changes.config.close_graceful:
            return "the key `disable_upgrade` forbids it"
        return ""

    def _begin_upgrade(self, source: str) -> None:
        request = UpgradeRequest(source, keeps_config=self._changes.config.inherit_old_mosnconfig)
        self._tasks.begin(self._upgrade.run(request, lambda text: self._log.write(INFO, f"upgrade from {source}: {text}")))

    def _initial_commands(self, worker_id: int) -> list[tuple[Command, Sequence[int]]]:
        health = [(HostHealth(cluster, hosts), ()) for cluster, hosts in self._health.unhealthy().items()]
        configure = [(command, ()) for command in self._changes.configure(worker_id)]
        guard = (Guard(), self._guardian.descriptors())
        ejections = [(command, ()) for command in self._fleet.ejections.commands(worker_id)]
        tickets, drain = (self._ticket_keys.command(), ()), (self._draining.command(), ())
        queue = [] if self._takeover is None else self._takeover.queues.receiving(worker_id)
        moved: list[tuple[Command, Sequence[int]]] = [(Receive(), queue)] if queue else []
        sockets = self._sockets.listeners.handover(worker_id)
        return [guard, *moved, *sockets, *configure, tickets, drain, *health, *ejections]

    def _on_deaf(self, loop: asyncio.AbstractEventLoop, worker_id: int, listener: str) -> None:
        """Called in the guardian's thread."""
        loop.call_soon_threadsafe(self._fleet.end_deaf, worker_id, listener)

    def _reopen_logs(self) -> None:
        self._logs.reopen()
        self._health.reopen_logs()
        self._traces.reopen_logs()
        self._fleet.send(ReopenLogs())

    def _reload_filters(self, source: str) -> None:
        self._tasks.begin(self._changes.reload_filters(source))

    def _reload(self) -> None:
        if self._changes.config.sighup == "upgrade":
            self._begin_upgrade("SIGHUP")
        elif self._changes.config_path is None:
            self._log.write(WARN, "SIGHUP: not started from a file; nothing to reload")
        else:
            self._tasks.begin(self._changes.reload("SIGHUP"))

    def _on_health(self, cluster: str, hosts: dict[str, bool]) -> None:
        self._fleet.send(HostHealth(cluster, hosts))
