"""The configuration that a worker has, and its parts."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from pymosn.assembly.packed_change import changed, decode_change
from pymosn.assembly.packed_config import PackedCluster, PackedConfig, Parts, decode
from pymosn.assembly.steps import Steps

#: Parts that may be there for nothing: so many, or this share of all. Then those that are not used are dropped.
MIN_UNUSED: Final = 64
SHARE: Final = 0.125
#: Parts in one step.
PARTS_PER_STEP: Final = 500


class WorkerParts:
    """Follows the commands as they are received, so that a difference is applied to what the supervisor assumes.

    What the commands do may come later: it waits its turn.
    """

    def __init__(self) -> None:
        # What is active once all commands have been executed.
        self._active: PackedConfig | None = None
        self._checked: tuple[int, PackedConfig] | None = None
        # The parts of the active configuration and some that are not used any more, and those received for the next one.
        self._parts: Parts = {}
        self._new: Parts = {}
        self._unused = 0

    def receive(self, digest: bytes, content: bytes) -> None:
        """Adds a part for the next configuration."""
        self._new[digest] = content

    def configure(self, config: bytes) -> PackedConfig:
        """The first configuration. Raises msgspec.DecodeError."""
        packed = decode(config, self._taken())
        self._parts = packed.kept_parts()
        self._active = replace(packed, parts={})
        return packed

    def check(self, change: int, difference: bytes) -> PackedConfig:
        """The configuration after a change. Raises msgspec.DecodeError."""
        parts = self._taken()
        assert self._active is not None
        packed = changed(self._active, decode_change(difference), parts)
        self._checked = change, packed
        return packed

    def set_hosts(self, name: str, cluster: PackedCluster) -> Parts:
        """Notes the new hosts of a cluster; returns their parts."""
        active, parts = self._active, self._taken()
        assert active is not None
        self._active = replace(active, clusters={**active.clusters, name: cluster})
        return parts

    def activate(self, change: int) -> None:
        """The configuration that was checked with this number will be active."""
        if self._checked is not None and self._checked[0] == change:
            packed = self._checked[1]
            self._unused += max(0, len(packed.parts) - len(self._parts))
            self._active, self._parts = replace(packed, parts={}), packed.parts
        self._checked = None

    def tidy(self) -> Steps[None]:
        """Drops what is not used any more, in steps, as soon as it is worth the time."""
        active, parts = self._active, self._parts
        if active is None or self._unused <= max(MIN_UNUSED, SHARE * len(parts)):
            return
        kept: Parts = {}
        for count, digest in enumerate(active.kept_digests()):
            kept[digest] = parts[digest]
            if not count % PARTS_PER_STEP:
                yield
        if parts is self._parts:
            self._parts, self._unused = kept, 0

    def _taken(self) -> Parts:
        """All parts that the next configuration may refer to."""
        new, self._new = self._new, {}
        return {**self._parts, **new}
