"""What extensions of the process have changed, kept so that a reload of the file does not undo it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

from msgspec.structs import replace

from pymosn.api.extension import KINDS, Change, Put, Remove, SetHosts
from pymosn.config.diagnostics import Diagnostic
from pymosn.config.schema import Cluster, Listener, MosnConfig
from pymosn.config.update import Outcome, Update

_NAMES: Final[dict[str, Any]] = {
    "listener": Listener.known_name,
    "router": lambda table: table.router_config_name,
    "cluster": lambda cluster: cluster.name,
}


def with_changes(config: MosnConfig, changes: Sequence[Change], stream_filters: Iterable[str] = ()) -> Outcome:
    """The configuration after all changes, as if they came by the admin API one after the other; None after an error.

    The same object if nothing differs.
    """
    after, found = config, list[Diagnostic]()
    for i, change in enumerate(changes):
        changed, faults = _with_change(after, change, list(stream_filters))
        # Positions in the text that was made of it would mislead.
        found += [replace(fault, file=f"changes[{i}]", line=0, column=0) for fault in faults]
        if changed is None:
            return None, found
        after = changed
    return (config if after == config else after), found


def _with_change(config: MosnConfig, change: Change, stream_filters: list[str]) -> Outcome:
    if isinstance(change, Put | Remove) and change.kind not in KINDS:
        return None, [Diagnostic(message=f"an extension can change {', '.join(KINDS)}; got {change.kind!r}")]
    try:
        if isinstance(change, Put):
            return Update(_text(type=change.kind, config=change.block), stream_filters).block(config)
        if isinstance(change, Remove):
            return Update(_text(type=change.kind, name=change.name), stream_filters).removal(config)
        if isinstance(change, SetHosts):
            body = _text(type="set", config={"cluster": change.cluster, "hosts": list(change.hosts)})
            return Update(body, stream_filters).hosts(config)
    except (TypeError, ValueError, RecursionError) as error:
        return None, [Diagnostic(message=f"not JSON: {error}")]
    return None, [Diagnostic(message=f"expected Put, Remove or SetHosts, got {type(change).__name__}")]


def _text(**body: Any) -> str:
    return json.dumps(body, allow_nan=False)


#: Which block a change concerns: its kind and name, and whether only its hosts were set.
Key = tuple[str, str, bool]


def keys_of(changes: Iterable[Change]) -> list[Key]:
    """What valid changes concern."""
    return [key for change in changes for key in _key_of(change)]


def _key_of(change: Change) -> list[Key]:
    if isinstance(change, Put):
        return [(change.kind, Update(_text(type=change.kind, config=change.block)).name(), False)]
    if isinstance(change, Remove):
        return [(change.kind, change.name, False)]
    return [("cluster", change.cluster, True)] if isinstance(change, SetHosts) else []


class Overlay:
    """The blocks that extensions have set or removed, and the hosts that they have given to clusters."""

    def __init__(self) -> None:
        # By extension, kind and name, in the order in which they were set: the block, None for one that was removed, or
        # the hosts alone.
        self._entries: dict[tuple[str, str, str], Any] = {}

    def note(self, owner: str, keys: Iterable[Key], after: MosnConfig) -> None:
        """Adds what an extension has changed, even to what it was: the file may change. `after`: with its changes."""
        known = {kind: {_NAMES[kind](block): block for block in blocks} for kind, blocks in _lists(after).items()}
        for kind, name, is_hosts in keys:
            block = known[kind].get(name)
            # Hosts of a block that the extension itself has set belong to that block.
            is_own = isinstance(self._entries.pop((owner, kind, name), None), Cluster)
            self._entries[owner, kind, name] = block.hosts if is_hosts and block is not None and not is_own else block

    def keep(self, owners: Collection[str]) -> None:
        """Forgets what all other extensions have changed."""
        self._entries = {key: value for key, value in self._entries.items() if key[0] in owners}

    def joined(self, config: MosnConfig, owners: Collection[str]) -> tuple[MosnConfig, list[tuple[str, str]]]:
        """A configuration of the file with the changes of these extensions, of which the last one counts.

        Also the extensions that have set hosts of a cluster that is gone, and its name.
        """
        lists = {kind: _Blocks(blocks, _NAMES[kind]) for kind, blocks in _lists(config).items()}
        missing: list[tuple[str, str]] = []
        entries = [(key, value) for key, value in self._entries.items() if key[0] in owners]
        if not entries:
            return config, missing
        for (owner, kind, name), value in entries:
            blocks = lists[kind]
            if not isinstance(value, list):
                blocks.put(name, value)
            elif (cluster := blocks.last(name)) is not None:
                blocks.put(name, replace(cluster, hosts=value))
            else:
                missing.append((owner, name))
        server = replace(config.servers[0], listeners=lists["listener"].left(), routers=lists["router"].left())
        manager = replace(config.cluster_manager, clusters=lists["cluster"].left())
        return replace(config, servers=[server, *config.servers[1:]], cluster_manager=manager), missing


class _Blocks:
    """The blocks of one kind. Of several with the same name the last one counts."""

    def __init__(self, blocks: list[Any], name_of: Any) -> None:
        self._blocks = [*blocks]
        self._places: dict[str, list[int]] = {}
        for i, block in enumerate(blocks):
            self._places.setdefault(name_of(block), []).append(i)

    def last(self, name: str) -> Any:
        """None if there is none."""
        places = self._places.get(name)
        return self._blocks[places[-1]] if places else None

    def put(self, name: str, block: Any) -> None:
        """Replaces what has this name, or adds it; None removes it."""
        places = self._places.setdefault(name, [])
        if block is None:
            for i in places:
                self._blocks[i] = None
            places.clear()
        elif places:
            self._blocks[places[-1]] = block
        else:
            places.append(len(self._blocks))
            self._blocks.append(block)

    def left(self) -> list[Any]:
        return [block for block in self._blocks if block is not None]


def _lists(config: MosnConfig) -> dict[str, list[Any]]:
    server = config.servers[0]
    return {"listener": server.listeners, "router": server.routers, "cluster": config.cluster_manager.clusters}
