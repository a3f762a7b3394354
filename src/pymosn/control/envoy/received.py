"""The state of xDS in the supervisor, as Envoy's views need it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from pymosn.control.envoy.facts import ACTIVE, REJECTED, STATIC, WARMING, Facts, Received, Updates
from pymosn.control.xds.client import CONNECTED, ClientStatus
from pymosn.control.xds.state import State
from pymosn.control.xds.types import LISTENER, ROUTES, SECRET, SHORT


def facts_of(state: State, statuses: Iterable[ClientStatus], uses_ads: bool, with_resources: bool) -> Facts:
    """Everything; without the resources it costs little."""
    updates = [
        Updates(
            SHORT.get(one.type_url, one.type_url),
            one.version,
            one.acks,
            one.nacks,
            one.responses,
            one.fetch_timeouts,
            status.state == CONNECTED,
        )
        for status in statuses
        for one in status.types
    ]
    resources = list(_resources(state)) if with_resources else []
    return Facts(resources, updates, uses_ads, bool(state.store[LISTENER]), state.is_settled)


def _resources(state: State) -> Iterator[Received]:
    # A clock of its own kind gives the ages.
    wall = time.time() - time.monotonic()
    for kind, statics in state.static.items():
        for name, entry in list(statics.items()):
            yield Received(kind, name, entry.version, entry.body, entry.since + wall, STATIC)
    for kind, entries in state.store.items():
        faults = dict(state.faults.get(kind, {}))
        for name, entry in list(entries.items()):
            before = state.replaced.get((kind, name))
            stage = ACTIVE if state.is_active(kind, name) else WARMING
            if before is not None and stage == WARMING and kind != ROUTES:
                yield Received(kind, name, before.version, before.body, before.since + wall, ACTIVE)
            yield Received(kind, name, entry.version, entry.body, entry.since + wall, stage, faults.pop(name, ""))
        for name, fault in faults.items():
            yield Received(kind, name, "", b"", 0.0, REJECTED, fault)
    held = state.store[SECRET]
    for name in sorted({key.name for key in state.missing_secrets() if key.name not in held}):
        yield Received(SECRET, name, "", b"", 0.0, WARMING)
