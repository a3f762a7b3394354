"""The resource, version and control plane of each active item, and the state of a resource by its name.

Nothing here shows what a resource contains, so that nothing secret can be shown.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

from pymosn.config.schema import Cluster, Listener
from pymosn.config.sds import SecretKey, SourceError, keys_of
from pymosn.config.tls_contexts import cluster_contexts
from pymosn.control.origins import ENDPOINTS as ENDPOINTS_PART
from pymosn.control.origins import SECRET as SECRET_PART
from pymosn.control.origins import Origin, Used
from pymosn.control.xds.layer import CLUSTER as CLUSTER_ITEM
from pymosn.control.xds.layer import LISTENER as LISTENER_ITEM
from pymosn.control.xds.layer import TABLE, Merged, Owner
from pymosn.control.xds.state import State, Target
from pymosn.control.xds.types import CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET, SHORT
from pymosn.control.xds.warming import Entry

#: The sender of what was restored from the disk.
CACHE: Final = "the cache"
STATIC: Final = "static_resources"
#: States of a resource: its newest version is active, waits for something, or cannot be activated; or it was removed.
ACTIVE: Final = "active"
WAITING: Final = "waiting"
UNUSABLE: Final = "cannot be activated"
REMOVED: Final = "removed, but still in use"

_TYPE_OF: Final = {LISTENER_ITEM: LISTENER, TABLE: ROUTES, CLUSTER_ITEM: CLUSTER}


def used_by(state: State, target: Target, kind: str, name: str, chain: int) -> Used:
    """What an item consists of: the resource that it is from, its endpoints and secrets. `chain`: of a listener."""
    owner = Owner(kind, name)
    is_added = target.merged.is_added(owner)
    others: list[Origin] = []
    if is_added and kind == CLUSTER_ITEM:
        others += _endpoints(state, name)
    others += [_secret(state, key) for key in _keys(target, owner, chain, is_added)]
    return Used(_item(state, owner) if is_added else None, others)


def _item(state: State, owner: Owner) -> Origin:
    type_url, name = state.resource_of(owner)
    if name in state.static.get(type_url, ()):
        return {"from": STATIC, "resource": name}
    entry = state.store[type_url].get(name)
    if entry is None:
        return _shown(type_url, name, None, REMOVED)
    if state.is_active(type_url, name):
        return _shown(type_url, name, entry)
    before = state.replaced.get((type_url, name))
    newer = f"version {entry.version} is {_state(state, type_url, name)}"
    return _shown(type_url, name, before, newer)


def _shown(type_url: str, name: str, entry: Entry | None, state: str = "") -> Origin:
    found: Origin = {"from": "xds", "type": SHORT[type_url], "resource": name}
    if entry is not None:
        found |= {"version": entry.version, "control_plane": entry.sender}
    return {**found, "state": state} if state else found


def _endpoints(state: State, cluster: str) -> list[Origin]:
    """The endpoints of a cluster, if it has them by EDS."""
    entry = state.store[CLUSTER].get(cluster) or state.static[CLUSTER].get(cluster)
    found = []
    for need in () if entry is None else entry.item.needs:
        if need.type_url == ENDPOINTS:
            assignment = state.store[ENDPOINTS].get(need.name)
            shown = _shown(ENDPOINTS, need.name, assignment, "" if assignment else "not received")
            found.append({"part": ENDPOINTS_PART, "name": cluster, **shown})
    return found


def _keys(target: Target, owner: Owner, chain: int, is_added: bool) -> list[SecretKey]:
    """The secrets that an item, or a chain of a listener, needs."""
    own, layer = target.merged.own, target.layer
    block: Listener | Cluster | None = None
    if owner.kind == LISTENER_ITEM:
        mine = {listener.known_name(): listener for listener in own.servers[0].listeners}
        block = layer.listeners.get(owner.name) if is_added else mine.get(owner.name)
    elif owner.kind == CLUSTER_ITEM:
        clusters = {cluster.name: cluster for cluster in own.cluster_manager.clusters}
        block = layer.clusters.get(owner.name) if is_added else clusters.get(owner.name)
    if isinstance(block, Listener):
        chains = block.filter_chains
        contexts = chains[chain].tls_contexts() if 0 <= chain < len(chains) else []
    else:
        contexts = [] if block is None else list(cluster_contexts(block))
    found: dict[SecretKey, None] = {}
    for context in contexts:
        try:
            found.update(dict.fromkeys(keys_of(context, in_file=not is_added)))
        except SourceError:  # was rejected when it was checked
            continue
    return list(found)


def _secret(state: State, key: SecretKey) -> Origin:
    """The origin of a secret; never its content."""
    entry = state.store[SECRET].get(key.name) if key in state.secrets else None
    shown = _shown(SECRET, key.name, entry, "" if entry else "not received")
    return {"part": SECRET_PART, "name": key.name, **shown, "source": key.source}


# ---- by name


def resources_named(state: State, merged: Merged, name: str) -> list[dict[str, Any]]:
    """All resources of a name, of any type, also those that were rejected."""
    wall = time.time() - time.monotonic()
    found = []
    for type_url, short in SHORT.items():
        static = state.static.get(type_url, {}).get(name)
        if static is not None:
            found.append({"type": short, "resource": name, "from": STATIC, "state": ACTIVE})
        entry = state.store[type_url].get(name)
        fault = state.faults[type_url].get(name, "")
        if entry is None and not fault:
            continue
        shown: dict[str, Any] = {"type": short, "resource": name, "from": "xds"}
        if entry is not None:
            shown |= {
                "version": entry.version,
                "control_plane": entry.sender,
                "accepted": round(entry.since + wall, 3),
                "state": _state(state, type_url, name),
                "needs": [f"{SHORT[need.type_url]} {need.name}" for need in entry.item.needs],
                "used_by": list(_users(state, type_url, name)),
            }
        before = state.replaced.get((type_url, name))
        if before is not None and entry is not None and not state.is_active(type_url, name):
            shown["active_version"] = before.version
        if fault:
            shown["rejected"] = fault
        warnings = state.warnings[type_url].get(name)
        if warnings:
            shown["warnings"] = list(warnings)
        if any(owner.name == name and _TYPE_OF[owner.kind] == type_url for owner in merged.shadowed):
            shown["state"] = "shadowed by the file"
        found.append(shown)
    return found


def _state(state: State, type_url: str, name: str) -> str:
    if type_url in state.static and name in state.static[type_url]:
        return f"shadowed by {STATIC}"
    why = state.unusable_resources(type_url).get(name)
    if why is not None:
        return why
    if state.is_active(type_url, name):
        return ACTIVE
    waits = [wait.reason for wait in state.plan.waits if state.resource_of(wait.owner) == (type_url, name)]
    return f"{WAITING} for {', '.join(waits)}" if waits else WAITING


def _users(state: State, type_url: str, name: str) -> Iterator[str]:
    """The resources that need one."""
    for kind in (CLUSTER, LISTENER):
        for user, entry in (*state.store[kind].items(), *state.static[kind].items()):
            needed = type_url == SECRET and any(key.name == name for key in _all_keys(entry))
            if needed or any((need.type_url, need.name) == (type_url, name) for need in entry.item.needs):
                yield f"{SHORT[kind]} {user}"


def _all_keys(entry: Entry) -> list[SecretKey]:
    from pymosn.control.xds.layer import needed_secrets

    try:
        return needed_secrets(entry.item.block)
    except SourceError:
        return []
