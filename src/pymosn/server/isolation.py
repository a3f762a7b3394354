"""Finds the items of xDS that cannot be activated, if the faults of the workers name none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from pymosn.control.xds.layer import CLUSTER, LISTENER, TABLE, Layer, Owner

#: Attempts to activate a part; what is left then is rejected without another attempt.
MAX_ATTEMPTS: Final = 40

#: Activates a layer; returns why it could not, empty if it could.
Activate = Callable[[Layer], Awaitable[str]]


def differing(before: Layer, after: Layer) -> list[Owner]:
    """The items that differ, in an order in which they can be activated: clusters, tables, listeners."""
    found = []
    for kind in (CLUSTER, TABLE, LISTENER):
        old, new = before.items(kind), after.items(kind)
        found += [Owner(kind, name) for name in dict.fromkeys((*new, *old)) if new.get(name) is not old.get(name)]
    return found


async def isolate(before: Layer, after: Layer, why: str, activate: Activate) -> dict[Owner, str]:
    """Activates as much of `after` as possible, half by half; returns the items that could not be, and why.

    `before`: what is active. `why`: of the failed attempt to activate all of `after`. Nothing is returned if no item is the
    cause: not even what is active could be activated again.
    """
    search = _Search(before, after, activate)
    owners = differing(before, after)
    await search.halve(owners, why)
    if search.good is before and await activate(before):
        return {}
    return search.rejected


class _Search:
    """`good`: what is active by now."""

    def __init__(self, before: Layer, after: Layer, activate: Activate) -> None:
        self.good = before
        self.rejected: dict[Owner, str] = {}
        self._after = after
        self._activate = activate
        self._attempts = 0

    async def halve(self, owners: Sequence[Owner], why: str) -> None:
        """Activates as many of the owners as possible, which together could not be because of `why`."""
        if len(owners) <= 1:
            self.rejected.update(dict.fromkeys(owners, why))
            return
        middle = len(owners) // 2
        for half in (owners[:middle], owners[middle:]):
            if self._attempts >= MAX_ATTEMPTS:
                self.rejected.update(dict.fromkeys(half, why))
                continue
            self._attempts += 1
            layer = self.good
            for owner in half:
                layer = layer.with_item(owner, self._after.items(owner.kind).get(owner.name))
            fault = await self._activate(layer)
            if not fault:
                self.good = layer
            else:
                await self.halve(half, fault)
