"""STRICT_DNS and LOGICAL_DNS (key reference section 8.7): the supervisor resolves the names in clusters' hosts periodically.

Every address becomes a host with the weight, metadata and host name of its configured entry; in a LOGICAL_DNS cluster only
one, because its names stand for a service whose addresses are interchangeable. While a name cannot be
resolved, its last addresses are kept, and the lookups back off. A name that leads to a service of this process, such as the
admin API, gets no host there: whoever answers for the name would open it to the clients.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from msgspec.structs import replace

from pymosn.config.check.addresses import is_ip
from pymosn.config.check.clusters import DNS_TYPES
from pymosn.config.exchanged import Watched
from pymosn.config.schema import Cluster, Host, MosnConfig
from pymosn.control.resolver import Answer, Lookup, LookupOptions, look_up, lookup_options
from pymosn.core.addresses import UNIX, split_address, write_address
from pymosn.core.errors import reason
from pymosn.core.log import INFO, WARN, Log
from pymosn.network.destinations import LOCALHOST

#: Seconds that a start or a change waits for new names; they are resolved in the background afterwards.
FIRST_TIME: Final = 5.0
#: Minimum number of seconds between two lookups of a name.
SHORTEST_RATE: Final = 0.05
#: Seconds that are added to a time to live, as in MOSN: an earlier lookup would get the same, cached answer.
TTL_MARGIN: Final = 1.0
#: Seconds after the first failed lookup of a name that has no addresses yet; doubled by each further failure.
FIRST_PAUSE: Final = 1.0
#: Maximum pause in seconds caused by failures, unless the regular one is longer.
LONGEST_PAUSE: Final = 60.0
#: Seconds for collecting changes of one cluster into one notification, because the workers rebuild it each time.
NOTIFY_PAUSE: Final = 0.1

Sleep = Callable[[float], Awaitable[None]]

#: Cluster name and host name.
Key = tuple[str, str]


class Discovery:
    """Maintains the addresses of all names in DNS clusters. `on_change(cluster)` is called when they have changed."""

    def __init__(
        self,
        on_change: Callable[[str], None],
        log: Log,
        lookup: Lookup = look_up,
        sleep: Sleep = asyncio.sleep,
        notify_pause: float = NOTIFY_PAUSE,
        refuses: Callable[[str, int], bool] = lambda ip, port: False,
    ) -> None:
        """`refuses`: whether the process itself serves that IP address and port."""
        self._on_change = on_change
        self._log = log
        self._lookup = lookup
        self._sleep = sleep
        self._notify_pause = notify_pause
        self._refuses = refuses
        # Addresses that were refused and logged.
        self._refused: set[tuple[Key, str, int]] = set()
        self._found: dict[Key, Answer] = {}
        self._options: dict[Key, LookupOptions] = {}
        # Expanded clusters by name, with what they are made from.
        self._expanded: dict[str, tuple[Cluster, list[Answer | None], Cluster]] = {}
        # The clusters with DNS in the last configuration.
        self._watched: Watched[Cluster] = Watched(_is_dns)
        self._with_dns: list[Cluster] = []
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        # Consecutive failed lookups per name.
        self._failures: dict[Key, int] = {}
        # Clusters with a pending notification.
        self._changed: set[str] = set()

    async def prepare(self, config: MosnConfig) -> None:
        """Resolves the names that are new in a configuration, for at most FIRST_TIME seconds. Never fails."""
        new = {key: options for key, options in _names(self._named(config)).items() if key not in self._found}
        if not new:
            return
        lookups = [asyncio.ensure_future(self._look_up(key, options, False)) for key, options in new.items()]
        _, late = await asyncio.wait(lookups, timeout=FIRST_TIME)
        for task in late:
            task.cancel()

    def _named(self, config: MosnConfig) -> list[Cluster]:
        """The clusters with DNS. It costs what was exchanged."""
        if self._watched.has_changed(config.cluster_manager.clusters):
            self._with_dns = [cluster for cluster in config.cluster_manager.clusters if _is_dns(cluster)]
        return self._with_dns

    def expand(self, config: MosnConfig) -> MosnConfig:
        """A copy of `config` in which the known addresses replace the names in DNS clusters.

        A cluster for which nothing has changed remains the same object.
        """
        manager = config.cluster_manager
        named = self._named(config)
        if not named:
            self._expanded = {}
            return config
        before, self._expanded = self._expanded, {}
        for cluster in named:
            names = [split_address(host.address)[0] for host in cluster.hosts if has_name(host)]
            answers = [self._found.get((cluster.name, name)) for name in names]
            known = before.get(cluster.name)
            is_same = known is not None and known[0] is cluster and known[1] == answers
            self._expanded[cluster.name] = (
                known if known is not None and is_same else (cluster, answers, self._expand(cluster))
            )
        clusters = [
            self._expanded[cluster.name][2] if cluster.type in DNS_TYPES else cluster for cluster in manager.clusters
        ]
        return replace(config, cluster_manager=replace(manager, clusters=clusters))

    def follow(self, config: MosnConfig) -> None:
        """Resolves exactly the names of `config`, which must not be expanded, from now on."""
        wanted = _names(self._named(config))
        for key in [key for key in self._tasks if wanted.get(key) != self._options.get(key)]:
            self._tasks.pop(key).cancel()
        self._found = {key: answer for key, answer in self._found.items() if key in wanted}
        self._failures = {key: count for key, count in self._failures.items() if key in wanted}
        self._options = wanted
        for key, options in wanted.items():
            if key not in self._tasks:
                self._tasks[key] = asyncio.get_running_loop().create_task(self._repeat(key, options))

    def close(self) -> None:
        """Stops all lookups."""
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()

    async def _repeat(self, key: Key, options: LookupOptions) -> None:
        while True:
            await self._sleep(self._pause(key, options))
            await self._look_up(key, options, True)

    def _pause(self, key: Key, options: LookupOptions) -> float:
        """Seconds until the next lookup of a name."""
        regular = max(options.rate, SHORTEST_RATE)
        answer = self._found.get(key)
        if answer is not None and options.respects_ttl and answer.ttl is not None:
            regular = answer.ttl + TTL_MARGIN
        failures = self._failures.get(key, 0)
        if failures == 0:
            return regular
        first = regular if answer is not None else min(regular, FIRST_PAUSE)
        return min(first * 2.0 ** min(failures - 1, 20), max(regular, LONGEST_PAUSE))

    async def _look_up(self, key: Key, options: LookupOptions, notifies: bool) -> None:
        cluster, name = key
        try:
            found = await self._lookup(name, options)
        except (OSError, TimeoutError, ValueError) as error:
            self._fail(key, reason(error) or "no answer in time")
            return
        if not found.addresses:
            self._fail(key, "the answer has no addresses")
            return
        if self._failures.pop(key, 0):
            self._log.write(INFO, f"cluster {cluster}: {name} is resolved again")
        before = self._found.get(key)
        self._found[key] = found
        if notifies and (before is None or before.addresses != found.addresses):
            self._notify(cluster)

    def _fail(self, key: Key, why: str) -> None:
        cluster, name = key
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        if failures == 1:
            kept = "keeping the last addresses" if key in self._found else "it has no hosts yet"
            self._log.write(WARN, f"cluster {cluster}: {name} cannot be resolved ({why}); {kept}")

    def _notify(self, cluster: str) -> None:
        """Reports a change, together with others that happen within NOTIFY_PAUSE."""
        if cluster not in self._changed:
            self._changed.add(cluster)
            asyncio.get_running_loop().call_later(self._notify_pause, self._notify_now, cluster)

    def _notify_now(self, cluster: str) -> None:
        self._changed.discard(cluster)
        self._on_change(cluster)

    def _expand(self, cluster: Cluster) -> Cluster:
        hosts: list[Host] = []
        for host in cluster.hosts:
            if not has_name(host):
                hosts.append(host)
                continue
            name, port = split_address(host.address)
            answer = self._found.get((cluster.name, name))
            addresses = answer.addresses if answer is not None else ()
            for address in addresses[:1] if cluster.type == "LOGICAL_DNS" else addresses:
                if name not in LOCALHOST and self._refuses(address, port):
                    self._note_refused((cluster.name, name), address, port)
                    continue
                written = write_address(address, port)
                hosts.append(replace(host, address=written, hostname=host.hostname or name))
        return replace(cluster, hosts=hosts)

    def _note_refused(self, key: Key, address: str, port: int) -> None:
        if (key, address, port) not in self._refused:
            self._refused.add((key, address, port))
            where = f"{address} port {port}, a service of this process"
            self._log.write(WARN, f"cluster {key[0]}: {key[1]} leads to {where}; not used")


def has_name(host: Host) -> bool:
    """Whether the address of `host` contains a name that can be resolved."""
    return not host.address.startswith(UNIX) and not is_ip(split_address(host.address)[0])


def _names(clusters: Iterable[Cluster]) -> dict[Key, LookupOptions]:
    """Every name to resolve, with its options. `clusters`: those with DNS."""
    found: dict[Key, LookupOptions] = {}
    for cluster in clusters:
        for host in cluster.hosts:
            if has_name(host):
                found[cluster.name, split_address(host.address)[0]] = lookup_options(cluster)
    return found


def _is_dns(cluster: Cluster) -> bool:
    return cluster.type in DNS_TYPES
