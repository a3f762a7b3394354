"""Active health checks (key reference section 8.4), run by the supervisor once for all workers.

A cluster is checked if its `health_check` is not empty. MOSN also requires a `service_name`; here it only names the
counters, and defaults to the cluster's name. Hosts are initially healthy, unless the generation before this one found
otherwise (`adopt`). A host in several clusters is checked in each.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final

import msgspec

from pymosn.assembly.clusters import tls_match_of
from pymosn.assembly.tls import Resolve, client_settings
from pymosn.config.exchanged import Watched
from pymosn.config.schema import Cluster, Host, MosnConfig
from pymosn.config.schema.cluster import ClusterManager, HealthCheck
from pymosn.config.tls_contexts import cluster_tls
from pymosn.control.probe import DIRECT, Probe, Prober, TlsProbe, UnexpectedAnswer, Way, http_settings
from pymosn.control.service import Service
from pymosn.core.clock import Clock
from pymosn.core.counters import MetricGroup, Metrics
from pymosn.core.errors import reason
from pymosn.core.log import INFO, WARN, Log
from pymosn.network.tls.settings import ClientSettings, TlsSettings
from pymosn.network.tls.upstream import server_name_of
from pymosn.observe.destination import Destination
from pymosn.observe.logs import open_destination
from pymosn.protocol.proxy_protocol.header import local_header

Sleep = Callable[[float], Awaitable[None]]
#: Cluster name and address.
Key = tuple[str, str]

#: Minimum number of seconds between two probes of a host.
SHORTEST_INTERVAL: Final = 0.01
#: Probes at the same time; further ones wait, because each needs a socket and all are due together after a start.
MAX_PROBES: Final = 500
#: Seconds for which changes are collected into one report, and the maximum number of hosts in one.
REPORT_PAUSE: Final = 0.02
MAX_REPORTED: Final = 200
#: Seconds in which a host that the generation before found unhealthy may appear: control planes send hosts late.
ADOPTION_TIME: Final = 300.0

_NO_TLS: Final[Mapping[str, TlsProbe]] = {}


class HostState:
    """The state of one host according to its checks."""

    def __init__(self, is_healthy: bool = True) -> None:
        self.is_healthy = is_healthy
        #: Why the last check failed; empty if it passed.
        self.why = ""
        #: Whether its own checks have ever changed it.
        self.has_changed = False
        # Consecutive results that contradict the state.
        self._streak = 0

    def add(self, passed: bool, check: HealthCheck) -> bool:
        """Adds a result; True if it changes the state."""
        if passed == self.is_healthy:
            self._streak = 0
            return False
        self._streak += 1
        if self._streak < max(1, check.healthy_threshold if passed else check.unhealthy_threshold):
            return False
        self._streak = 0
        self.is_healthy = passed
        self.has_changed = True
        return True


class HealthChecks(Service):
    """Checks the hosts of all clusters that have a health check.

    `on_change(cluster, hosts)` is called soon after the state of hosts has changed: address -> healthy.
    """

    name = "health checks"
    follows_hosts = True

    def __init__(
        self,
        on_change: Callable[[str, dict[str, bool]], None],
        clock: Clock,
        log: Log,
        probe: Probe | None = None,
        sleep: Sleep = asyncio.sleep,
        chance: Callable[[], float] = random.random,
        report_pause: float = REPORT_PAUSE,
        find: Resolve = str.encode,
    ) -> None:
        """`find`: the content that a key of a TLS context means; KeyError if it has not been read."""
        self.metrics = Metrics()
        self._on_change = on_change
        self._clock = clock
        self._log = log
        self._prober = Prober()
        self._probe = probe or self._prober.probe
        self._find = find
        self._sleep = sleep
        self._chance = chance
        # The clusters that are checked, by name; their checks and probes by address; and the name of their counters.
        self._clusters: dict[str, Cluster] = {}
        self._watched: Watched[Cluster] = Watched(lambda cluster: active_check(cluster) is not None)
        # Whether one of them is connected to by TLS.
        self._has_tls = False
        self._checks: dict[str, dict[str, HealthCheck]] = {}
        self._tls: dict[str, dict[str, TlsProbe]] = {}
        self._services: dict[str, str] = {}
        # How connections are opened, by cluster.
        self._ways: dict[str, Way] = {}
        self._states: dict[Key, HostState] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._event_logs: dict[str, Destination | None] = {}
        self._slots = asyncio.Semaphore(MAX_PROBES)
        self._report_pause = report_pause
        # Changes that have not been reported yet.
        self._changed: dict[str, dict[str, bool]] = {}
        self._report: asyncio.TimerHandle | None = None
        # Hosts that the generation before found unhealthy and that have not appeared yet, and until when they may.
        self._adopted: set[Key] = set()
        self._adopted_until = 0.0

    def follow(self, config: MosnConfig) -> None:
        """Checks exactly the hosts of `config` from now on; hosts that remain keep their state.

        Clusters are compared by identity, so that a change costs what it changes. Those with TLS are always prepared again,
        because the files that they name may have changed.
        """
        manager = config.cluster_manager
        if not self._watched.has_changed(manager.clusters) and not self._has_tls and manager.tls_context is None:
            return
        wanted = {cluster.name: cluster for cluster in manager.clusters if active_check(cluster) is not None}
        with_tls = {
            name for name, cluster in wanted.items() if cluster.tls_matches or cluster_tls(cluster, manager) is not None
        }
        self._has_tls = bool(with_tls)
        changed = [name for name in self._clusters if name not in wanted]
        changed += [name for name, cluster in wanted.items() if self._clusters.get(name) is not cluster or name in with_tls]
        if not changed:
            return
        self._prober.forget()
        for name in changed:
            self._replace(name, wanted.get(name), manager)
        services = {self._services[name] for name in changed if name in self._services}
        for name in changed:
            if name in wanted:
                self._services[name] = _service_name(wanted[name])
                services.add(self._services[name])
            else:
                self._services.pop(name, None)
        self._clusters = wanted
        self._count_healthy(services)

    def _replace(self, name: str, cluster: Cluster | None, manager: ClusterManager) -> None:
        """Checks the hosts of a cluster as it is now; None: it has no checks any more."""
        wanted: dict[str, HealthCheck] = {}
        tls: dict[str, TlsProbe] = {}
        self._ways.pop(name, None)
        check = None if cluster is None else active_check(cluster)
        if cluster is not None and check is not None:
            self._ways[name] = _way_to(cluster)
            context = cluster_tls(cluster, manager)
            found = [client_settings(one, self._find) for one in (context, *(m.tls_context for m in cluster.tls_matches))]
            default = ClientSettings(TlsSettings()) if is_https(check) else None
            for host in cluster.hosts:
                if host.skip_health_check:
                    continue
                wanted[host.address] = check
                settings = found[tls_match_of(cluster, host) + 1] or default
                if settings is not None and (not host.tls_disable or is_https(check)):
                    tls[host.address] = _tls_probe(settings, host)
        before = self._checks.get(name, {})
        for address, old in before.items():
            if wanted.get(address) != old:
                self._tasks.pop((name, address)).cancel()
                if address not in wanted and not self._states.pop((name, address)).is_healthy:
                    self._tell(name, address, True)  # unchecked hosts are healthy
        for address, new in wanted.items():
            if before.get(address) != new:
                if (name, address) not in self._states:
                    self._states[name, address] = self._new_state((name, address))
                self._tasks[name, address] = asyncio.get_running_loop().create_task(self._watch((name, address), new))
        for kept, value in ((self._checks, wanted), (self._tls, tls)):
            if value:
                kept[name] = value  # type: ignore[assignment]
            else:
                kept.pop(name, None)

    def _new_state(self, key: Key) -> HostState:
        """The state of a host that was not checked before. Workers get it at once, before they use the host."""
        is_unhealthy = key in self._adopted and self._clock.tick() < self._adopted_until
        self._adopted.discard(key)
        if is_unhealthy:
            self._on_change(key[0], {key[1]: False})
        return HostState(is_healthy=not is_unhealthy)

    def export(self) -> bytes | None:
        """The unhealthy hosts, for the next generation: addresses by cluster. None if nothing is checked."""
        found = {cluster: list(hosts) for cluster, hosts in self.unhealthy().items()}
        return msgspec.msgpack.encode(found) if self._states else None

    def adopt(self, content: bytes) -> None:
        """Begins with the results of the generation before, for all hosts on which the checks here have not decided yet."""
        found = msgspec.msgpack.decode(content, type=dict[str, list[str]])
        self._adopted = {(cluster, address) for cluster, addresses in found.items() for address in addresses}
        self._adopted_until = self._clock.tick() + ADOPTION_TIME
        for key, state in self._states.items():
            is_unhealthy = key in self._adopted
            if state.is_healthy == is_unhealthy and not state.has_changed:
                state.is_healthy = not is_unhealthy
                self._tell(*key, state.is_healthy)
        self._adopted.difference_update(self._states)
        self._count_healthy(set(self._services.values()))

    def unhealthy(self) -> dict[str, dict[str, bool]]:
        """The unhealthy hosts, in the form of `messages.HostHealth`: cluster -> address -> False."""
        found: dict[str, dict[str, bool]] = {}
        for (cluster, address), state in self._states.items():
            if not state.is_healthy:
                found.setdefault(cluster, {})[address] = False
        return found

    def state(self, cluster: str, address: str) -> bool | None:
        """Whether a host is healthy; None if it is not checked."""
        state = self._states.get((cluster, address))
        return None if state is None else state.is_healthy

    def why(self, cluster: str, address: str) -> str:
        """Why the last check of a host failed; empty if it passed, or has not been made here."""
        state = self._states.get((cluster, address))
        return "" if state is None else state.why

    async def stop(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()
        if self._report is not None:
            self._report.cancel()
        for log in filter(None, self._event_logs.values()):
            log.close()
        self._event_logs.clear()

    def reopen_logs(self) -> None:
        """Reopens the event logs after they were renamed."""
        for log in filter(None, self._event_logs.values()):
            log.reopen()

    async def _watch(self, key: Key, check: HealthCheck) -> None:
        await self._sleep(check.initial_delay_seconds)
        while True:
            await self._check(key, check)
            await self._sleep(max(check.interval, SHORTEST_INTERVAL) + self._chance() * check.interval_jitter)

    async def _check(self, key: Key, check: HealthCheck) -> None:
        cluster, address = key
        group = self._group(cluster, check)
        group.counter("attempt").value += 1
        try:
            async with self._slots:
                tls = self._tls.get(cluster, _NO_TLS).get(address)
                passed = await self._probe(address, check, tls, self._ways.get(cluster, DIRECT))
            why = "" if passed else "unexpected response"
        except UnexpectedAnswer as error:
            passed, why = False, reason(error)
        except (OSError, TimeoutError, ValueError) as error:
            passed, why = False, reason(error) or f"no answer within {check.timeout:g} s"
            group.counter("network_failure").value += 1
        group.counter("success" if passed else "failure").value += 1
        if not passed:
            group.counter("active_failure").value += 1
        state = self._states[key]
        state.why = why
        changed = state.add(passed, check)
        self._record(check, address, state.is_healthy, passed, changed)
        if changed:
            level, what = (INFO, "is healthy again") if passed else (WARN, f"fails its health check: {why}")
            self._log.write(level, f"cluster {cluster}: host {address} {what}")
            group.gauge("healty").value += 1 if passed else -1  # MOSN's spelling
            self._tell(cluster, address, passed)

    def _tell(self, cluster: str, address: str, healthy: bool) -> None:
        """Reports a change, together with others: one command for each would keep the workers busy when many hosts fail."""
        if self._report_pause <= 0.0:
            self._on_change(cluster, {address: healthy})
            return
        self._changed.setdefault(cluster, {})[address] = healthy
        if self._report is None:
            self._report = asyncio.get_running_loop().call_later(self._report_pause, self._tell_now)

    def _tell_now(self) -> None:
        self._report = None
        changed, self._changed = self._changed, {}
        for cluster, hosts in changed.items():
            states = list(hosts.items())
            for start in range(0, len(states), MAX_REPORTED):
                self._on_change(cluster, dict(states[start : start + MAX_REPORTED]))

    def _group(self, cluster: str, check: HealthCheck) -> MetricGroup:
        return self._counters(check.service_name or cluster)

    def _counters(self, service: str) -> MetricGroup:
        return self.metrics.group("healthcheck", ("service", service))

    def _count_healthy(self, services: Collection[str]) -> None:
        """Counts the healthy hosts of these counters, which several clusters may share."""
        healthy = dict.fromkeys(services, 0)
        for name, checks in self._checks.items():
            service = self._services[name]
            if service in healthy:
                healthy[service] += sum(self._states[name, address].is_healthy for address in checks)
        for service, count in healthy.items():
            self._counters(service).gauge("healty").value = count  # MOSN's spelling

    def _record(self, check: HealthCheck, address: str, healthy: bool, passed: bool, changed: bool) -> None:
        path = check.event_log_path
        if not path:
            return
        if path not in self._event_logs:
            self._event_logs[path] = self._open(path)
        log = self._event_logs[path]
        if log is not None:
            numbers = f"health_status:{healthy:d},current_result:{passed:d},status_changed:{changed:d}"
            log.write(f"time:{int(self._clock.wall())},host:{address},{numbers}")

    def _open(self, path: str) -> Destination | None:
        try:
            return open_destination(path)
        except (OSError, ValueError) as error:
            self._log.write(WARN, f"health event log {path} cannot be opened: {error}")
            return None


def is_https(check: HealthCheck) -> bool:
    """Whether a check asks by HTTPS, whatever the cluster speaks."""
    settings = http_settings(check)
    return settings is not None and settings.scheme.lower() == "https"


def _way_to(cluster: Cluster) -> Way:
    """How connections to the cluster's hosts are opened."""
    preface = local_header(cluster.proxy_protocol) if cluster.proxy_protocol else b""
    is_strict = cluster.upstream_profile == "strict"
    return Way(preface, cluster.bind_address, cluster.mark, cluster.connect_attempt_delay, is_strict)


def _service_name(cluster: Cluster) -> str:
    """The name of the counters of a cluster's checks."""
    check = active_check(cluster)
    return (check.service_name if check is not None else "") or cluster.name


def _tls_probe(settings: ClientSettings, host: Host) -> TlsProbe:
    return TlsProbe(settings, server_name_of(settings, host.hostname, host.address))


def active_check(cluster: Cluster) -> HealthCheck | None:
    """The cluster's health check; None if it has none or an empty one."""
    check = cluster.health_check
    return check if check is not None and check != HealthCheck() else None
