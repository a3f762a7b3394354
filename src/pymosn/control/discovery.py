"""STRICT_DNS (key reference section 8.7): the names in a cluster's hosts are looked up again and again, by the supervisor.

Every address becomes a host, with weight, metadata and host name of the entry that it came from. While a name cannot be
looked up, its last good answer stays, and it is asked for less and less often.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable
from typing import Final

from msgspec.structs import replace

from pymosn.config.schema import Cluster, Host, MosnConfig
from pymosn.control.resolver import Answer, Lookup, Wish, look_up, wish_of
from pymosn.core.addresses import UNIX, split_address
from pymosn.core.log import INFO, WARN, Log

#: Seconds that a start or a change waits for names that were never looked up before; they follow later.
FIRST_TIME: Final = 5.0
#: The shortest time in seconds between two look-ups of a name.
SHORTEST_RATE: Final = 0.05
#: Seconds that are added to a time to live, as in MOSN: earlier, the same answer would come.
TTL_MARGIN: Final = 1.0
#: Seconds after the first failed look-up of a name that has no addresses yet; doubled by each further failure.
FIRST_PAUSE: Final = 1.0
#: The longest pause in seconds that failures lead to, unless the usual one is longer.
LONGEST_PAUSE: Final = 60.0
#: Seconds in which changes of one cluster are told together: its workers build it anew each time.
TELL_PAUSE: Final = 0.1

Sleep = Callable[[float], Awaitable[None]]

#: Cluster and host name.
Key = tuple[str, str]


class Discovery:
    """Keeps the addresses of all names in STRICT_DNS clusters. `on_change(cluster)` is called when those of one differ."""

    def __init__(
        self,
        on_change: Callable[[str], None],
        log: Log,
        lookup: Lookup = look_up,
        sleep: Sleep = asyncio.sleep,
        tell_pause: float = TELL_PAUSE,
    ) -> None:
        self._on_change = on_change
        self._log = log
        self._lookup = lookup
        self._sleep = sleep
        self._tell_pause = tell_pause
        self._found: dict[Key, Answer] = {}
        self._wishes: dict[Key, Wish] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        # How often in a row each name could not be looked up.
        self._failures: dict[Key, int] = {}
        # Clusters whose change is about to be told.
        self._changed: set[str] = set()

    async def prepare(self, config: MosnConfig) -> None:
        """Looks up the names that are new in a configuration, for FIRST_TIME seconds at most. Never fails."""
        new = {key: wish for key, wish in _names(config).items() if key not in self._found}
        if not new:
            return
        lookups = [asyncio.ensure_future(self._look_up(key, wish, False)) for key, wish in new.items()]
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
        for key in [key for key in self._tasks if wanted.get(key) != self._wishes.get(key)]:
            self._tasks.pop(key).cancel()
        for key in [key for key in self._found if key not in wanted]:
            del self._found[key]
        for key in [key for key in self._failures if key not in wanted]:
            del self._failures[key]
        self._wishes = wanted
        for key, wish in wanted.items():
            if key not in self._tasks:
                self._tasks[key] = asyncio.get_running_loop().create_task(self._repeat(key, wish))

    def close(self) -> None:
        """Looks nothing up any more."""
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()

    async def _repeat(self, key: Key, wish: Wish) -> None:
        while True:
            await self._sleep(self._pause(key, wish))
            await self._look_up(key, wish, True)

    def _pause(self, key: Key, wish: Wish) -> float:
        """Seconds until a name is looked up again."""
        usual = max(wish.rate, SHORTEST_RATE)
        answer = self._found.get(key)
        if answer is not None and wish.respects_ttl and answer.ttl is not None:
            usual = answer.ttl + TTL_MARGIN
        failures = self._failures.get(key, 0)
        if failures == 0:
            return usual
        first = usual if answer is not None else min(usual, FIRST_PAUSE)
        return min(first * 2.0 ** min(failures - 1, 20), max(usual, LONGEST_PAUSE))

    async def _look_up(self, key: Key, wish: Wish, tells: bool) -> None:
        cluster, name = key
        try:
            found = await self._lookup(name, wish)
        except (OSError, TimeoutError, ValueError) as error:
            self._fail(key, str(error) or "no answer in time")
            return
        if not found.addresses:
            self._fail(key, "the answer has no addresses")
            return
        if self._failures.pop(key, 0):
            self._log.write(INFO, f"cluster {cluster}: {name} is looked up again")
        before = self._found.get(key)
        self._found[key] = found
        if tells and (before is None or before.addresses != found.addresses):
            self._tell(cluster)

    def _fail(self, key: Key, why: str) -> None:
        cluster, name = key
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        if failures == 1:
            kept = "its last answer stays" if key in self._found else "it has no hosts yet"
            self._log.write(WARN, f"cluster {cluster}: {name} cannot be looked up ({why}); {kept}")

    def _tell(self, cluster: str) -> None:
        """Tells of a change, once for all that come within a moment."""
        if cluster not in self._changed:
            self._changed.add(cluster)
            asyncio.get_running_loop().call_later(self._tell_pause, self._tell_now, cluster)

    def _tell_now(self, cluster: str) -> None:
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
            for address in answer.addresses if answer is not None else ():
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


def has_name(host: Host) -> bool:
    """Whether the address of `host` has a name that can be looked up."""
    return not host.address.startswith(UNIX) and not is_address(split_address(host.address)[0])


def _names(config: MosnConfig) -> dict[Key, Wish]:
    """Every name to look up, and how."""
    found: dict[Key, Wish] = {}
    for cluster in config.cluster_manager.clusters:
        for host in cluster.hosts if cluster.type == "STRICT_DNS" else ():
            if has_name(host):
                found[cluster.name, split_address(host.address)[0]] = wish_of(cluster)
    return found
