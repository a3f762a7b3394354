"""STRICT_DNS (key reference section 8.7): the names in a cluster's hosts are looked up again and again, by the supervisor.

Every address becomes a host, with weight, metadata and host name of the entry that it came from. While a name cannot be
looked up, its last good answer stays.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from msgspec.structs import replace

from pymosn.config.schema import Cluster, Host, MosnConfig
from pymosn.core.addresses import split_address
from pymosn.core.log import WARN, Log

#: Seconds for one look-up, as in MOSN.
LOOKUP_TIME: Final = 20.0
#: Seconds that a start or a change waits for names that were never looked up before; they follow later.
FIRST_TIME: Final = 5.0
#: The shortest time in seconds between two look-ups of a name.
SHORTEST_RATE: Final = 0.05

#: Name and address family to addresses; OSError when there is no answer.
Lookup = Callable[[str, socket.AddressFamily], Awaitable[list[str]]]
Sleep = Callable[[float], Awaitable[None]]

#: Cluster and host name.
Key = tuple[str, str]


async def system_lookup(name: str, family: socket.AddressFamily) -> list[str]:
    """The addresses that this system knows for a name, each once, in a stable order."""
    found = await asyncio.get_running_loop().getaddrinfo(name, None, family=family, type=socket.SOCK_STREAM)
    return sorted({str(entry[4][0]) for entry in found})


class Discovery:
    """Keeps the addresses of all names in STRICT_DNS clusters. `on_change(cluster)` is called when those of one differ."""

    def __init__(
        self, on_change: Callable[[str], None], log: Log, lookup: Lookup = system_lookup, sleep: Sleep = asyncio.sleep
    ) -> None:
        self._on_change = on_change
        self._log = log
        self._lookup = lookup
        self._sleep = sleep
        self._found: dict[Key, list[str]] = {}
        self._settings: dict[Key, tuple[float, str]] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._failing: set[Key] = set()

    async def prepare(self, config: MosnConfig) -> None:
        """Looks up the names that are new in a configuration, for FIRST_TIME seconds at most. Never fails."""
        new = {key: settings for key, settings in _names(config).items() if key not in self._found}
        if not new:
            return
        lookups = [asyncio.ensure_future(self._look_up(key, family, False)) for key, (_, family) in new.items()]
        _, late = await asyncio.wait(lookups, timeout=FIRST_TIME)
        for task in late:
            task.cancel()

    def expand(self, config: MosnConfig) -> MosnConfig:
        """`config` with the addresses found so far in place of the names of STRICT_DNS clusters."""
        manager = config.cluster_manager
        if not any(cluster.type == "STRICT_DNS" for cluster in manager.clusters):
            return config
        clusters = [self._expand(cluster) if cluster.type == "STRICT_DNS" else cluster for cluster in manager.clusters]
        return replace(config, cluster_manager=replace(manager, clusters=clusters))

    def follow(self, config: MosnConfig) -> None:
        """Looks up the names of this configuration, not expanded, from now on, and no others."""
        wanted = _names(config)
        for key in [key for key in self._tasks if wanted.get(key) != self._settings.get(key)]:
            self._tasks.pop(key).cancel()
        for key in [key for key in self._found if key not in wanted]:
            del self._found[key]
        self._settings = wanted
        for key, (rate, family) in wanted.items():
            if key not in self._tasks:
                self._tasks[key] = asyncio.get_running_loop().create_task(self._repeat(key, rate, family))

    def close(self) -> None:
        """Looks nothing up any more."""
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()

    async def _repeat(self, key: Key, rate: float, family: str) -> None:
        while True:
            await self._sleep(max(rate, SHORTEST_RATE) if key in self._found else min(max(rate, SHORTEST_RATE), 1.0))
            await self._look_up(key, family, True)

    async def _look_up(self, key: Key, family: str, tells: bool) -> None:
        cluster, name = key
        try:
            async with asyncio.timeout(LOOKUP_TIME):
                found = await self._lookup(name, socket.AF_INET6 if family == "V6_ONLY" else socket.AF_INET)
        except (OSError, TimeoutError, UnicodeError) as error:
            if key not in self._failing:
                self._failing.add(key)
                kept = "its last answer stays" if key in self._found else "it has no hosts yet"
                self._log.write(WARN, f"cluster {cluster}: {name} cannot be looked up ({error}); {kept}")
            return
        self._failing.discard(key)
        if found and found != self._found.get(key):
            self._found[key] = found
            if tells:
                self._on_change(cluster)

    def _expand(self, cluster: Cluster) -> Cluster:
        hosts: list[Host] = []
        for host in cluster.hosts:
            name, port = split_address(host.address)
            if is_address(name):
                hosts.append(host)
                continue
            for address in self._found.get((cluster.name, name), ()):
                written = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
                hosts.append(replace(host, address=written, hostname=host.hostname or name))
        return replace(cluster, hosts=hosts)


def is_address(host: str) -> bool:
    """Whether `host` is an IP address and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _names(config: MosnConfig) -> dict[Key, tuple[float, str]]:
    """Every name to look up, with how often in seconds and in which family."""
    found: dict[Key, tuple[float, str]] = {}
    for cluster in config.cluster_manager.clusters:
        for host in cluster.hosts if cluster.type == "STRICT_DNS" else ():
            name, _ = split_address(host.address)
            if not is_address(name):
                found[cluster.name, name] = (cluster.dns_refresh_rate, cluster.dns_lookup_family)
    return found
