"""The accepted resources of all control planes, and what becomes of them: the `Consumer` of the clients.

`accept` validates and converts; what has changed is activated soon after, together with what else arrives until then. A
rejected resource keeps its last accepted content, and one that the workers cannot activate its last active one.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final, Protocol

from pymosn.config.diagnostics import Diagnostic
from pymosn.config.schema import MosnConfig
from pymosn.config.sds import ADS, SecretKey, SecretTexts
from pymosn.control.xds.accepting import Accepted, Acceptor, addresses_of
from pymosn.control.xds.convert.kinds import Convert, Need
from pymosn.control.xds.layer import CLUSTER as CLUSTER_ITEM
from pymosn.control.xds.layer import LISTENER as LISTENER_ITEM
from pymosn.control.xds.layer import TABLE, Layer, Merged, Owner, needed_secrets
from pymosn.control.xds.pacing import PAUSE, pause_before_change
from pymosn.control.xds.types import (
    CLUSTER,
    ENDPOINTS,
    EXTENSION,
    LISTENER,
    ROUTES,
    SECRET,
    SHORT,
    WILDCARD_TYPES,
    Rejected,
    Resource,
    Update,
)
from pymosn.control.xds.warming import Entry, Plan, Planner
from pymosn.core.log import ALERT_SECRET, ERROR, INFO, WARN, Log
from pymosn.observe.text import one_line

#: Seconds until a change that could not be activated at all is tried again.
RETRY: Final = 5.0
#: A first answer of a new stream that removes all of at least so many resources is held for GRACE seconds.
GUARDED: Final = 10
GRACE: Final = 30.0

#: Seconds after which a secret counts as missing.
SECRET_TIME: Final = 15.0

_KIND_OF: Final = {CLUSTER: CLUSTER_ITEM, LISTENER: LISTENER_ITEM, ROUTES: TABLE}
_TYPE_OF: Final = {kind: type_url for type_url, kind in _KIND_OF.items()}
#: Types of which a change of one resource does not concern others.
_PLANNED_ALONE: Final = frozenset({CLUSTER, ENDPOINTS, ROUTES})

#: Source -> type URL -> name -> seconds of initial_fetch_timeout.
Wants = dict[str, dict[str, dict[str, float]]]


class Result(Protocol):
    """See `LayerResult` of `server/changes.py`."""

    @property
    def applied(self) -> bool: ...
    @property
    def rejected(self) -> Mapping[Owner, str]: ...
    @property
    def message(self) -> str: ...


class Target(Protocol):
    """The active configuration."""

    layer: Layer
    merged: Merged
    on_rejected: Callable[[Mapping[Owner, str]], None]

    def apply_layer(self, layer: Layer) -> Awaitable[Result]:
        """Activates a layer."""

    def item_path_errors(self, item: MosnConfig) -> list[Diagnostic]:
        """The errors of files that a configuration with one item names."""


class State:
    """See the module. `on_wants` is called with what has to be subscribed, `on_applied` after each change."""

    def __init__(
        self,
        target: Target,
        kinds: Mapping[str, Convert],
        log: Log,
        *,
        source: str = ADS,
        is_wildcard: bool = True,
        now: Callable[[], float] = time.monotonic,
        pause: float = PAUSE,
        guard: int = GUARDED,
    ) -> None:
        """`is_wildcard`: whether all clusters and listeners are wanted. `pause`: seconds from an update to its change.

        `guard`: see `GUARDED`; 0 for no guard.
        """
        self._target = target
        self._acceptor = Acceptor(kinds, target.item_path_errors)
        self._log = log
        # Type -> the source of all its resources.
        self.wildcards: Mapping[str, str] = dict.fromkeys((CLUSTER, LISTENER) if is_wildcard else (), ADS)
        self._now = now
        self._pause = pause
        self._guard = guard
        self._planner = Planner()
        self.store: dict[str, dict[str, Entry]] = {type_url: {} for type_url in SHORT}
        # Resources of `static_resources`, which win over others and are never removed.
        self.static: dict[str, dict[str, Entry]] = {CLUSTER: {}, LISTENER: {}}
        self.secrets: dict[SecretKey, SecretTexts] = {}
        self.versions: dict[str, str] = {}
        # Faults by type and name, until the resource is accepted.
        self.faults: dict[str, dict[str, str]] = {type_url: {} for type_url in SHORT}
        self.ignored: dict[str, int] = {}
        self.warnings: dict[str, dict[str, list[str]]] = {type_url: {} for type_url in SHORT}
        # Items that could not be activated: why, and the block.
        self.unusable: dict[Owner, tuple[str, object]] = {}
        self.apply_fault = ""
        # How many resources were accepted, and rejected, by type.
        self.accepted: dict[str, int] = {}
        self.rejections: dict[str, int] = {}
        self.applied = 0
        self.rejected = 0
        #: Whether the first listeners have been activated, and all that they waited for. It stays so.
        self.is_settled = False
        self.plan = Plan(Layer(), [], {}, [], None)
        # Removals that are not obeyed yet: type and name -> the time at which they are.
        self.guarded: dict[tuple[str, str], float] = {}
        # Active clusters, listeners and tables whose next version waits.
        self.replaced: dict[tuple[str, str], Entry] = {}
        self._absent: set[tuple[str, str]] = set()
        self._timed_out: set[Owner] = set()
        # What has changed since the last plan, by type and name; None: everything has to be planned.
        self._changed: set[tuple[str, str]] | None = None
        # The secrets of the last plan; the same object as long as none changes.
        self._planned_secrets: dict[SecretKey, SecretTexts] = {}
        # What clusters and listeners need, by type and name, added up when it has changed, or the file has.
        self._needs: dict[tuple[str, str], tuple[Need, ...]] = {}
        self._are_needs_new = True
        self._needs_own: MosnConfig | None = None
        # The listener that binds an address.
        self._bound: dict[tuple[str, str], str] = {}
        # Whether something may no longer be needed.
        self._may_forget = False
        self._due: asyncio.Event = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.on_wants: Callable[[Wants], None] = lambda wants: None
        self.on_applied: Callable[[], None] = lambda: None
        # Called with a type, and names of accepted resources that cannot be activated, and why.
        self.on_unusable: Callable[[str, Mapping[str, str]], None] = lambda kind, faults: None

    # ---- accepting

    def add_static(self, kind: str, name: str, body: bytes) -> str:
        """Adds a resource of `static_resources`; returns its faults."""
        update = Update(kind, "static", [Resource(name, "static", body)])
        accepted = self._acceptor.accept(update, {}, self._now(), is_trusted=True)
        self.static[kind].update(accepted.entries)
        for key, entry in accepted.entries.items():
            self._note_needs(kind, key, entry)
        return accepted.rejected.get(name, "")

    async def accept(self, update: Update, source: str = ADS) -> Rejected:
        """See `Consumer`. `source`: of secrets."""
        kind = update.type_url
        entries, faults = self.store.setdefault(kind, {}), self.faults.setdefault(kind, {})
        # In a thread: thousands of resources take seconds, during which others must be received.
        accepted = await asyncio.to_thread(self._acceptor.accept, update, entries, self._now())
        removed = self._removals(update, accepted)
        for name in removed:
            self._remove(kind, name)
            faults.pop(name, None)
            self.warnings[kind].pop(name, None)
            if kind == SECRET:
                self.secrets.pop(SecretKey(source, name), None)
        if removed or update.absent:
            self._changed = None
        rejected = dict(accepted.rejected)
        for name, entry in accepted.entries.items():
            why = self._conflict(name, entry) if kind == LISTENER else self._misfit(name, entry) if kind == EXTENSION else ""
            if why:
                rejected[name] = why
                continue
            self._add(kind, name, entry)
            faults.pop(name, None)
            self.warnings[kind].pop(name, None)
            self._absent.discard((kind, name))
            self.guarded.pop((kind, name), None)
            if kind == SECRET:
                self.secrets[SecretKey(source, name)] = entry.item.block
        for name in accepted.same:  # what was rejected meanwhile is not wanted any more
            faults.pop(name, None)
        self._note_senders(update, accepted.same)
        for field, count in accepted.ignored.items():
            self.ignored[field] = self.ignored.get(field, 0) + count
        self.warnings[kind].update(accepted.warnings)
        # Once for each fault: some control planes send what was rejected again and again.
        news = {name: why for name, why in rejected.items() if faults.get(name) != why}
        faults.update({**update.faults, **rejected})
        self.rejected += len(rejected)
        self.accepted[kind] = self.accepted.get(kind, 0) + len(accepted.entries.keys() - rejected.keys())
        self.rejections[kind] = self.rejections.get(kind, 0) + len(rejected)
        if accepted.same and self.unusable:
            # Sent again without a change: they still cannot be activated.
            rejected |= {name: why for name, why in self.unusable_resources(kind).items() if name in accepted.same}
        if not rejected and not update.faults:
            self.versions[kind] = update.version
        self._absent.update((kind, name) for name in update.absent if name not in entries)
        for name, why in news.items():
            text = one_line(f"xDS: {SHORT.get(kind, kind)} {name} is rejected: {why}")
            self._log.write(ERROR if kind == SECRET else WARN, text, ALERT_SECRET if kind == SECRET else "")
        if accepted.entries or removed or update.absent:
            self._due.set()
        self._tell_wants()
        return rejected

    def _note_senders(self, update: Update, names: Collection[str]) -> None:
        """Content that another sender had sent before, such as the cache, has the version and sender of the newer one."""
        entries = self.store[update.type_url]
        known = {name for name in names if entries[name].sender != update.sender}
        for resource in update.resources if known else ():
            if resource.name in known:
                before = entries[resource.name]
                entries[resource.name] = before._replace(version=resource.version, sender=update.sender)

    def _add(self, kind: str, name: str, entry: Entry) -> None:
        entries = self.store[kind]
        if self._changed is not None:
            if name in entries and kind in _PLANNED_ALONE:
                self._changed.add((kind, name))
            else:
                self._changed = None
        before = entries.get(name)
        if kind in _KIND_OF and before is not None and self.is_active(kind, name):
            self.replaced[kind, name] = before
        if kind == LISTENER and before is not None:
            self._free(before)
        entries[name] = entry
        for address in addresses_of(entry.item):
            self._bound[address] = name
        if name not in self.static.get(kind, ()):
            self._note_needs(kind, name, entry)

    def _remove(self, kind: str, name: str) -> None:
        self._changed = None
        entry = self.store[kind].pop(name, None)
        if entry is not None and kind == LISTENER:
            self._free(entry)
        if name not in self.static.get(kind, ()) and self._needs.pop((kind, name), ()):
            self._are_needs_new = self._may_forget = True

    def _free(self, listener: Entry) -> None:
        for address in addresses_of(listener.item):
            if self._bound.get(address) == listener.item.name:
                del self._bound[address]

    def _removals(self, update: Update, accepted: Accepted) -> list[str]:
        """The names that are removed now."""
        kind, held = update.type_url, self.store[update.type_url]
        gone = [name for name in update.removed if name in held]
        if update.is_full:
            present = {*accepted.entries, *accepted.same, *accepted.rejected, *update.unchanged, *update.faults}
            gone += [name for name in held if name not in present and name not in gone]
            for name in present:
                self.guarded.pop((kind, name), None)
            for name in [name for name in self.faults[kind] if name not in present]:
                del self.faults[kind][name]
        is_guarded = 0 < self._guard <= len(gone) == len(held)
        if update.is_first and kind in WILDCARD_TYPES and is_guarded:
            until = self._now() + GRACE
            self.guarded |= {(kind, name): until for name in gone}
            what = f"all {len(gone)} {SHORT[kind]} resources"
            self._log.write(WARN, f"xDS: the first answer after a reconnect removes {what}; they stay for {GRACE:g} s")
            self._due.set()
            return []
        return [name for name in gone if (kind, name) not in self.guarded]

    def _conflict(self, name: str, entry: Entry) -> str:
        """Why a listener cannot be next to the others."""
        for address in addresses_of(entry.item):
            found = self._bound.get(address)
            if found is None:
                static = self.static[LISTENER].items()
                found = next((k for k, one in static if address in addresses_of(one.item)), None)
            if found not in (None, name):
                return f"address: {address[1]} is the address of listener {found}"
        return ""

    def _misfit(self, name: str, entry: Entry) -> str:
        """Why an extension cannot be where it is wanted."""
        kind = entry.item.block.kind
        for needs in self._needs.values():
            for need in needs:
                if (need.type_url, need.name) == (EXTENSION, name) and kind not in need.kinds:
                    return f"typed_config: {kind} is not among type_urls of its listener: {', '.join(need.kinds)}"
        return ""

    # ---- subscriptions

    def wants(self) -> Wants:
        """What has to be subscribed now."""
        found: Wants = {}
        for kind, source in self.wildcards.items():
            found.setdefault(source, {})[kind] = {"*": 15.0}
        for needs in self._needs.values():
            for need in needs:
                names = found.setdefault(need.source, {}).setdefault(need.type_url, {})
                names[need.name] = max(names.get(need.name, 0.0), need.timeout)
        own = self._target.merged.own
        for item in (*own.servers[0].listeners, *own.cluster_manager.clusters):
            for key in needed_secrets(item, in_file=True):
                found.setdefault(key.source, {}).setdefault(SECRET, {})[key.name] = SECRET_TIME
        return found

    def _note_needs(self, kind: str, name: str, entry: Entry) -> None:
        if kind not in (CLUSTER, LISTENER):
            return
        secrets = (Need(SECRET, key.name, key.source, SECRET_TIME) for key in needed_secrets(entry.item.block))
        needs = (*entry.item.needs, *secrets)
        before = self._needs.get((kind, name), ())
        if needs != before:
            self._needs[kind, name] = needs
            self._are_needs_new = True
            self._may_forget = self._may_forget or before != ()

    def _tell_wants(self) -> None:
        """Reports what has to be subscribed, if that may have changed."""
        own = self._target.merged.own
        if self._are_needs_new or own is not self._needs_own:
            self._are_needs_new, self._needs_own = False, own
            self.on_wants(self.wants())

    def _all(self, kind: str) -> dict[str, Entry]:
        """The resources of a type, with static ones."""
        static = self.static.get(kind)
        return {**self.store[kind], **static} if static else self.store[kind]

    # ---- activating

    def start(self) -> None:
        """Begins to activate what has been accepted."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._due.set()
        self._are_needs_new = True
        self._tell_wants()

    async def stop(self) -> None:
        """Stops; what is active stays."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            delay = await self.step()
            ended = self._now()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._due.wait()
            await asyncio.sleep(pause_before_change(self._pause, self._now() - ended, bool(self._changed)))

    async def step(self) -> float | None:
        """Activates what may be activated now; returns the seconds after which it has to be called again, None for never."""
        self._due.clear()
        now = self._now()
        for kind, name in [key for key, until in self.guarded.items() if until <= now]:
            del self.guarded[kind, name]
            self._remove(kind, name)
        target = self._target
        has_listeners = LISTENER in self.accepted  # now, not when this plan has been applied
        self.plan = plan = await self._plan(now)
        self._note_timeouts(plan)
        result = await target.apply_layer(self._without_unusable(plan.layer))
        self.apply_fault = "" if result.applied else result.message
        self._note_unusable(result.rejected, plan.layer)
        if not result.applied:
            self._log.write(WARN, f"xDS: nothing could be activated, next attempt in {RETRY:g} s: {result.message}")
            return RETRY
        self.applied += 1
        self.is_settled = self.is_settled or (has_listeners and not plan.waits)
        if self._may_forget:
            self._forget()
            self._may_forget = bool(plan.waits)
        self.replaced = {key: entry for key, entry in self.replaced.items() if self._is_waiting(*key)}
        self._tell_wants()
        self.on_applied()
        ends = [*self.guarded.values(), *([] if plan.wake_at is None else [plan.wake_at])]
        return max(0.0, min(ends) - self._now()) if ends else None

    def is_active(self, kind: str, name: str) -> bool:
        """Whether the newest accepted version of a resource is active; false if it waits, or could not be activated."""
        entry, owner_kind = self.store[kind].get(name), _KIND_OF.get(kind)
        if entry is None or owner_kind is None:
            return entry is not None
        owner = Owner(owner_kind, name)
        if kind == ROUTES:
            return self._target.layer.tables.get(name) is entry.item.block
        return owner not in self.unusable and self._planner.active_item(owner) is entry.item

    def _is_waiting(self, kind: str, name: str) -> bool:
        return name in self.store[kind] and not self.is_active(kind, name)

    def missing_secrets(self) -> Mapping[SecretKey, list[str]]:
        """The secrets that are not there, and the names of what needs them."""
        return self._target.merged.missing

    def on_rejected(self, faults: Mapping[Owner, str]) -> None:
        """Items were found to be unusable by a change from elsewhere: they have their last good state again, or are gone."""
        self._note_unusable(faults, self.plan.layer)
        self._changed = None
        self._due.set()

    def _note_unusable(self, faults: Mapping[Owner, str], layer: Layer) -> None:
        by_kind: dict[str, dict[str, str]] = {}
        for owner, why in faults.items():
            self.unusable[owner] = why, layer.items(owner.kind).get(owner.name)
            kind, name = self.resource_of(owner)
            if name not in self.static.get(kind, ()):
                by_kind.setdefault(kind, {})[name] = _unusable_text(why)
            self.rejected += 1
        for kind, found in by_kind.items():
            self.on_unusable(kind, found)

    def resource_of(self, owner: Owner) -> tuple[str, str]:
        """The type and name of the resource that an item is from: an inline table is from its listener."""
        if owner.kind == TABLE and owner.name not in self.store[ROUTES]:
            for name, entry in self._all(LISTENER).items():
                if any(table.router_config_name == owner.name for table in entry.item.tables):
                    return LISTENER, name
        if owner.kind == LISTENER_ITEM and owner.name not in self.store[LISTENER]:
            for name, entry in self._all(LISTENER).items():
                if any(other.known_name() == owner.name for other in entry.item.others):
                    return LISTENER, name
        return _TYPE_OF[owner.kind], owner.name

    def unusable_resources(self, kind: str) -> dict[str, str]:
        """The resources of a type that were accepted but cannot be activated, and why."""
        found = {self.resource_of(owner): _unusable_text(why) for owner, (why, _) in self.unusable.items()}
        return {name: why for (one, name), why in found.items() if one == kind}

    async def _plan(self, now: float) -> Plan:
        """What may be active now. A plan of everything is made in a thread, of copies: it takes a while for thousands."""
        changed, self._changed = self._changed, set()
        live, store = self._target.layer, {kind: self._all(kind) for kind in self.store}
        if changed is not None:
            plan = self._planner.plan_again(store, live, now, changed, self._absent)
            if plan is not None:
                return plan
        if self._planned_secrets != self.secrets:
            self._planned_secrets = dict(self.secrets)
        own = [cluster.name for cluster in self._target.merged.own.cluster_manager.clusters]
        copies = {kind: dict(entries) for kind, entries in store.items()}
        absent = set(self._absent)
        return await asyncio.to_thread(self._planner.plan, copies, live, self._planned_secrets, now, absent=absent, own=own)

    def _forget(self) -> None:
        """Removes what neither the newest nor the active version of an item needs; it is not subscribed any more."""
        needs = [need for found in self._needs.values() for need in found]
        needs += [need for item in self._planner.active_items() for need in item.needs]
        needed = {(need.type_url, need.name) for need in needs}
        for kind in (ENDPOINTS, EXTENSION, ROUTES):
            for name in [name for name in self.store[kind] if (kind, name) not in needed]:
                del self.store[kind][name]
                self.faults[kind].pop(name, None)
                self.warnings[kind].pop(name, None)
        self._absent = {key for key in self._absent if key in needed}
        if self.secrets:
            self._forget_secrets({SecretKey(need.source, need.name) for need in needs if need.type_url == SECRET})

    def _forget_secrets(self, wanted: set[SecretKey]) -> None:
        layer, own = self._target.layer, self._target.merged.own
        wanted |= {key for block in (*layer.listeners.values(), *layer.clusters.values()) for key in needed_secrets(block)}
        items = [*own.servers[0].listeners, *own.cluster_manager.clusters]
        wanted |= {key for item in items for key in needed_secrets(item, in_file=True)}
        self.secrets = {key: texts for key, texts in self.secrets.items() if key in wanted}
        names = {key.name for key in self.secrets}
        self.store[SECRET] = {name: entry for name, entry in self.store[SECRET].items() if name in names}

    def _without_unusable(self, layer: Layer) -> Layer:
        """The layer without the blocks that could not be activated: their last good state stays."""
        for owner, (_, block) in list(self.unusable.items()):
            if block is not None and layer.items(owner.kind).get(owner.name) is block:
                layer = layer.reverted(owner, self._target.layer)
            else:
                del self.unusable[owner]
        return layer

    def _note_timeouts(self, plan: Plan) -> None:
        for owner in plan.timeouts:
            if owner not in self._timed_out:
                lacks = "endpoints" if owner.kind == CLUSTER_ITEM else "table"
                self._log.write(INFO, f"xDS: {owner.kind} {owner.name}: its {lacks} did not arrive in time")
        self._timed_out |= set(plan.timeouts)


def _unusable_text(why: str) -> str:
    return f"cannot be activated: {why}"
