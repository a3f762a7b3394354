"""What an extension of the process has changed, kept so that a reload of the file does not undo it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from pymosn.api.extension import KINDS, Change, Put, Remove, SetHosts
from pymosn.config.diagnostics import Diagnostic
from pymosn.config.schema import Cluster, Host, Listener, MosnConfig
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
    except (TypeError, ValueError) as error:
        return None, [Diagnostic(message=f"not JSON: {error}")]
    return None, [Diagnostic(message=f"expected Put, Remove or SetHosts, got {type(change).__name__}")]


def _text(**body: Any) -> str:
    return msgspec.json.encode(body).decode()


class Overlay:
    """The blocks that one extension has set or removed, and the hosts that it has given to clusters."""

    def __init__(self) -> None:
        # By kind and name; None for one that was removed.
        self._blocks: dict[tuple[str, str], Any] = {}
        self._hosts: dict[str, list[Host]] = {}

    def note(self, before: MosnConfig, after: MosnConfig) -> None:
        """Adds the difference of two configurations."""
        for kind, blocks in _lists(after).items():
            name_of = _NAMES[kind]
            old = {name_of(block): block for block in _lists(before)[kind]}
            for block in blocks:
                name = name_of(block)
                known = old.pop(name, None)
                if known is not block and known != block:
                    self._note(kind, name, known, block)
            for name in old:
                self._blocks[kind, name] = None
                if kind == "cluster":
                    self._hosts.pop(name, None)

    def _note(self, kind: str, name: str, before: Any, after: Any) -> None:
        is_known = self._blocks.get((kind, name)) is not None
        if (
            isinstance(after, Cluster)
            and before is not None
            and not is_known
            and replace(before, hosts=after.hosts) == after
        ):
            self._hosts[name] = after.hosts
            return
        self._blocks[kind, name] = after
        if kind == "cluster":
            self._hosts.pop(name, None)

    def joined(self, config: MosnConfig) -> tuple[MosnConfig, list[str]]:
        """A configuration of the file with these changes, and the names of clusters whose hosts are no longer needed."""
        lists = {kind: self._joined(kind, blocks) for kind, blocks in _lists(config).items()}
        clusters = [
            replace(cluster, hosts=self._hosts[cluster.name]) if cluster.name in self._hosts else cluster
            for cluster in lists["cluster"]
        ]
        missing = sorted(self._hosts.keys() - {cluster.name for cluster in clusters})
        server = replace(config.servers[0], listeners=lists["listener"], routers=lists["router"])
        manager = replace(config.cluster_manager, clusters=clusters)
        return replace(config, servers=[server, *config.servers[1:]], cluster_manager=manager), missing

    def _joined(self, kind: str, blocks: list[Any]) -> list[Any]:
        name_of = _NAMES[kind]
        own = {name: block for (of, name), block in self._blocks.items() if of == kind}
        kept = [own.pop(name_of(block), block) for block in blocks]
        return [block for block in [*kept, *own.values()] if block is not None]


def _lists(config: MosnConfig) -> dict[str, list[Any]]:
    server = config.servers[0]
    return {"listener": server.listeners, "router": server.routers, "cluster": config.cluster_manager.clusters}
