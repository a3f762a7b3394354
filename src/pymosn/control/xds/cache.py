"""The last good resources on disk, so that a start without a control plane serves.

They are stored as they were received, without secrets of SDS. A listener may still have a key in it, so only the user of
the process can read the file (mode 0600).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

import msgspec

from pymosn.config.schema import MosnConfig
from pymosn.control.xds.types import CLUSTER, ENDPOINTS, EXTENSION, LISTENER, ROUTES, Resource
from pymosn.control.xds.warming import Store
from pymosn.core.errors import reason
from pymosn.core.files import require_replaceable
from pymosn.core.log import ALERT_DUMP, ERROR, WARN, Log

#: The types in the order in which they are restored.
KEPT: Final = (CLUSTER, ENDPOINTS, LISTENER, ROUTES, EXTENSION)
OFF: Final = "off"
_FORMAT: Final = 1
_NAME: Final = "resources.msgpack"
#: Maximum size in bytes of a file that is read.
_LARGEST: Final = 1 << 30


class _Content(msgspec.Struct, array_like=True):
    """Type URL -> name -> version and body."""

    format: int
    resources: dict[str, dict[str, tuple[str, bytes]]]


def cache_path(config: MosnConfig, base_dir: str) -> str:
    """The file of the cache; empty if it is switched off."""
    if config.xds_cache == OFF:
        return ""
    folder = config.xds_cache or os.path.join("logs", "xds_cache")
    return os.path.join(base_dir, folder, _NAME)


class Cache:
    """`path`: of the file; empty: nothing is stored."""

    def __init__(self, path: str, log: Log) -> None:
        self.path = path
        self.fault = ""
        self._log = log

    def load(self) -> Mapping[str, list[Resource]]:
        """The stored resources by type; none, with a line of the log, if the file is damaged."""
        if not self.path:
            return {}
        try:
            with open(self.path, "rb") as file:
                content = msgspec.msgpack.decode(file.read(_LARGEST), type=_Content)
            if content.format != _FORMAT:
                raise ValueError(f"format {content.format}")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            self._log.write(WARN, f"xDS: the cache {self.path} cannot be used: {reason(error) or error}")
            return {}
        return {
            kind: [Resource(name, version, body) for name, (version, body) in content.resources.get(kind, {}).items()]
            for kind in KEPT
        }

    def content(self, store: Store) -> bytes:
        """What `write` takes. `store`: the accepted resources."""
        kept = {kind: {name: (entry.version, entry.body) for name, entry in store.get(kind, {}).items()} for kind in KEPT}
        return msgspec.msgpack.encode(_Content(_FORMAT, kept))

    def write(self, content: bytes) -> None:
        """Replaces the file as a whole. A fault is logged once."""
        if not self.path:
            return
        new = f"{self.path}.new"
        try:
            require_replaceable(self.path)
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with open(descriptor, "wb") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, self.path)
        except OSError as error:
            fault = reason(error) or str(error)
            if fault != self.fault:
                self._log.write(ERROR, f"xDS: the cache {self.path} cannot be written: {fault}", ALERT_DUMP)
            self.fault = fault
            return
        self.fault = ""
