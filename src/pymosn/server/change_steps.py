"""Small parts of a change: see `changes.py`."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable
from typing import Final, NamedTuple, Protocol

from msgspec.structs import replace

from pymosn.assembly.extensions import python_extensions
from pymosn.assembly.packed_config import Digest, Parts
from pymosn.config.diagnostics import Diagnostic, Places
from pymosn.config.schema import MosnConfig
from pymosn.control.plane import Candidate, ChangeResult
from pymosn.control.xds.layer import Merged, Owner
from pymosn.core.log import ALERT_CONFIG, ERROR, INFO, WARN, Log
from pymosn.filters.sources import Sources
from pymosn.server.messages import Command, Part
from pymosn.server.tls_files import TlsRead

#: Why changes are rejected after an upgrade.
TAKEN_OVER: Final = "another process has taken over"


class FollowAll(Protocol):
    """See `Services.follow`."""

    def __call__(self, config: MosnConfig, only_hosts: bool = False) -> None: ...


class Extending(Protocol):
    """What changes need of the extensions of the process: see `Extensions`."""

    def joined(self, candidate: Candidate) -> Candidate: ...
    async def prepare(self, config: MosnConfig, sources: Sources) -> list[Diagnostic]: ...
    def activate(self) -> None: ...
    def abandon(self) -> None: ...


class NoExtensions:
    """Without any, as until the first ones start."""

    def joined(self, candidate: Candidate) -> Candidate:
        return candidate

    async def prepare(self, config: MosnConfig, sources: Sources) -> list[Diagnostic]:
        return []

    def activate(self) -> None: ...
    def abandon(self) -> None: ...


class Reads(NamedTuple):
    """What is read again: see `Changes.apply`."""

    filters: bool = False
    tls: bool = False
    tls_read: TlsRead | None = None


class Tried(NamedTuple):
    """`rejected`: items of xDS that kept their last state. `sent_hosts`: only hosts had changed."""

    errors: list[Diagnostic]
    warnings: list[Diagnostic]
    rejected: dict[Owner, str]
    sent_hosts: bool


def files_of(places: Places) -> set[str]:
    """The real paths of the files that a configuration was read from."""
    return {os.path.realpath(file) for file in {place.file for place in places.values()} if file}


def part_commands(wanted: Iterable[Digest], parts: Parts, known: Container[Digest] = ()) -> list[Command]:
    """The commands that send the `wanted` ones of `parts` to workers that have those in `known`."""
    return [Part(digest, parts[digest]) for digest in dict.fromkeys(wanted) if digest not in known]


def listener_faults(merged: Merged, names: Iterable[str], lines: Iterable[str]) -> list[Diagnostic]:
    """The errors `lines` of the listeners with these names, with the paths of those of xDS."""
    listeners = merged.config.servers[0].listeners
    paths = {listener.known_name(): f"servers[0].listeners[{i}]" for i, listener in enumerate(listeners)}
    paths = {name: path for name, path in paths.items() if merged.owner_at(path) is not None}
    return [Diagnostic(message=line, path=paths.get(name, "")) for name, line in zip(names, lines, strict=True)]


def extension_errors(old: MosnConfig, new: MosnConfig) -> list[Diagnostic]:
    """The error of a change that is not the operator's own, and names other code to run in the supervisor."""
    settings = [[entry.settings for entry in python_extensions(config)] for config in (old, new)]
    text = "extensions of type `python` can be changed only by the configuration file"
    return [] if settings[0] == settings[1] else [Diagnostic(message=text, path="extends")]


def log_result(log: Log, result: ChangeResult, rejection: str) -> None:
    """Logs the result of a change. `rejection`: why no change is accepted; empty if they are."""
    name = f"change from {result.source}"
    if rejection == TAKEN_OVER and not result.applied:
        # Nothing is wrong: a signal reaches the new process, too, and a client learns which one to ask.
        log.write(INFO, f"{name}: an upgrade came first; it is left to the process that has taken over")
        return
    log.write(INFO if result.applied else ERROR, f"{name}: {result.message}", "" if result.applied else ALERT_CONFIG)
    for fault in result.faults:
        log.write(WARN if fault.severity == "warning" else ERROR, f"{name}: {fault.text()}")


def only_at_start(old: MosnConfig, new: MosnConfig) -> list[Diagnostic]:
    """A warning for each change that requires a restart."""
    old_server, new_server = old.servers[0], new.servers[0]
    keys = ("processor", "default_log_path", "default_log_level", "global_log_roller")
    # The folders of the admin API take effect immediately.
    admins = [None if admin is None else replace(admin, allowed_folders=[]) for admin in (old.admin, new.admin)]
    changed = ["admin"] if admins[0] != admins[1] else []
    sections = ("pprof", "dynamic_resources", "static_resources", "node")
    once = ("pid", "user", "group", "umask", *sections, "xds_cache", "xds_max_message_bytes", "xds_removal_guard")
    changed += [key for key in once if getattr(old, key) != getattr(new, key)]
    changed += [f"servers[0].{key}" for key in keys if getattr(old_server, key) != getattr(new_server, key)]
    text = "changed; takes effect after a restart"
    return [Diagnostic(severity="warning", path=path, message=text) for path in changed]
