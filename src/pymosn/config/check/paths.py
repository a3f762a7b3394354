"""The paths in a configuration that are opened, created or executed, and which of them a change may name.

Changes through the admin API and control planes may only name paths inside certain folders, and no path with two roles:
whoever may change the configuration must not thereby be able to run code or overwrite files. Paths of the active
configuration stay valid. The configuration file is the operator's own and is not limited.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Iterator
from typing import Final, NamedTuple

from pymosn.config.diagnostics import Diagnostic, Diagnostics, error_at
from pymosn.config.schema import Listener, MosnConfig
from pymosn.config.schema.network_filters import PythonFilter
from pymosn.config.tls_contexts import pem_texts, tls_contexts
from pymosn.core.addresses import UNIX
from pymosn.filters.stream.shipped import data_file, is_from_file
from pymosn.observe.destination import is_file

# The roles of a path.
LOG: Final = "log"
FILTER: Final = "filter"
SOCKET: Final = "unix socket"
HOST: Final = "unix socket of a host"
RESOLVER: Final = "DNS configuration"
TLS: Final = "TLS file"
DATA: Final = "file of a filter"

#: Ends of the names of files that Python, or this program, would read as code or configuration.
_READ_BY_OTHERS: Final = (".py", ".pyc", ".pyo", ".pyw", ".pyd", ".pth", ".so", ".zip", ".egg", ".json", ".yaml", ".yml")
_PYTHON: Final = ".py"
_SYSTEM_RESOLVER: Final = "/etc/resolv.conf"

#: Where systems have public CAs, and where Istio's agent and its injector put certificates: for control planes.
TLS_FOLDERS: Final = (
    *("/etc/ssl/certs", "/etc/pki/tls/certs", "/etc/pki/ca-trust/extracted"),
    *("/etc/certs", "/etc/istio", "/var/run/secrets/istio", "/var/run/secrets/workload-spiffe-credentials"),
)


class NamedPath(NamedTuple):
    """A path in a configuration. `where`: its path in MOSN's keys. `real`: without symbolic links and `..`."""

    role: str
    where: str
    real: str


class Folders(NamedTuple):
    """Where relative paths of filters start, the parent of `logs/`, and the operator's list `admin.allowed_folders`.

    `of_tls`: more folders, only for certificates and keys.
    """

    config_dir: str
    base_dir: str
    listed: Collection[str] = ()
    of_tls: Collection[str] = ()

    @property
    def logs(self) -> str:
        """The folder of logs."""
        return os.path.realpath(os.path.join(self.base_dir, "logs"))

    def allowed(self) -> list[str]:
        """The real paths of all folders in which a path may be."""
        listed = [os.path.realpath(os.path.join(self.config_dir, folder)) for folder in self.listed]
        return [os.path.realpath(self.config_dir), self.logs, *listed]


class Reserved(NamedTuple):
    """Real paths of files that have a role already: those of the configuration, and those that are or were logs."""

    config_files: Collection[str] = ()
    logs: Collection[str] = ()


def named_paths(config: MosnConfig, folders: Folders) -> Iterator[NamedPath]:
    """All paths in a configuration that can be changed through the admin API."""
    for role, where, path in _paths(config, folders):
        if path and "\0" not in path:
            yield NamedPath(role, where, os.path.realpath(path))


def _paths(config: MosnConfig, folders: Folders) -> Iterator[tuple[str, str, str]]:
    """Role, path in MOSN's keys, and path of the file as it is configured."""
    for i, listener in enumerate(config.servers[0].listeners):
        path = f"servers[0].listeners[{i}]"
        yield from _log_paths(listener, path, folders)
        yield from _filter_paths(listener, path, folders)
        for j, chain in enumerate(listener.filter_chains):
            for k, filter in enumerate(chain.filters):
                if isinstance(filter, PythonFilter) and not filter.config.name:
                    file = os.path.join(folders.config_dir, filter.config.path)
                    yield FILTER, f"{path}.filter_chains[{j}].filters[{k}].config.path", file
        if listener.network.lower() == "unix":
            yield SOCKET, f"{path}.address", listener.address
    for i, cluster in enumerate(config.cluster_manager.clusters):
        path = f"cluster_manager.clusters[{i}]"
        event_log = cluster.health_check.event_log_path if cluster.health_check is not None else ""
        if event_log and is_file(event_log):
            yield LOG, f"{path}.health_check.event_log_path", event_log
        if cluster.dns_resolver_file:
            yield RESOLVER, f"{path}.dns_resolver_file", cluster.dns_resolver_file
        for j, host in enumerate(cluster.hosts):
            if host.address.startswith(UNIX):
                yield HOST, f"{path}.hosts[{j}].address", host.address.removeprefix(UNIX)
    for text in pem_texts(config):
        if text.is_path:
            yield TLS, text.where, os.path.join(folders.config_dir, text.text)
    for where, context in tls_contexts(config):
        if context.key_log:
            yield LOG, f"{where}.key_log", context.key_log


def _log_paths(listener: Listener, path: str, folders: Folders) -> Iterator[tuple[str, str, str]]:
    """The access logs of a listener and of its chains."""
    for key, logs in listener.log_lists():
        for i, log in enumerate(logs):
            target = log.log_path or listener.default_access_log(folders.base_dir)
            if is_file(target):
                yield LOG, f"{path}.{key}[{i}].log_path" if log.log_path else f"{path}.name", target


def _filter_paths(listener: Listener, path: str, folders: Folders) -> Iterator[tuple[str, str, str]]:
    """The files of the stream filters of a listener and of its chains."""
    for key, filters in listener.filter_lists():
        for i, entry in enumerate(filters):
            data = data_file(entry.type, entry.config)
            if is_from_file(entry.type, entry.config):
                file = os.path.join(folders.config_dir, str(entry.config.get("path", "")))
                yield FILTER, f"{path}.{key}[{i}].config.path", file
            elif data is not None:
                keys, name = data
                yield DATA, f"{path}.{key}[{i}].config.{keys.path}", os.path.join(folders.config_dir, name)


def _all_paths(config: MosnConfig) -> Iterator[tuple[str, str, str]]:
    """Like `_paths`, with the files that take effect only at the start."""
    yield LOG, "pid", config.pid
    if config.servers:
        yield LOG, "servers[0].default_log_path", config.servers[0].default_log_path
        yield from _paths(config, Folders("", ""))


def check_path_names(config: MosnConfig, report: Diagnostics) -> None:
    """Reports paths that no file can have. `addresses.py` does this for the sockets of listeners and hosts."""
    for role, where, path in _all_paths(config):
        if "\0" in path and role not in (SOCKET, HOST):
            report.error(where, "the path of a file cannot contain a NUL character", path)


def check_paths(before: MosnConfig, after: MosnConfig, folders: Folders, reserved: Reserved) -> list[Diagnostic]:
    """The errors of the paths in `after` that the active configuration `before` does not have in the same role.

    Only follows names and links: opens and creates nothing.
    """
    active = {(path.role, path.real) for path in named_paths(before, folders)}
    paths = list(named_paths(after, folders))
    filters = {path.real for path in paths if path.role == FILTER} | {real for role, real in active if role == FILTER}
    read = {path.real for path in paths if path.role in (TLS, DATA)} | {real for role, real in active if role in (TLS, DATA)}
    others = [*filters, *read, *reserved.config_files]
    logs = {path.real for path in paths if path.role == LOG} | {os.path.realpath(log) for log in reserved.logs}
    found = []
    for path in paths:
        if (path.role, path.real) in active:
            continue
        problem = _outside(path, folders)
        if not problem and path.role == FILTER:
            problem = _filter_problem(path.real, logs)
        elif not problem and path.role == LOG:
            problem = _log_problem(path.real, others, folders)
        elif not problem and path.role == SOCKET and _is_one_of(path.real, [*others, *logs]):
            problem = "the file has another role in this configuration"
        if problem:
            found.append(error_at(path.where, problem))
    return found


def _outside(path: NamedPath, folders: Folders) -> str:
    """Why a path is not in one of the allowed folders; empty if it is."""
    if path.role == RESOLVER and path.real == os.path.realpath(_SYSTEM_RESOLVER):
        return ""
    allowed = folders.allowed()
    if path.role == TLS:
        allowed += [os.path.realpath(folder) for folder in folders.of_tls]
    if any(path.real != folder and os.path.commonpath((path.real, folder)) == folder for folder in allowed):
        return ""
    return (
        f"{path.role}: {path.real} is outside the folders that a change may name ({', '.join(allowed)}); "
        "the configuration file can list more in admin.allowed_folders"
    )


def _filter_problem(real: str, logs: Iterable[str]) -> str:
    if _is_one_of(real, logs):
        return "the file is or was a log, and must not be executed"
    return "" if real.lower().endswith(_PYTHON) else "a filter that a change adds must be a .py file"


def _log_problem(real: str, others: Iterable[str], folders: Folders) -> str:
    if _is_one_of(real, others):
        return "the file is that of a filter, a certificate or the configuration, and must not be a log"
    inside = [os.path.relpath(real, folder) for folder in folders.allowed() if real.startswith(folder)]
    if inside and all(f"{os.sep}." in os.sep + path for path in inside):
        return "a log must not be a hidden file, which a shell or another program may read"
    if _is_executable(real):
        return "the file is executable, and must not be a log"
    name = real.lower()
    if any(part == "__pycache__" or part.endswith((".dist-info", ".egg-info")) for part in name.split(os.sep)):
        return "a log must not be in a folder of Python's"
    # In `logs/` JSON is no configuration.
    is_data = name.endswith((".json", ".yaml", ".yml")) and os.path.dirname(real) == folders.logs
    if name.endswith(_READ_BY_OTHERS) and not is_data:
        return f"a log must not be a {os.path.splitext(real)[1]} file, which is read as code or configuration"
    return ""


def _is_one_of(real: str, others: Iterable[str]) -> bool:
    """Whether a file is one of others, also under another name (a hard link)."""
    inode = _inode(real)
    return any(real == other or (inode is not None and inode == _inode(other)) for other in others)


def _is_executable(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(mode) and bool(mode & 0o111)


def _inode(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino
