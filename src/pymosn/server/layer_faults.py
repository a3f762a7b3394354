"""The result of activating what xDS adds: which of its items the faults belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pymosn.config.diagnostics import Diagnostic
from pymosn.control.xds.layer import CLUSTER, Merged, Owner, path_in_item


class LayerResult(NamedTuple):
    """The result of activating a layer.

    `rejected`: items that keep their last good state, and why. Unless it was `applied`, nothing has changed anywhere
    because of `message`.
    """

    applied: bool
    rejected: Mapping[Owner, str]
    message: str


def shared_addresses(merged: Merged) -> list[Diagnostic]:
    """Errors of listeners of xDS that have the address of another listener: each would get a part of its connections."""
    seen: dict[tuple[str, str], str] = {}
    found: list[Diagnostic] = []
    for i, listener in enumerate(merged.config.servers[0].listeners):
        network, path = listener.network.lower() or "tcp", f"servers[0].listeners[{i}]"
        if not listener.bind_port or (network != "unix" and listener.address.endswith(":0")):
            continue
        other = seen.setdefault((network, listener.address), listener.known_name())
        if other != listener.known_name() and merged.owner_at(path) is not None:
            found.append(
                Diagnostic(path=f"{path}.address", message=f"{listener.address} is the address of listener {other}")
            )
    return found


def faults_by_owner(errors: Sequence[Diagnostic], merged: Merged) -> dict[Owner, str]:
    """The errors of items of xDS."""
    found: dict[Owner, list[str]] = {}
    for error in errors:
        owner = merged.owner_at(error.path)
        if owner is None and error.path == "cluster_manager":  # of a worker, which knows no index
            names = [cluster.name for cluster in merged.config.cluster_manager.clusters]
            named = [name for name in names if error.message.startswith(f"cluster {name!r}: ")]
            owner = Owner(CLUSTER, named[0]) if named and merged.is_added(Owner(CLUSTER, named[0])) else None
        if owner is not None:
            inner = path_in_item(error.path)
            found.setdefault(owner, []).append(f"{inner}: {error.message}" if inner else error.message)
    return {owner: "; ".join(texts) for owner, texts in found.items()}
