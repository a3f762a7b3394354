"""A start that takes over from MOSN: before the configuration is used, and after the workers serve."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from typing import Any, Final

from msgspec import structs

from pymosn.config.diagnostics import Place
from pymosn.config.json_nodes import parse_json
from pymosn.config.load import Loaded, load_text
from pymosn.config.nodes import ParseError, plain
from pymosn.config.schema import MosnConfig
from pymosn.config.yaml_nodes import parse_yaml
from pymosn.control.service import Service
from pymosn.control.threads import off_loop
from pymosn.core.addresses import split_address, unmapped
from pymosn.core.files import MAX_FILE, read_regular
from pymosn.core.log import INFO, WARN, Log
from pymosn.filters.loading import FILTERS, installed
from pymosn.server.listeners import ListenerSockets
from pymosn.server.run_options import NOT_TAKEN_OVER, ConfigSource, StartError, with_bootstrap, with_node
from pymosn.server.socket_groups import Binding, GivenSockets, SocketGroup
from pymosn.server.sockets import TRANSPARENT, BindError, resolve
from pymosn.server.upgrade.mosn import OldMosn, TakeoverError, find, socket_folder
from pymosn.server.upgrade.mosn_files import KeptFiles

#: What a new MOSN takes from the old one's configuration.
_INHERITED: Final = ("servers", "cluster_manager", "extends")
#: Seconds for the acknowledgment, which has a shorter limit of its own.
_TIME: Final = 30.0


def old_mosn(source: ConfigSource, config: MosnConfig) -> OldMosn | None:
    """The MOSN that this start replaces; None if there is none, or if the configuration excludes it. TakeoverError."""
    # Only for files of MOSN, not for Envoy's.
    if type(source) is not ConfigSource or source.path is None or config.disable_upgrade or config.close_graceful:
        return None
    return find(socket_folder(source.path, config.uds_dir), config.inherit_old_mosnconfig)


def with_inherited(source: ConfigSource, content: bytes) -> Loaded:
    """The configuration of `source` with servers, clusters and extensions of MOSN's, as `inherit_old_mosnconfig` asks.

    `content`: what MOSN has sent. Errors are in the result; they name no lines, because the text is nowhere in a file.
    """
    assert source.path is not None
    folder = os.path.dirname(os.path.abspath(source.path))
    try:
        own = read_regular(source.path, MAX_FILE).decode()
        is_yaml = source.path.lower().endswith((".yaml", ".yml"))
        merged = _parsed(own, is_yaml)
        old = _parsed(content.decode(), False)
    except ParseError as error:
        return source.unreadable(f"cannot be joined with MOSN's configuration: {error.message}")
    except (OSError, ValueError) as error:
        return source.unreadable(f"cannot be joined with MOSN's configuration: {error}")
    merged.update({key: old[key] for key in _INHERITED if old.get(key) is not None})
    name = f"{source.name} with MOSN's configuration"
    loaded = load_text(json.dumps(merged), name, stream_filters=installed(FILTERS), config_dir=folder)
    # Positions in the joined text would be misleading.
    faults = [structs.replace(fault, line=0, column=0) for fault in loaded.faults]
    loaded = structs.replace(loaded, faults=faults, places={"": Place(name)})
    return with_bootstrap(loaded if source.node is None else with_node(loaded, source.node))


def _parsed(text: str, yaml: bool) -> dict[str, Any]:
    """ParseError, ValueError."""
    node, _ = parse_yaml(text) if yaml else parse_json(text)
    found = plain(node)
    if not isinstance(found, dict):
        raise ValueError("expected an object")
    return found


class MosnSockets(GivenSockets):
    """The sockets of MOSN."""

    def __init__(self, old: OldMosn) -> None:
        self._old = old

    def take(self, binding: Binding) -> SocketGroup | None:
        host, port = binding.address, 0
        if binding.network != "unix":
            host, port = split_address(binding.address)
            with contextlib.suppress(OSError):
                host = unmapped(resolve(host, 0)[1][0])
        found = self._old.find(binding.network, host, port)
        if found is None:
            return None
        sock = found.sock.dup()
        sock.setblocking(False)
        try:
            if binding.is_transparent and not found.is_transparent:
                sock.setsockopt(*TRANSPARENT[sock.family], 1)
        except OSError as error:
            sock.close()
            raise BindError(f"MOSN's socket {found.address} cannot be made transparent: {error.strerror}") from error
        if binding.network == "udp":
            # One worker reads it: another socket in this group would get the datagrams of some clients.
            return SocketGroup([sock], is_kept=True)
        return SocketGroup([sock], is_shared=True, is_kept=True)


class MosnTakeover(Service):
    """Started when the workers serve: from then on MOSN leaves, or this start fails."""

    name = "takeover from MOSN"

    def __init__(self, old: OldMosn, sockets: ListenerSockets, on_taken: Callable[[], object], log: Log) -> None:
        """`on_taken` is called when MOSN has left the sockets to this process."""
        self._old = old
        self._on_taken = on_taken
        self._sockets = sockets
        self._log = log
        self._files: KeptFiles | None = None

    async def start(self) -> None:
        """StartError if MOSN does not leave."""
        for spare in self._old.unused():
            self._log.write(INFO, f"MOSN's socket {spare.network} {spare.address} is not used")
        try:
            warning = await off_loop(_TIME, self._old.confirm)
        except (TakeoverError, TimeoutError) as error:
            raise StartError(lines=[f"taking over from MOSN: {error}"], code=NOT_TAKEN_OVER) from error
        self._on_taken()
        self._keep_files()
        self._log.write(WARN if warning else INFO, warning or "MOSN is replaced, and ends when its connections are closed")
        self._old.close()

    def _keep_files(self) -> None:
        paths = self._old.used_files()
        if not paths:
            return
        try:
            self._files = KeptFiles(paths, self._old.process(), self._sockets.has_file, self._log)
        except OSError as error:
            self._log.write(WARN, f"MOSN will remove {', '.join(paths)} when it ends; restart this process then ({error})")

    async def stop(self) -> None:
        if self._files is not None:
            self._files.close()
            self._files = None
        self._old.close()
