"""The state that one generation leaves to the next, in kinds that are independent of each other.

Each kind encodes its own content, so that one more kind changes no message. A kind that the other version does not know is
ignored; content that cannot be read is reported, and its kind starts anew.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

from pymosn.core.errors import describe
from pymosn.core.log import WARN, Log


class Kind(NamedTuple):
    """One kind of state. `export`: its content now, None for nothing. `adopt`: takes the other's content over.

    `export` may return several contents if one would be too large; `adopt` gets one after the other, and so must add them
    to each other. It raises ValueError (`msgspec.MsgspecError` is one) if the content is invalid. `is_final`: it is exported
    again when the successor is ready, because it changes meanwhile. `is_repeated`: and then each second until the end.
    `begin`: called before the first export for a successor.
    """

    name: str
    export: Callable[[], bytes | list[bytes] | None]
    adopt: Callable[[bytes], None]
    is_final: bool = False
    is_repeated: bool = False
    begin: Callable[[], None] = lambda: None


class CarriedState:
    """All kinds of state of this process."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._kinds: dict[str, Kind] = {}

    def add(self, kind: Kind) -> None:
        """Adds a kind, whose name is on the wire."""
        self._kinds[kind.name] = kind

    def export(self, *, only_final: bool = False, without: Collection[str] = ()) -> list[tuple[str, bytes]]:
        """The names and contents of all kinds, or of those that change while the successor starts; `without` these."""
        found = []
        for kind in [kind for name, kind in self._kinds.items() if name not in without]:
            if not only_final:
                kind.begin()
            if kind.is_final or not only_final:
                found += _export(kind)
        return found

    def export_repeated(self) -> list[tuple[str, bytes]]:
        """The names and contents of the kinds that are exported each second until the end, and once more at the end."""
        return [part for kind in self._kinds.values() if kind.is_repeated for part in _export(kind)]

    def adopt(self, name: str, content: bytes) -> None:
        """Takes the content of a kind over."""
        kind = self._kinds.get(name)
        if kind is None:
            return
        try:
            kind.adopt(content)
        except ValueError as error:
            self._log.write(WARN, f"upgrade: {name} of the old generation cannot be read: {describe(error)}")


def _export(kind: Kind) -> list[tuple[str, bytes]]:
    content = kind.export()
    contents = content if isinstance(content, list) else [content]
    return [(kind.name, part) for part in contents if part is not None]
