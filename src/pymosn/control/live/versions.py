"""The last versions of the configuration, without their secrets: what was active, who changed it, and what was rejected.

A version is a list of sections: the process, each listener, cluster, router table and extension. Equal sections of several
versions are kept once, compressed. Blocks are immutable, so only those that differ from the version before are dumped, in a
thread. Changes that come faster than they can be recorded are recorded together. Hosts that a control plane or DNS exchanges
are not a version.
"""

from __future__ import annotations

import asyncio
import difflib
import hashlib
import json
import re
import time
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from itertools import islice
from typing import Any, Final

import msgspec

from pymosn.config.mosn_form import without_parts
from pymosn.config.schema import MosnConfig
from pymosn.control.plane import ChangeResult
from pymosn.core.errors import describe
from pymosn.core.log import ERROR, Log
from pymosn.core.redaction import redacted_text
from pymosn.filters.settings import Block

#: Versions, and rejected changes, that are kept.
KEPT: Final = 10
KEPT_REJECTIONS: Final = 20
#: Bytes of compressed sections; the oldest versions are dropped above it.
MOST_BYTES: Final = 16 * 1024 * 1024
#: The pause after recording a version is so many times as long as that took.
REST: Final = 10.0
#: Faults that are kept of a change, and characters of each.
MOST_FAULTS: Final = 20
LONGEST_FAULT: Final = 500
#: Sections of a difference that are shown, and lines of all of them.
MOST_SECTIONS: Final = 200
MOST_LINES: Final = 4_000
#: Lines of a section that are compared; of longer differences only the beginnings are shown, because comparing is quadratic.
MOST_COMPARED: Final = 2_000
#: Lines around a change.
CONTEXT: Final = 3

Digest = bytes
_HUNK: Final = re.compile(r"( [-+])(\d+)")
Shown = Callable[[Block], dict[str, Any]]


class UnknownVersionError(Exception):
    """There is no such version, or it is no longer kept; the text is the reason."""


class Version(msgspec.Struct, kw_only=True):
    """One change. `number`: its version if it was applied, or else the one that stayed active. `time`: since 1970.

    `sections`: digests by name; None for a rejected change. `skipped`: earlier versions that were recorded with it.
    """

    attempt: int
    number: int
    source: str
    applied: bool
    message: str
    time: float
    faults: list[dict[str, Any]]
    sections: dict[str, Digest] | None = None
    skipped: int = 0
    added: list[str] = []
    removed: list[str] = []
    changed: list[str] = []
    counts: tuple[int, int, int] = (0, 0, 0)

    def view(self) -> dict[str, Any]:
        """For JSON, without the sections; names of those that differ from the version before, of which there may be more."""
        return {
            "attempt": self.attempt,
            "version": self.number,
            "source": self.source,
            "applied": self.applied,
            "message": self.message,
            "time": round(self.time, 3),
            "faults": self.faults,
            "kept": self.sections is not None,
            "sections": len(self.sections or ()),
            "skipped": self.skipped,
            "added": self.added,
            "removed": self.removed,
            "changed": self.changed,
            "counts": dict(zip(("added", "removed", "changed"), self.counts, strict=True)),
        }


class Versions:
    """Records what is active after each change that is noted."""

    def __init__(
        self,
        config: Callable[[], MosnConfig],
        shown: Shown,
        log: Log | None = None,
        wall: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`config`: the active configuration; `shown`: a block without its secrets."""
        self._config = config
        self._shown = shown
        self._log = log or Log()
        self._wall = wall
        self._sleep = sleep
        self._applied: deque[Version] = deque()
        self._rejected: deque[Version] = deque(maxlen=KEPT_REJECTIONS)
        # Compressed sections by their digests.
        self._texts: dict[Digest, bytes] = {}
        self._bytes = 0
        # The blocks of the last version by name, with their digests.
        self._blocks: dict[str, tuple[Block, Digest]] = {}
        self._waiting: Version | None = None
        self._task: asyncio.Task[None] | None = None

    def note(self, result: ChangeResult) -> None:
        """A change was applied or rejected. The recording itself happens later."""
        faults = [_fault(fault.as_dict()) for fault in result.faults[:MOST_FAULTS]]
        version = Version(
            attempt=result.attempt,
            number=result.version,
            source=result.source,
            applied=result.applied,
            message=result.message,
            time=self._wall(),
            faults=faults,
        )
        if not result.applied:
            self._rejected.append(version)
            return
        if self._waiting is not None:
            version.skipped = self._waiting.skipped + 1
        self._waiting = version
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._record_all())

    async def settle(self) -> None:
        """Waits until everything is recorded."""
        while self._task is not None and not self._task.done():
            await asyncio.wait((self._task,))

    def close(self) -> None:
        """Records nothing more."""
        if self._task is not None:
            self._task.cancel()

    async def _record_all(self) -> None:
        while (version := self._waiting) is not None:
            self._waiting = None
            began = time.monotonic()
            try:
                sections = await asyncio.to_thread(self._dump, self._config())
            except Exception as error:
                self._log.write(ERROR, f"version {version.number} of the configuration is not recorded: {describe(error)}")
            else:
                self._keep(version, sections)
            await self._sleep(REST * (time.monotonic() - began))

    def _dump(self, config: MosnConfig) -> dict[str, Digest]:
        """The sections of a configuration; the texts of new ones are kept."""
        before, self._blocks = self._blocks, {}
        for name, block in blocks_of(config):
            known = before.get(name)
            if known is not None and (known[0] is block or known[0] == block):
                digest = known[1]
            else:
                text = json.dumps(self._shown(block), indent=2, ensure_ascii=False).encode("utf-8", "replace")
                digest = hashlib.sha256(text).digest()
                if digest not in self._texts:
                    self._texts[digest] = zlib.compress(text, 6)
            self._blocks[name] = block, digest
        return {name: digest for name, (_, digest) in self._blocks.items()}

    def _keep(self, version: Version, sections: dict[str, Digest]) -> None:
        before = self._applied[-1].sections if self._applied else None
        version.sections = sections
        if before is not None:
            added, removed, changed = _different(before, sections)
            version.counts = len(added), len(removed), len(changed)
            version.added, version.removed, version.changed = (names[:50] for names in (added, removed, changed))
        self._applied.append(version)
        while len(self._applied) > KEPT:
            self._applied.popleft()
        self._drop_unused()
        while self._bytes > MOST_BYTES and len(self._applied) > 1:
            self._applied.popleft()
            self._drop_unused()
        if self._bytes > MOST_BYTES:
            version.sections = None
            self._drop_unused()

    def _drop_unused(self) -> None:
        used = {digest for version in self._applied for digest in (version.sections or {}).values()}
        self._texts = {digest: text for digest, text in self._texts.items() if digest in used}
        if self._applied and self._applied[-1].sections is None:
            self._blocks = {}
        self._bytes = sum(map(len, self._texts.values()))

    # ---- views

    def view(self) -> dict[str, Any]:
        """All versions, the newest first, and all rejected changes."""
        return {
            "versions": [version.view() for version in reversed(self._applied)],
            "rejected": [version.view() for version in reversed(self._rejected)],
            "bytes": self._bytes,
        }

    def section_names(self, number: int, text: str, offset: int, limit: int) -> dict[str, Any]:
        """The names of a version's sections that contain `text`. UnknownVersionError."""
        names = [name for name in self._sections(number) if text.lower() in name.lower()]
        return {"version": number, "matched": len(names), "offset": offset, "names": names[offset : offset + limit]}

    def section(self, number: int, name: str) -> str:
        """The JSON text of a section. UnknownVersionError."""
        digest = self._sections(number).get(name)
        if digest is None:
            raise UnknownVersionError(f"version {number} has no section {name!r}")
        return self._text(digest)

    def difference(self, old: int, new: int) -> dict[str, Any]:
        """What differs between two versions, as lines of unified diffs. UnknownVersionError. To be called in a thread."""
        before, after = self._sections(old), self._sections(new)
        added, removed, changed = _different(before, after)
        names = [*((name, "changed") for name in changed), *((name, "added") for name in added)]
        names += [(name, "removed") for name in removed]
        left, sections = MOST_LINES, []
        for name, kind in names[:MOST_SECTIONS]:
            texts = [self._text(digest).splitlines() if digest else [] for digest in (before.get(name), after.get(name))]
            lines = list(islice(difference_of(*texts), left + 1))
            is_cut = len(lines) > left
            lines = lines[:left]
            left -= len(lines)
            sections.append({"name": name, "kind": kind, "lines": lines, "cut": is_cut})
        return {"from": old, "to": new, "different": len(names), "sections": sections}

    def _sections(self, number: int) -> dict[str, Digest]:
        for version in self._applied:
            if version.number == number and version.sections is not None:
                return version.sections
        kept = ", ".join(str(version.number) for version in self._applied if version.sections is not None)
        raise UnknownVersionError(f"version {number} is not kept; kept: {kept or 'none'}")

    def _text(self, digest: Digest) -> str:
        return zlib.decompress(self._texts[digest]).decode()


def blocks_of(config: MosnConfig) -> Iterable[tuple[str, Block]]:
    """The sections of a configuration, with names that are unique."""
    seen: dict[str, int] = {}

    def named(name: str) -> str:
        seen[name] = seen.get(name, 0) + 1
        return name if seen[name] == 1 else f"{name} ({seen[name]})"

    yield "process", without_parts(config)
    for server in config.servers[:1]:
        for listener in server.listeners:
            yield named(f"listener {listener.known_name()}"), listener
        for name, table in server.router_tables().items():
            yield named(f"routes {name}"), table
    for cluster in config.cluster_manager.clusters:
        yield named(f"cluster {cluster.name}"), cluster
    for extend in config.extends:
        yield named(f"extension {extend.type}"), extend


def difference_of(old: list[str], new: list[str]) -> Iterable[str]:
    """The lines of a unified diff without its file names."""
    start = 0
    while start < min(len(old), len(new)) and old[start] == new[start]:
        start += 1
    end = 0
    while end < min(len(old), len(new)) - start and old[-1 - end] == new[-1 - end]:
        end += 1
    first = max(0, start - CONTEXT)
    one, other = (lines[first : min(len(lines), len(lines) - end + CONTEXT)] for lines in (old, new))
    if max(len(one), len(other)) > MOST_COMPARED:
        lost, won = old[start : len(old) - end], new[start : len(new) - end]
        yield f"@@ -{start + 1},{len(lost)} +{start + 1},{len(won)} @@ too long to compare: only the beginnings"
        yield from (f"-{line}" for line in lost[: MOST_COMPARED // 4])
        yield from (f"+{line}" for line in won[: MOST_COMPARED // 4])
        return
    for line in islice(difflib.unified_diff(one, other, lineterm="", n=CONTEXT), 2, None):
        yield _HUNK.sub(lambda match: f"{match[1]}{int(match[2]) + first}", line) if line.startswith("@@") else line


def _different(before: dict[str, Digest], after: dict[str, Digest]) -> tuple[list[str], list[str], list[str]]:
    """The names of sections that were added, removed and changed."""
    added = [name for name in after if name not in before]
    removed = [name for name in before if name not in after]
    return added, removed, [name for name, digest in after.items() if before.get(name, digest) != digest]


def _fault(values: dict[str, Any]) -> dict[str, Any]:
    return {key: redacted_text(value)[:LONGEST_FAULT] if isinstance(value, str) else value for key, value in values.items()}
