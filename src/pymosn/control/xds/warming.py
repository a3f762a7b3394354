"""What of the accepted resources may be activated now, and what still waits. Pure: the time is an argument.

*Make before break*: clusters before the listeners and tables that name them, and new ones before old ones go.

- A cluster waits for its endpoints, a listener for its tables and for its filters that are resources (ECDS), at most for
  `initial_fetch_timeout`. The last version stays active meanwhile. After that, a new one becomes active without them, and
  an update is not activated.
- Both wait for their secrets for a short time; without them, TLS refuses all connections of that context.
- A table waits a moment for clusters that it names and that its last version does not.
- A removed cluster stays for a time as long as an active table or listener names it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from pymosn.assembly.routes import clusters_of
from pymosn.config.schema import Cluster, Listener, RouterConfiguration
from pymosn.config.sds import Secrets
from pymosn.control.xds.convert.kinds import Item, Need
from pymosn.control.xds.layer import CLUSTER, LISTENER, TABLE, Layer, Owner, needed_secrets
from pymosn.control.xds.types import CLUSTER as CLUSTER_TYPE
from pymosn.control.xds.types import ENDPOINTS, EXTENSION, ROUTES
from pymosn.control.xds.types import LISTENER as LISTENER_TYPE

#: Seconds that a table waits for the clusters that it names.
CLUSTER_TIME: Final = 1.0
#: Seconds that a cluster or listener waits for its secrets.
SECRET_TIME: Final = 3.0
#: Seconds that a removed cluster stays while something names it.
HELD_TIME: Final = 60.0
#: What is waited for.
_WHAT: Final = {ENDPOINTS: "endpoints", EXTENSION: "filter"}


class Entry(NamedTuple):
    """An accepted resource. `since`: when its content was accepted. `body`: as it was received. `sender`: of its content."""

    item: Item
    version: str
    body: bytes
    since: float
    sender: str = ""


#: Type URL -> name -> resource.
Store = Mapping[str, Mapping[str, Entry]]


class Wait(NamedTuple):
    """Why an item is not active, or not its newest version. `until`: None for as long as it takes."""

    owner: Owner
    reason: str
    until: float | None


class Plan(NamedTuple):
    """`layer`: to be activated now. `wake_at`: when the plan has to be made again, if nothing else happens before."""

    layer: Layer
    waits: list[Wait]
    held: dict[str, float]
    timeouts: list[Owner]
    wake_at: float | None


class _Last(NamedTuple):
    """The last plan. `inline`: the tables of listeners; `users`: endpoints -> clusters; `own`: the clusters of the file."""

    plan: Plan
    inline: frozenset[str]
    users: Mapping[str, list[str]]
    own: frozenset[str]


class Planner:
    """Makes plans one after the other; remembers blocks, so that what has not changed stays the same object."""

    def __init__(self) -> None:
        self._blocks: dict[str, tuple[Item, object, Cluster]] = {}
        self._elsewhere: dict[str, tuple[Listener, Listener, Listener]] = {}
        self._extended: dict[str, tuple[Item, list[Item], Listener]] = {}
        self._named: dict[Owner, tuple[object, frozenset[str]]] = {}
        # The item of each active block, to tell an update from what is active already.
        self._active: dict[Owner, Item] = {}
        self._held: dict[str, float] = {}
        # The last plan with all its tables, and the clusters that use some endpoints; see `plan_again`.
        self._last: _Last | None = None

    def plan(
        self,
        store: Store,
        live: Layer,
        secrets: Secrets,
        now: float,
        *,
        absent: Collection[tuple[str, str]] = (),
        own: Collection[str] = (),
    ) -> Plan:
        """`live`: what is active. `absent`: types and names that will not come. `own`: the names of the file's clusters."""
        run = _Run(self, store, live, secrets, now, absent)
        clusters = run.clusters()
        tables = run.tables({*clusters, *own})
        listeners = run.listeners(tables)
        acting = [item for owner, item in run.active.items() if owner.kind == LISTENER]
        used = {need.name for item in acting for need in item.needs if need.type_url == ROUTES}
        inline = {table.router_config_name for owner, item in run.active.items() for table in item.tables}
        tables = {name: table for name, table in tables.items() if name in used or name in inline}
        self._hold(clusters, tables, listeners, live, run)
        self._active = run.active
        ends = [wait.until for wait in run.waits if wait.until is not None]
        ends += [since + HELD_TIME for since in self._held.values()]
        layer = Layer(listeners, tables, clusters, secrets)
        plan = Plan(layer, run.waits, dict(self._held), run.timeouts, min(ends, default=None))
        users: dict[str, list[str]] = {}
        for name, entry in store.get(CLUSTER_TYPE, {}).items():
            for need in entry.item.needs:
                users.setdefault(need.name, []).append(name)
        self._last = _Last(plan, frozenset(inline), users, frozenset(own))
        return plan

    def plan_again(
        self,
        store: Store,
        live: Layer,
        now: float,
        changed: Collection[tuple[str, str]],
        absent: Collection[tuple[str, str]] = (),
    ) -> Plan | None:
        """The plan after changes of some clusters, endpoints or tables that exist already; None if all has to be planned.

        It costs what has changed, but for copies of the dictionaries. Secrets must be the same as in the last plan.
        """
        last = self._last
        if last is None or live is not last.plan.layer or last.plan.waits or last.plan.held or last.plan.timeouts:
            return None
        clusters: dict[str, None] = {}
        tables: list[str] = []
        for kind, name in changed:
            if kind == ENDPOINTS and name in store[ENDPOINTS]:
                clusters.update(dict.fromkeys(last.users.get(name, ())))
            elif kind == CLUSTER_TYPE and name in live.clusters and name in store[CLUSTER_TYPE]:
                clusters[name] = None
            elif kind == ROUTES and name in live.tables and name in store[ROUTES] and name not in last.inline:
                tables.append(name)
            else:
                return None
        run = _Run(self, store, live, last.plan.layer.secrets, now, absent)
        for name in clusters:
            needs = store[CLUSTER_TYPE][name].item.needs
            if any(name not in last.users.get(need.name, ()) for need in needs):
                return None
        found = run.clusters(clusters, dict(live.clusters)) if clusters else live.clusters
        known = {*found, *last.own} if tables else ()
        made = run.tables(known, tables, dict(live.tables)) if tables else live.tables
        if run.waits or run.timeouts or len(found) != len(live.clusters) or len(made) != len(live.tables):
            return None
        plan = Plan(live._replace(clusters=found, tables=made), [], {}, [], None)
        self._active.update(run.active)
        self._last = last._replace(plan=plan)
        return plan

    def _hold(
        self,
        clusters: dict[str, Cluster],
        tables: Mapping[str, RouterConfiguration],
        listeners: Mapping[str, Listener],
        live: Layer,
        run: _Run,
    ) -> None:
        """Adds the removed clusters that are still named."""
        gone = [name for name in live.clusters if name not in clusters and name not in run.store.get(CLUSTER_TYPE, {})]
        if not gone:
            self._held = {}
            return
        named = {name for key, table in tables.items() for name in self.named(Owner(TABLE, key), table)}
        named |= {name for key, listener in listeners.items() for name in self.named(Owner(LISTENER, key), listener)}
        held = {name: self._held.get(name, run.now) for name in gone if name in named}
        self._held = {name: since for name, since in held.items() if run.now < since + HELD_TIME}
        clusters.update((name, live.clusters[name]) for name in self._held)

    def named(self, owner: Owner, block: RouterConfiguration | Listener) -> frozenset[str]:
        """The clusters that a table or listener names."""
        known = self._named.get(owner)
        if known is not None and known[0] is block:
            return known[1]
        if isinstance(block, RouterConfiguration):
            found = frozenset(clusters_of(block.virtual_hosts))
        else:
            tcps = [acting.tcp for acting in block.acting_filters()]
            found = frozenset(name for tcp in tcps if tcp is not None for name in tcp.cluster_names())
        self._named[owner] = block, found
        return found

    def block_of(self, name: str, item: Item, endpoints: object) -> Cluster:
        """A cluster with the hosts of its endpoints."""
        known = self._blocks.get(name)
        if known is not None and known[0] is item and known[1] is endpoints:
            return known[2]
        made: Cluster = item.block if endpoints is None or item.joined is None else item.joined(endpoints)
        self._blocks[name] = item, endpoints, made
        return made

    def extended(self, name: str, item: Item, found: Mapping[str, Item]) -> Listener:
        """A listener with its extensions."""
        if item.joined is None:
            block: Listener = item.block
            return block
        known, items = self._extended.get(name), list(found.values())
        if known is not None and known[0] is item and _are_same(known[1], items):
            return known[2]
        made: Listener = item.joined({key: one.block for key, one in found.items()})
        self._extended[name] = item, items, made
        return made

    def elsewhere(self, item: Item, block: Listener) -> dict[str, Listener]:
        """A listener at its additional addresses, by the names of these listeners. `block`: at the first address."""
        made: dict[str, Listener] = {}
        for other in item.others:
            name = other.known_name()
            known = self._elsewhere.get(name)
            if known is None or known[0] is not block or known[1] is not other:
                changed = msgspec.structs.replace(
                    block, name=other.name, address=other.address, network=other.network, mode=other.mode
                )
                known = self._elsewhere[name] = block, other, changed
            made[name] = known[2]
        return made

    def active_items(self) -> Collection[Item]:
        """The items that the active blocks were made of."""
        return self._active.values()

    def active_item(self, owner: Owner) -> Item | None:
        """The item that the active block of an owner was made of."""
        return self._active.get(owner)


class _Run:
    """One plan in the making."""

    def __init__(
        self,
        planner: Planner,
        store: Store,
        live: Layer,
        secrets: Secrets,
        now: float,
        absent: Collection[tuple[str, str]],
    ) -> None:
        self.planner = planner
        self.store = store
        self.live = live
        self.secrets = secrets
        self.now = now
        self.absent = absent
        self.waits: list[Wait] = []
        self.timeouts: list[Owner] = []
        self.active: dict[Owner, Item] = {}

    def clusters(self, names: Iterable[str] | None = None, found: dict[str, Cluster] | None = None) -> dict[str, Cluster]:
        """The clusters, without those that were removed; or only those of `names`, added to those in `found`."""
        found = {} if found is None else found
        assignments, entries = self.store.get(ENDPOINTS, {}), self.store.get(CLUSTER_TYPE, {})
        for name in entries if names is None else names:
            entry = entries[name]
            owner, endpoints = Owner(CLUSTER, name), None
            for need in entry.item.needs:
                assignment = assignments.get(need.name)
                endpoints = None if assignment is None else assignment.item.block
            lacks = [need for need in entry.item.needs if need.name not in assignments]
            block = self.planner.block_of(name, entry.item, endpoints)
            self._choose(owner, entry, lacks, block, found)
        return found

    def tables(
        self,
        clusters: Collection[str],
        names: Iterable[str] | None = None,
        found: dict[str, RouterConfiguration] | None = None,
    ) -> dict[str, RouterConfiguration]:
        """All tables that may be active, whether a listener uses them or not; or only those of `names`, added to `found`."""
        found = {} if found is None else found
        entries = self.store.get(ROUTES, {})
        for name in entries if names is None else names:
            entry = entries[name]
            owner = Owner(TABLE, name)
            before = self.live.tables.get(name)
            known = self.planner.named(owner, before) if before is not None else frozenset()
            missing = () if before is entry.item.block else self.planner.named(owner, entry.item.block) - known - {*clusters}
            until = entry.since + CLUSTER_TIME
            if missing and self.now < until:
                self.waits.append(Wait(owner, f"cluster {', '.join(sorted(missing)[:10])}", until))
                if before is not None:
                    found[name] = before
            else:
                found[name] = entry.item.block
        return found

    def listeners(self, tables: dict[str, RouterConfiguration]) -> dict[str, Listener]:
        """The listeners; adds their inline tables to `tables`."""
        found: dict[str, Listener] = {}
        extensions = self.store.get(EXTENSION, {})
        held: dict[str, Collection[str]] = {ROUTES: tables, EXTENSION: extensions}
        for name, entry in self.store.get(LISTENER_TYPE, {}).items():
            needs = entry.item.needs
            lacks = [need for need in needs if need.waits and need.name not in held[need.type_url]]
            names = [need.name for need in needs if need.type_url == EXTENSION and need.name in extensions]
            block = self.planner.extended(name, entry.item, {key: extensions[key].item for key in names})
            self._choose(Owner(LISTENER, name), entry, lacks, block, found)
            item = self.active.get(Owner(LISTENER, name))
            if item is not None and item.others:
                found.update(self.planner.elsewhere(item, found[name]))
            if item is not None:
                tables.update((table.router_config_name, table) for table in item.tables)
        return found

    def _choose(self, owner: Owner, entry: Entry, lacks: list[Need], block: Any, found: dict[str, Any]) -> None:
        """Adds the newest version of a cluster or listener, its last one, or nothing yet."""
        before, item = self.live.items(owner.kind).get(owner.name), self.planner.active_item(owner)
        if item is entry.item:  # is active already, maybe without what it lacks
            lacks = []
        waits = self._waits(owner, entry, lacks, block, item is entry.item)
        has_timed_out = not waits and bool(lacks)
        if has_timed_out:
            self.timeouts.append(owner)
        if before is not None and item is not None and (waits or has_timed_out):
            found[owner.name], self.active[owner] = before, item
        elif not waits:
            found[owner.name], self.active[owner] = block, entry.item
        self.waits += waits

    def _waits(self, owner: Owner, entry: Entry, lacks: list[Need], block: Any, is_active: bool) -> list[Wait]:
        found = []
        for need in lacks:
            until = entry.since + need.timeout if need.timeout > 0.0 else None
            if (need.type_url, need.name) not in self.absent and (until is None or self.now < until):
                what = _WHAT.get(need.type_url, "table")
                found.append(Wait(owner, f"{what} {need.name}", until))
        until = entry.since + SECRET_TIME
        if not is_active and self.now < until:
            missing = [key.name for key in needed_secrets(block) if key not in self.secrets]
            found += [Wait(owner, f"secret {name}", until) for name in missing]
        return found


def _are_same(some: list[Item], others: list[Item]) -> bool:
    """Whether two lists have the same objects."""
    return len(some) == len(others) and all(one is other for one, other in zip(some, others, strict=True))
