"""The feature gate `auto_config`: changes of the admin API are written to the configuration file.

Only what a change has touched is replaced: listeners, router tables and clusters by name, and `extends` by type, in what
the file contains at that moment. Everything else of the file keeps its keys, values and order; YAML loses its comments. The
result is read and checked before it replaces the file, atomically, and must be the active configuration; otherwise the file
stays, with a warning. The mode, the owner and the attributes of the file are kept, and a change that adds a secret is not
written to a file that others than its owner may read.

What xDS adds is not written: an item of the file wins over one of a control plane, so from the next start on the control
plane could not change it any more. `xds_cache` keeps it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import stat
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Final, NamedTuple

import yaml
from msgspec.structs import replace

from pymosn.config.dump import Marks, dump, whole
from pymosn.config.json_nodes import parse_json
from pymosn.config.load import load_text
from pymosn.config.nodes import ParseError, plain
from pymosn.config.schema import MosnConfig
from pymosn.config.tls_contexts import PEM_MARK
from pymosn.config.yaml_nodes import parse_yaml
from pymosn.control.service import Service
from pymosn.control.threads import off_loop
from pymosn.core.files import MAX_FILE, read_regular
from pymosn.core.log import INFO, WARN, Log
from pymosn.filters.loading import FILTERS, installed
from pymosn.filters.settings import Block
from pymosn.server.changes import Changes
from pymosn.server.run_options import RunOptions, StartError

#: Seconds for reading, checking and writing the file.
TIME: Final = 30.0
#: Keys whose items are in files of their own.
_DIRECTORIES: Final = ("clusters_configs", "router_configs")


class WriteError(Exception):
    """The file is not written; the text is the reason."""


class _Kind(NamedTuple):
    """A kind of named items: the keys of their list, all of them in a configuration, and the name of one.

    The admin API cannot change extensions of type `python`, so types are names of the others.
    """

    path: tuple[str, ...]
    items: Callable[[MosnConfig], Sequence[Block]]
    name: Callable[[Any], str]


_KINDS: Final = (
    _Kind(("servers", "listeners"), lambda config: config.servers[0].listeners, lambda item: str(item.known_name())),
    _Kind(("servers", "routers"), lambda config: config.servers[0].routers, lambda item: str(item.router_config_name)),
    _Kind(("cluster_manager", "clusters"), lambda config: config.cluster_manager.clusters, lambda item: str(item.name)),
    _Kind(("extends",), lambda config: config.extends, lambda item: str(item.type)),
)


class WriteBack(Service):
    """Writes the changes that the file does not have, after each change."""

    name = "auto_config"

    def __init__(
        self,
        options: RunOptions,
        changes: Changes,
        marks: Callable[[], Marks],
        begin: Callable[[Coroutine[Any, Any, object]], None],
        log: Log,
    ) -> None:
        """`marks`: the fields that filters mark as secret. `begin` runs a coroutine in the background."""
        self._path = "" if options.source.path is None else os.path.realpath(options.source.path)
        self._config_dir = options.config_dir
        self._changes = changes
        self._marks = marks
        self._begin = begin
        self._log = log
        self._is_started = self._is_pending = False

    async def start(self) -> None:
        """StartError if the file cannot be written."""
        try:
            await off_loop(TIME, check_writable, self._path)
        except (WriteError, TimeoutError) as error:
            raise StartError(lines=[f"auto_config: {self._path or 'there is no file'}: {error}"]) from error
        if self._changes.config.dynamic_resources is not None:
            self._log.write(WARN, "auto_config: what control planes add is not written to the file; see `xds_cache`")
        self._is_started = True

    def follow(self, config: MosnConfig) -> None:
        if self._is_started and not self._is_pending:
            self._is_pending = True
            self._begin(self._write())

    async def stop(self) -> None:
        if self._is_pending:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TIME), self._changes.paused():
                    pass  # what was pending has been written
        self._is_started = False

    async def _write(self) -> None:
        async with self._changes.paused():  # until the change is complete
            self._is_pending = False
            before, after = self._changes.file_config, self._changes.own
            if before is after or not self._is_started:
                return
            try:
                if await off_loop(TIME, write_changes, self._path, self._config_dir, before, after, self._marks()):
                    self._log.write(INFO, f"auto_config: {self._path} has the change")
                self._changes.file_config = after
            except (WriteError, TimeoutError) as error:
                self._log.write(WARN, f"auto_config: {self._path}: the change is active, but not written: {error}")


def check_writable(path: str) -> None:
    """WriteError if a configuration file cannot be replaced by one with the same owner."""
    if not path:
        raise WriteError("the built-in example cannot be written to")
    tree = _tree(path, _read(path))
    found = [key for key in _DIRECTORIES if _has_key(tree, key)]
    if found:
        raise WriteError(f"changes cannot be written if there is the key `{found[0]}`, whose items are in other files")
    owner = os.stat(path)
    if os.geteuid() not in (0, owner.st_uid):
        raise WriteError(f"it belongs to uid {owner.st_uid}, and the process runs as uid {os.geteuid()}")
    try:
        os.unlink(_write_beside(path, b"", owner))
    except OSError as error:
        raise WriteError(f"its folder cannot be written to: {error.strerror}") from error


def write_changes(path: str, config_dir: str, before: MosnConfig, after: MosnConfig, marks: Marks) -> bool:
    """Writes to a file by what two configurations differ; false if that is nothing. WriteError, and then it is as before."""
    if _rest(before) != _rest(after):
        raise WriteError(
            "more than listeners, routers, clusters and `extends` has changed; put it into the file, and reload"
        )
    text = _read(path)
    tree = _tree(path, text)
    disk = _loaded(path, config_dir, text)
    changed = [block for kind in _KINDS for block in _edit(tree, kind, disk, before, after)]
    new = _as_text(path, tree)
    found = _loaded(path, config_dir, new)
    for kind in _KINDS:
        _compare(kind, found, disk, before, after)
    if not changed and found == disk:
        return False
    owner = os.stat(path)
    mode = stat.S_IMODE(owner.st_mode)
    if mode & 0o077 and _adds_secret(changed, [item for kind in _KINDS for item in kind.items(disk)], marks):
        raise WriteError(f"it adds a secret, and others may read the file (its mode is {mode:04o}; chmod 600)")
    try:
        temporary = _write_beside(path, new.encode(), owner)
        try:
            os.replace(temporary, path)
        except OSError:
            os.unlink(temporary)
            raise
        _sync(os.path.dirname(path))
    except OSError as error:
        raise WriteError(error.strerror or str(error)) from error
    return True


def _rest(config: MosnConfig) -> MosnConfig:
    """A configuration without the items that are written."""
    server = replace(config.servers[0], listeners=[], routers=[])
    return replace(config, servers=[server], cluster_manager=replace(config.cluster_manager, clusters=[]), extends=[])


def _edit(tree: dict[str, Any], kind: _Kind, disk: MosnConfig, before: MosnConfig, after: MosnConfig) -> list[Block]:
    """Puts the items that differ into a file's values; returns those that are new in it."""
    old = {kind.name(item): item for item in kind.items(before)}
    new = {kind.name(item): item for item in kind.items(after)}
    if old == new:
        return []
    names = [kind.name(item) for item in kind.items(disk)]
    items = _list_at(tree, kind.path)
    if len(items) != len(names):
        raise WriteError(f"the items of {'.'.join(kind.path)} are not all in it")
    for name in old.keys() - new.keys():
        for index in [i for i, each in enumerate(names) if each == name][::-1]:
            del items[index], names[index]
    changed = [item for name, item in new.items() if old.get(name) != item]
    for item in changed:
        if kind.name(item) in names:
            # The last of equal names is the one that counts.
            items[len(names) - 1 - names[::-1].index(kind.name(item))] = whole(item)
        else:
            items.append(whole(item))
    return changed


def _compare(kind: _Kind, found: MosnConfig, disk: MosnConfig, before: MosnConfig, after: MosnConfig) -> None:
    """WriteError unless the items that have changed are read as they are active, and all others as before."""
    read, was, old, new = ({kind.name(item): item for item in kind.items(each)} for each in (found, disk, before, after))
    for name in read.keys() | was.keys() | new.keys():
        expected = new.get(name) if old.get(name) != new.get(name) else was.get(name)
        if read.get(name) != expected:
            raise WriteError(f"{'.'.join(kind.path)}: {name!r} would not be read as it is active")


def _adds_secret(blocks: list[Block], known: list[Block], marks: Marks) -> bool:
    """Whether blocks have a secret that other blocks do not have."""
    found = {text for block in blocks for text in _hidden(whole(block), dump(block, marks=marks))}
    return bool(found) and not found.issubset(
        text for block in known for text in _hidden(whole(block), dump(block, marks=marks))
    )


def _hidden(value: Any, shown: Any, key: str = "") -> Iterator[str]:
    """The texts of what a dump hides of a value, but for paths of keys; `key`: of the value."""
    if value == shown or (key == "private_key" and isinstance(value, str) and PEM_MARK not in value):
        return
    if isinstance(value, dict) and isinstance(shown, dict):
        for name, inner in value.items():
            yield from _hidden(inner, shown.get(name), name)
    elif isinstance(value, list) and isinstance(shown, list) and len(value) == len(shown):
        for inner, other in zip(value, shown, strict=True):
            yield from _hidden(inner, other)
    else:
        yield json.dumps(value, sort_keys=True)


def _read(path: str) -> str:
    try:
        return read_regular(path, MAX_FILE).decode()
    except (OSError, ValueError) as error:
        raise WriteError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _is_yaml(path: str) -> bool:
    return path.lower().endswith((".yaml", ".yml"))


def _tree(path: str, text: str) -> dict[str, Any]:
    """The values of a file."""
    try:
        node, _ = parse_yaml(text) if _is_yaml(path) else parse_json(text)
    except ParseError as error:
        raise WriteError(f"is invalid now: {error.message}") from error
    found = plain(node)
    if not isinstance(found, dict):
        raise WriteError("is invalid now: expected an object")
    return found


def _as_text(path: str, tree: dict[str, Any]) -> str:
    if _is_yaml(path):
        return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=1_000_000)
    return json.dumps(tree, indent=2, ensure_ascii=False) + "\n"


def _loaded(path: str, config_dir: str, text: str) -> MosnConfig:
    filters = installed(FILTERS)
    loaded = load_text(text, path, _is_yaml(path), stream_filters=filters, config_dir=config_dir)
    if loaded.config is None:
        raise WriteError(f"would be invalid: {loaded.errors[0].text()}")
    return loaded.config


def _key_in(tree: dict[str, Any], name: str) -> str:
    """The spelling of a key in an object: case does not matter, an exact match counts first."""
    if name in tree:
        return name
    return next((key for key in tree if key.lower() == name), name)


def _list_at(tree: dict[str, Any], path: tuple[str, ...]) -> list[Any]:
    """The list at some keys of an object, which is made if it is not there."""
    *outer, last = path
    inner = tree
    for name in outer:
        found = inner.setdefault(_key_in(inner, name), [{}] if name == "servers" else {})
        inner = found[0] if isinstance(found, list) else found
    key = _key_in(inner, last)
    if inner.get(key) is None:
        inner[key] = []
    items: list[Any] = inner[key]
    return items


def _has_key(value: Any, name: str) -> bool:
    if isinstance(value, dict):
        return any((key.lower() == name and item) or _has_key(item, name) for key, item in value.items())
    return isinstance(value, list) and any(_has_key(item, name) for item in value)


def _write_beside(path: str, content: bytes, owner: os.stat_result) -> str:
    """Writes a new file next to another one, with its owner, mode and attributes; returns its path. OSError."""
    temporary = f"{path}.{os.getpid()}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)  # of a process that was killed
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            status = os.fstat(descriptor)
            if (status.st_uid, status.st_gid) != (owner.st_uid, owner.st_gid):
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            for name in os.listxattr(path):
                if not name.startswith("security."):
                    os.setxattr(descriptor, name, os.getxattr(path, name))
            file.write(content)
            os.fchmod(descriptor, stat.S_IMODE(owner.st_mode))
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        os.unlink(temporary)
        raise
    return temporary


def _sync(folder: str) -> None:
    """Makes the rename survive a crash of the machine."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
