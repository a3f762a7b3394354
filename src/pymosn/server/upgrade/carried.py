"""The state that one generation leaves to the next, in kinds that are independent of each other.

Each kind encodes its own content, so that one more kind changes no message. A kind that the other version does not know is
ignored; content that cannot be read is reported, and its kind starts empty.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from typing import Final, NamedTuple

from pymosn.core.errors import describe
from pymosn.core.log import WARN, Log
from pymosn.server.upgrade.messages import Carried, CarriedPart

#: Maximum bytes of a content in one message: sending or receiving it takes some milliseconds.
PART: Final = 4 * 1024 * 1024


class Kind(NamedTuple):
    """One kind of state. `export`: its content now, None for nothing. `adopt`: takes the other's content over.

    `export` may return several contents, each of which is made when the event loop has done something else; `adopt` gets one
    after the other, and so must add them to each other. It raises ValueError (`msgspec.MsgspecError` is one) if the content
    is invalid. `is_final`: it is exported again when the successor is ready, because it changes meanwhile. `is_repeated`:
    and then each second until the end; it is not adopted before the workers serve. `in_thread`: `export` takes time, and
    may run in a thread. `begin`: called before the first export for a successor.
    """

    name: str
    export: Callable[[], bytes | Iterable[bytes] | None]
    adopt: Callable[[bytes], None]
    is_final: bool = False
    is_repeated: bool = False
    in_thread: bool = False
    begin: Callable[[], None] = lambda: None


class CarriedState:
    """All kinds of state of this process."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._kinds: dict[str, Kind] = {}

    def add(self, kind: Kind) -> None:
        """Adds a kind, whose name is on the wire."""
        self._kinds[kind.name] = kind

    async def export(self, *, only_final: bool = False, without: Collection[str] = ()) -> AsyncIterator[tuple[str, bytes]]:
        """The names and contents of all kinds, or of those that change while the successor starts; `without` these."""
        for kind in [kind for name, kind in self._kinds.items() if name not in without]:
            if not only_final:
                kind.begin()
            if kind.is_final or not only_final:
                async for content in _export(kind):
                    yield kind.name, content

    async def export_repeated(self) -> AsyncIterator[tuple[str, bytes]]:
        """The names and contents of the kinds that are exported each second until the end, and once more at the end."""
        for kind in [kind for kind in self._kinds.values() if kind.is_repeated]:
            async for content in _export(kind):
                yield kind.name, content

    def is_repeated(self, name: str) -> bool:
        """Whether a kind is exported each second."""
        return name in self._kinds and self._kinds[name].is_repeated

    def adopt(self, name: str, content: bytes) -> None:
        """Takes the content of a kind over."""
        kind = self._kinds.get(name)
        if kind is None:
            return
        try:
            kind.adopt(content)
        except ValueError as error:
            self._log.write(WARN, f"upgrade: {name} of the old generation cannot be read: {describe(error)}")


async def _export(kind: Kind) -> AsyncIterator[bytes]:
    """The contents of a kind. The event loop does something else after each."""
    found = await asyncio.to_thread(kind.export) if kind.in_thread else kind.export()
    for content in [found] if isinstance(found, bytes) else found or ():
        yield content
        await asyncio.sleep(0)


def messages_of(kind: str, content: bytes) -> list[Carried | CarriedPart]:
    """The messages for one content."""
    starts = range(0, max(1, len(content)), PART)
    *parts, last = [content[start : start + PART] for start in starts]
    return [*(CarriedPart(kind, part) for part in parts), Carried(kind, last)]


class Parts:
    """Joins the parts of contents."""

    def __init__(self) -> None:
        self._parts: dict[str, list[bytes]] = {}

    def add(self, part: CarriedPart) -> None:
        """Keeps a part until the last one arrives."""
        self._parts.setdefault(part.kind, []).append(part.content)

    def whole(self, last: Carried) -> Carried:
        """The whole content, whose last part has arrived."""
        parts = self._parts.pop(last.kind, [])
        return Carried(last.kind, b"".join((*parts, last.content))) if parts else last
