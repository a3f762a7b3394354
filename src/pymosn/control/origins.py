"""Where the parts of the active configuration come from: a line of the file, or a resource of a control plane."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from pymosn.config.chains import chain_name
from pymosn.config.diagnostics import Place, Places, nearest
from pymosn.config.schema import Listener, MosnConfig
from pymosn.config.tls_contexts import cluster_contexts

LISTENER: Final = "listener"
TABLE: Final = "table"
CLUSTER: Final = "cluster"
ENDPOINTS: Final = "endpoints"
SECRET: Final = "secret"

#: One origin, as the admin API shows it: `part`, `name`, `from`, and what there is of `file`, `line`; or of `type`,
#: `resource`, `version`, `control_plane`, `state`.
Origin = dict[str, Any]


class Parts:
    """What a request meets in the configuration. Indexes are -1, and names empty, if it does not come so far."""

    def __init__(self) -> None:
        self.listener: Listener | None = None
        self.chain = -1
        self.table = ""
        self.virtual_host = -1
        self.route = -1
        self.cluster = ""


class Used(NamedTuple):
    """What an item of a control plane consists of. `item`: None if it is not of a control plane, but of the file."""

    item: Origin | None
    others: list[Origin]


#: Kind and name of an item, and the index of a listener's chain -> what it consists of.
FromControlPlane = Callable[[str, str, int], Used]


def _none(kind: str, name: str, chain: int) -> Used:
    return Used(None, [])


class Origins:
    """Finds origins. `lines`: of the values of the file; `file`: its name; `control_planes`: for the rest."""

    def __init__(self, lines: Places, file: str, control_planes: FromControlPlane = _none) -> None:
        self._lines = lines
        self._file = file
        self._control_planes = control_planes

    def of(self, config: MosnConfig, parts: Parts) -> list[Origin]:
        """The origins of what a request meets, in that order."""
        found: list[Origin] = []
        listener = parts.listener
        if listener is not None:
            found += self._listener(config, listener, parts.chain)
        tables = [table.router_config_name for table in config.servers[0].routers] if config.servers else []
        if parts.table in tables:
            found += self._table(config, tables.index(parts.table), parts)
        clusters = [cluster.name for cluster in config.cluster_manager.clusters]
        if parts.cluster in clusters:
            found += self._cluster(config, clusters.index(parts.cluster))
        return found

    def _listener(self, config: MosnConfig, listener: Listener, chain: int) -> list[Origin]:
        index = next(i for i, one in enumerate(config.servers[0].listeners) if one is listener)
        path = f"servers[0].listeners[{index}]"
        name = listener.known_name()
        used = self._control_planes(LISTENER, name, chain)
        found = [{"part": LISTENER, "name": name, **(used.item or self._line(path))}]
        if chain >= 0:
            where = used.item or self._line(f"{path}.filter_chains[{chain}]")
            found.append({"part": "filter chain", "name": chain_name(listener, chain), **where})
            if not used.others and listener.filter_chains[chain].tls_contexts():
                where = used.item or self._line(f"{path}.filter_chains[{chain}].tls_context")
                found.append({"part": "TLS context", "name": chain_name(listener, chain), **where})
        return [*found, *used.others]

    def _table(self, config: MosnConfig, index: int, parts: Parts) -> list[Origin]:
        table = config.servers[0].routers[index]
        path = f"servers[0].routers[{index}]"
        used = self._control_planes(TABLE, table.router_config_name, -1)
        found = [{"part": "route table", "name": table.router_config_name, **(used.item or self._line(path))}]
        if parts.virtual_host >= 0:
            host = table.virtual_hosts[parts.virtual_host]
            path += f".virtual_hosts[{parts.virtual_host}]"
            found.append({"part": "virtual host", "name": host.name, **(used.item or self._line(path))})
            if parts.route >= 0:
                name = host.routers[parts.route].name or str(parts.route)
                where = used.item or self._line(f"{path}.routers[{parts.route}]")
                found.append({"part": "route", "name": name, **where})
        return [*found, *used.others]

    def _cluster(self, config: MosnConfig, index: int) -> list[Origin]:
        cluster = config.cluster_manager.clusters[index]
        path = f"cluster_manager.clusters[{index}]"
        used = self._control_planes(CLUSTER, cluster.name, -1)
        found = [{"part": CLUSTER, "name": cluster.name, **(used.item or self._line(path))}]
        others = used.others
        if cluster.hosts and not any(one["part"] == ENDPOINTS for one in others):
            where = used.item or self._line(f"{path}.hosts")
            found.append({"part": ENDPOINTS, "name": cluster.name, **where})
        has_tls = any(context.status for context in cluster_contexts(cluster))
        if has_tls and not any(one["part"] == SECRET for one in others):
            where = used.item or self._line(f"{path}.tls_context")
            found.append({"part": "TLS context", "name": cluster.name, **where})
        return [*found, *others]

    def _line(self, path: str) -> Origin:
        """The line of a value of the file. After a change by the admin API its lines are not known."""
        found = nearest(self._lines, path) if self._lines else Place("")
        where: Origin = {"from": "file", "file": found.file or self._file}
        return {**where, "line": found.line} if found.line else where


def text_of(origin: Origin) -> str:
    """An origin as a line of text."""
    return f"{origin['part']} {origin['name']}: {_where(origin)}"


def _where(origin: Origin) -> str:
    if origin["from"] != "xds":
        line = f":{origin['line']}" if "line" in origin else ""
        return f"{origin.get('file') or origin['from']}{line}"
    state = f", {origin['state']}" if origin.get("state") else ""
    version = f", version {origin['version']}" if origin.get("version") else ""
    sender = f", from {origin['control_plane']}" if origin.get("control_plane") else ""
    return f"{origin['type']} {origin['resource']}{version}{sender}{state}"


def lines_of(origins: Iterable[Origin]) -> list[str]:
    """Origins as text. Names are from control planes."""
    return ["".join(char if char.isprintable() else "?" for char in text_of(origin)) for origin in origins]
