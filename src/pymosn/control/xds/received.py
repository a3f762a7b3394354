"""What responses contained, before it is applied: merged if several have arrived, and the text of its faults. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Final

from pymosn.control.xds.exchanges import Entry, Response
from pymosn.control.xds.types import Update

#: Maximum characters of the reasons in a NACK.
MAX_ERROR: Final = 16_000
_TWICE: Final = "more than one resource of this name in one response; all are rejected"


class Received:
    """What one response contained, or several that were merged. `nonce`: of the newest one."""

    def __init__(self, response: Response, is_first: bool) -> None:
        self.version = response.version
        self.nonce = response.nonce
        self.is_first = is_first
        self.entries: dict[str, Entry] = {}
        self.faults: dict[str, str] = {}
        self.removed = dict.fromkeys(response.removed)
        # Whether the name of a resource could not be read, so that nothing counts as missing.
        self.has_nameless = False
        for i, entry in enumerate(response.entries):
            if not entry.name:
                self.faults[f"resources[{i}]"] = entry.fault or "it has no name"
                self.has_nameless = True
            elif entry.name in self.entries or entry.name in self.faults:
                self.faults[entry.name] = _TWICE
                self.entries.pop(entry.name, None)
            elif entry.fault:
                self.faults[entry.name] = entry.fault
            else:
                self.entries[entry.name] = entry
            self.removed.pop(entry.name, None)
        self.is_heartbeat = bool(self.entries) and not self.faults and all(e.body is None for e in self.entries.values())

    def absorb(self, older: Received) -> None:
        """Adds what only an older response contained."""
        for name, entry in older.entries.items():
            newer = self.entries.get(name)
            if newer is not None and newer.body is None:
                self.entries[name] = entry._replace(ttl=newer.ttl)  # a heartbeat of content that was not applied yet
            elif newer is None and name not in self.faults and name not in self.removed:
                self.entries[name] = entry
        for name, fault in older.faults.items():
            if name not in self.entries and name not in self.removed:
                self.faults.setdefault(name, fault)
        for name in older.removed:
            if name not in self.entries and name not in self.faults:
                self.removed.setdefault(name)
        self.is_first = self.is_first or older.is_first
        self.has_nameless = self.has_nameless or older.has_nameless
        self.is_heartbeat = self.is_heartbeat and older.is_heartbeat


def joined(faults: Mapping[str, str]) -> str:
    """The reasons of a NACK, with the names of the resources; the rest is counted if they are too long."""
    parts: list[str] = []
    length = 0
    for i, (name, fault) in enumerate(faults.items()):
        part = f"{name}: {fault}"
        if parts and length + len(part) > MAX_ERROR:
            parts.append(f"and {len(faults) - i} more")
            break
        parts.append(part[:MAX_ERROR])
        length += len(part) + 2
    return "; ".join(parts)


def content_digest(update: Update, faults: Mapping[str, str]) -> bytes:
    """Identifies the content of a rejected response: not its version and nonce, which change each time."""
    digest = hashlib.blake2b(digest_size=16)
    for part in _content(update, faults):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()


def _content(update: Update, faults: Mapping[str, str]) -> Iterator[bytes]:
    for resource in sorted(update.resources):
        yield resource.name.encode()
        yield resource.body
    for name in sorted(faults):
        yield name.encode()
