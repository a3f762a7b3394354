"""The control plane's view of the process, implemented by the supervisor's parts."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, Protocol

from pymosn.api.stream_filter import FAIL
from pymosn.assembly.filters import Entry, all_filters, file_of, filter_name, is_from_file
from pymosn.config.check.clusters import is_original
from pymosn.config.dump import dump
from pymosn.config.feature_gates import AUTO_CONFIG, GATES
from pymosn.config.mosn_form import without_parts
from pymosn.config.schema import Cluster, Host, MosnConfig, StreamFilter
from pymosn.control.certificates import CertificateView, metric_groups
from pymosn.control.envoy.facts import Facts
from pymosn.control.health import HealthChecks
from pymosn.control.origins import Origins, Used
from pymosn.control.plane import (
    START_LOG,
    STARTING,
    AllocationView,
    ChangeResult,
    ClusterView,
    ControlPlane,
    Edit,
    ExchangesView,
    FilterUse,
    FilterView,
    HandshakeView,
    HostView,
    ProfileError,
    UpgradeOptions,
    WorkerInfo,
)
from pymosn.control.tracing.service import TraceExport
from pymosn.control.xds.mosn_counters import no_updates
from pymosn.core.counters import GroupData
from pymosn.filters.settings import Block
from pymosn.observe.families import Fact
from pymosn.observe.logs import LogSet
from pymosn.observe.process_log import level_of
from pymosn.observe.profile import Profile, Stack
from pymosn.observe.stats import percentile
from pymosn.observe.tap_options import TapOptions
from pymosn.observe.totals import sum_of
from pymosn.server.changes import Changes
from pymosn.server.draining import Draining
from pymosn.server.fleet import Fleet
from pymosn.server.messages import GetExchanges, SetLogLevel, SwitchLog
from pymosn.server.metric_facts import ProcessState, facts_of
from pymosn.server.profiler import Profiler
from pymosn.server.upgrade.asking import Upgrades
from pymosn.server.upgrade.request import UpgradeRequest
from pymosn.server.worker_answers import joined_stories
from pymosn.version import VERSION

Labels = frozenset[tuple[str, str]]

#: The metrics of an object that no worker has counted yet.
_NO_GROUP: Final[GroupData] = {"type": "", "labels": [], "counters": {}, "gauges": {}, "histograms": {}}
_HEALTH: Final = {None: "unchecked", True: "healthy", False: "failed_active_check"}


class XdsView(Protocol):
    """What the service of xDS shows."""

    def view(self) -> dict[str, Any]: ...
    def resource(self, name: str) -> list[dict[str, Any]]: ...
    def used(self, kind: str, name: str, chain: int) -> Used: ...
    def facts(self, with_resources: bool) -> Facts: ...
    def metrics(self) -> list[GroupData]: ...


def _use(listener: str, path: str, entry: Entry) -> FilterUse:
    return {
        "listener": listener,
        "path": path,
        "source": file_of(entry) if is_from_file(entry) else "",
        "on_error": entry.on_error if isinstance(entry, StreamFilter) else FAIL,
    }


class SupervisorPlane(ControlPlane):
    """`stage` is the current stage, set by the supervisor."""

    def __init__(
        self,
        changes: Changes,
        fleet: Fleet,
        health: HealthChecks,
        logs: LogSet,
        log_paths: list[str],
        stop: Callable[[bool], None] = lambda now: None,
    ) -> None:
        """`log_paths`: the configured paths of all processes' logs; `logs`: the logs of this process.

        `stop` ends the process: after a drain, or if its argument is true immediately.
        """
        self.stage = STARTING
        #: The process that the outside knows.
        self.main_pid = os.getpid()
        self._changes = changes
        self._health = health
        self._fleet = fleet
        self._logs = logs
        self._log_paths = log_paths
        self._stop = stop
        self._started = time.time()
        # Only kept and shown: what is written before the process log is open goes to standard error, later lines do not.
        self._start_level = "INFO"
        #: Drains listeners while the process runs.
        self.draining: Draining | None = None
        #: The service of xDS, if there is one.
        self.xds_service: XdsView | None = None
        #: What exports traces.
        self.traces: TraceExport | None = None
        self.upgrades: Upgrades | None = None
        self.profiler: Profiler | None = None
        #: Whether changes are written to the file.
        self.writes_back = False

    def state(self) -> int:
        return self.stage

    def pid(self) -> int:
        return self.main_pid

    def version(self) -> str:
        return VERSION

    def config(self) -> dict[str, Any]:
        return self._as_mosn(without_parts(self._changes.config))

    def whole_config(self) -> dict[str, Any]:
        """The active configuration with all its parts, without its secrets."""
        return self.shown(self._changes.config)

    def listeners(self) -> dict[str, Any]:
        return {listener.known_name(): self._as_mosn(listener) for listener in self._changes.config.servers[0].listeners}

    def clusters(self) -> dict[str, Any]:
        return {cluster.name: self._as_mosn(cluster) for cluster in self._changes.config.cluster_manager.clusters}

    def routers(self) -> dict[str, Any]:
        return {name: self._as_mosn(table) for name, table in self._changes.config.servers[0].router_tables().items()}

    def extends(self) -> list[dict[str, Any]]:
        return [self._as_mosn(extend) for extend in self._changes.config.extends]

    def _as_mosn(self, block: Block) -> dict[str, Any]:
        return dump(block, like_mosn=True, marks=self._fleet.marks)

    def shown(self, block: Block) -> dict[str, Any]:
        return dump(block, marks=self._fleet.marks)

    def config_path(self) -> str | None:
        return self._changes.config_path

    async def reload(self, source: str) -> ChangeResult:
        return await self._changes.reload(source)

    def stop(self, now: bool) -> None:
        self._stop(now)

    async def apply(self, source: str, edit: Edit) -> ChangeResult:
        return await self._changes.apply(source, edit)

    async def reload_filters(self, source: str) -> ChangeResult:
        return await self._changes.reload_filters(source)

    def last_change(self) -> ChangeResult:
        return self._changes.last

    def current(self) -> MosnConfig:
        return self._changes.effective

    async def live_clusters(self) -> list[ClusterView]:
        # In a thread, because there may be tens of thousands of hosts.
        return await asyncio.to_thread(self.cluster_views, await self._fleet.stats())

    def cluster_views(self, groups: list[GroupData]) -> list[ClusterView]:
        by_labels = {Labels(group["labels"]): group for group in groups if group["type"] == "upstream"}
        return [self._cluster(cluster, by_labels) for cluster in self._changes.effective.cluster_manager.clusters]

    def _cluster(self, cluster: Cluster, groups: dict[Labels, GroupData]) -> ClusterView:
        hosts = list({host.address: host for host in reversed(cluster.hosts)}.values())[::-1]
        if is_original(cluster):
            # Only the workers know these hosts.
            addresses = [dict(labels).get("host") for labels in groups if ("cluster", cluster.name) in labels]
            hosts = [Host(address=address) for address in sorted(filter(None, addresses))]
        return {
            "name": cluster.name,
            "workers": len(self._fleet.workers()),
            "type": cluster.type or "SIMPLE",
            "lb_type": "LB_ORIGINAL_DST" if is_original(cluster) else cluster.lb_type,
            "hosts": [self._host(cluster.name, host, groups) for host in hosts],
        }

    def _host(self, cluster: str, host: Host, groups: dict[Labels, GroupData]) -> HostView:
        group = groups.get(Labels([("cluster", cluster), ("host", host.address)]), _NO_GROUP)
        gauges = group["gauges"]
        health = _HEALTH[self._health.state(cluster, host.address)]
        ejected = gauges.get("ejected", 0)
        return {
            "address": host.address,
            "hostname": host.hostname,
            "weight": host.weight,
            "health": "ejected" if ejected and health != "failed_active_check" else health,
            "failed_active_check": gauges.get("failed_active_check", 0),
            "ejected": ejected,
            "why": self._why(cluster, host.address, health, ejected),
            "requests_active": gauges.get("request_active", 0),
            "requests_total": group["counters"].get("request_total", 0),
            "connections_active": gauges.get("connection_active", 0),
        }

    def _why(self, cluster: str, address: str, health: str, ejected: int) -> str:
        """Why a host is not used; empty if it is."""
        found = [self._health.why(cluster, address)] if health == "failed_active_check" else []
        if ejected:
            found.append(self._fleet.ejections.text(cluster, address))
        return "; ".join(filter(None, found))

    async def filters(self) -> list[FilterView]:
        groups = {group["labels"][0][1]: group for group in await self._fleet.stats() if group["type"] == "filter"}
        found: dict[str, FilterView] = {}
        for listener in self._changes.config.servers[0].listeners:
            for _, _, entry, path in all_filters(listener, ""):
                name = filter_name(entry)
                if name not in found:
                    found[name] = self._filter(name, entry, groups.get(name, _NO_GROUP))
                view, listener_name = found[name], listener.known_name()
                if listener_name not in view["listeners"]:
                    view["listeners"].append(listener_name)
                view["entries"].append(_use(listener_name, path.lstrip("."), entry))
        return list(found.values())

    def _filter(self, name: str, entry: Entry, group: GroupData) -> FilterView:
        durations = group["histograms"].get("seconds")
        sampled = 0 if durations is None else durations["count"]
        block = self._fleet.blocks.get(name)
        return {
            "name": name,
            "type": entry.type if isinstance(entry, StreamFilter) else "python",
            "listeners": [],
            "calls": group["counters"].get("calls", 0),
            "errors": group["counters"].get("errors", 0),
            "mean_seconds": durations["sum"] / sampled if durations is not None and sampled else None,
            "p99_seconds": percentile(durations, 99) if durations is not None and sampled else None,
            "sampled": sampled,
            "last_error": self._fleet.filter_faults.of(name),
            "last_block": None if block is None else {"seconds": round(block.seconds, 2), "stack": block.stack},
            "counters": dict(group["counters"]),
            "entries": [],
        }

    async def trace_allocations(self, seconds: float) -> list[AllocationView]:
        found = await self._fleet.trace_allocations(seconds)
        return [{"line": line, "bytes": size, "blocks": count} for line, size, count in found]

    async def cpu_profile(self, target: int, seconds: float) -> Profile:
        return await self._profiler().cpu(target, seconds)

    async def heap_profile(self, target: int, seconds: float) -> Profile:
        return await self._profiler().heap(target, seconds)

    async def stacks(self, target: int) -> list[tuple[str, Stack]]:
        return await self._profiler().stacks(target)

    def _profiler(self) -> Profiler:
        if self.profiler is None:
            raise ProfileError(503, "profiles are not available in this process")
        return self.profiler

    async def exchanges(self, limit: int) -> ExchangesView:
        found = await self._fleet.ask(lambda ticket: GetExchanges(ticket, limit), lambda worker: worker.exchanges)
        return joined_stories(found, limit)

    def tap(self, options: TapOptions) -> AsyncIterator[bytes]:
        return self._fleet.taps.open(options)

    async def certificates(self) -> list[CertificateView]:
        found = await asyncio.to_thread(self._changes.certificates)
        now = time.time()
        return [used.view(now) for used in found]

    def xds(self) -> dict[str, Any]:
        return {"mode": "file"} if self.xds_service is None else self.xds_service.view()

    def xds_resource(self, name: str) -> list[dict[str, Any]]:
        return [] if self.xds_service is None else self.xds_service.resource(name)

    def origins(self) -> Origins:
        places, file = self._changes.places, self._changes.config_path or "the built-in example"
        return Origins(places, file) if self.xds_service is None else Origins(places, file, self.xds_service.used)

    def failed_handshakes(self, listener: str) -> list[HandshakeView]:
        return self._fleet.handshakes.of(listener)

    async def stats(self) -> list[GroupData]:
        xds = [no_updates()] if self.xds_service is None else self.xds_service.metrics()
        certificates = metric_groups(await asyncio.to_thread(self._changes.certificates), time.time())
        own = [*self._health.metrics.snapshot(), *certificates, *xds, *self._own_groups()]
        types = {group["type"] for group in own}
        found = await self._fleet.stats()
        # Generations before this one have counted them too.
        inherited = [group for group in found if group["type"] in types]
        others = [group for group in found if group["type"] not in types] if inherited else found
        return [*others, *sum_of([inherited, own])]

    def own_counts(self) -> list[GroupData]:
        """The metrics that this process counts itself."""
        xds = [] if self.xds_service is None else self.xds_service.metrics()
        return [*self._health.metrics.snapshot(), *xds, *self._own_groups()]

    def _own_groups(self) -> list[GroupData]:
        traces = [] if self.traces is None else self.traces.metrics()
        return [*self._fleet.counts.snapshot(), *self._changes.counts.snapshot(), *traces]

    async def metric_facts(self) -> list[Fact]:
        certificates = await asyncio.to_thread(self._changes.certificates)
        known = self._fleet.workers()
        state = ProcessState(
            started=self._started,
            generation=1 if self.upgrades is None else self.upgrades.number,
            workers=[(worker["pid"], worker["state"]) for worker in known],
            configured=self._fleet.size,
            version=self._changes.last.version,
            was_applied=self._changes.last.applied,
            activated=self._changes.activated,
        )
        return await asyncio.to_thread(lambda: facts_of(state, certificates))

    def started(self) -> float:
        return self._started

    def facts(self, with_resources: bool = True) -> Facts:
        return Facts() if self.xds_service is None else self.xds_service.facts(with_resources)

    def is_draining(self) -> bool:
        return self.draining is not None and self.draining.is_active

    def drain_listeners(self, inbound_only: bool, is_graceful: bool, stays: bool) -> None:
        if self.draining is not None:
            self.draining.drain(inbound_only, is_graceful, stays)

    def set_failing(self, is_failing: bool) -> None:
        if self.draining is not None:
            self.draining.set_failing(is_failing)

    def log_levels(self) -> dict[str, str]:
        return {START_LOG: self._start_level, **self._logs.levels()}

    async def set_log_level(self, path: str, level: str) -> None:
        if path == START_LOG:
            level_of(level)
            self._start_level = level
            return
        self._require(path)
        self._logs.set_level(path, level)
        self._fleet.send(SetLogLevel(path, level))

    async def switch_log(self, path: str, enabled: bool) -> None:
        if path == START_LOG:
            return
        self._require(path)
        if path in self._logs.levels():
            self._logs.switch(path, enabled)
        self._fleet.send(SwitchLog(path, enabled))

    def features(self) -> dict[str, bool]:
        # The others have no effect here.
        return {**dict.fromkeys(GATES, False), AUTO_CONFIG: self.writes_back}

    def workers(self) -> list[WorkerInfo]:
        return self._fleet.workers()

    def generations(self) -> dict[str, Any]:
        return {} if self.upgrades is None else self.upgrades.view()

    def upgrade(self, source: str, options: UpgradeOptions) -> AsyncIterator[dict[str, Any]]:
        assert self.upgrades is not None
        keeps = options.keep_config
        request = UpgradeRequest(
            source=source,
            keeps_config=self._changes.config.inherit_old_mosnconfig if keeps is None else keeps,
            seconds=options.timeout,
            command=tuple(options.command),
            workers=options.workers,
        )
        return self.upgrades.run(request)

    def _require(self, path: str) -> None:
        if path not in self._log_paths:
            raise KeyError(f"no log at {path!r}; known logs: {', '.join(map(repr, self._log_paths))}")
