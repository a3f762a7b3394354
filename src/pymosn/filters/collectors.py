"""Prometheus collectors that filters register: a new version of a filter can register the same names again.

prometheus_client rejects a name that its registry has already. So the collectors of each module and each filter are recorded
(`Registrations`), and those of the version that is being replaced make room (`Replacement`). pymosn itself does not import
prometheus_client in workers: its registry is wrapped once code of a filter has imported it.
"""

from __future__ import annotations

import contextlib
import sys
import weakref
from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Any, Final

#: Whose registrations are being made: of the module that is being imported, or the filter that is being made or started.
_RECORDING: Final[ContextVar[Registrations | None]] = ContextVar("registrations", default=None)
#: Collectors that were removed for their filters, which may still unregister them in `stop`.
_REMOVED: Final[weakref.WeakSet[Any]] = weakref.WeakSet()


class Registrations:
    """The collectors that one module or one filter has registered."""

    def __init__(self, replacement: Replacement | None = None) -> None:
        """`replacement`: of the change that this is a part of, until it is active."""
        self.replacement = replacement
        #: Registry and collector.
        self.entries: list[tuple[Any, Any]] = []

    def recording(self) -> _Recording:
        """A context in which all registrations are recorded, also those of tasks that are created there."""
        return _Recording(self)

    def remove(self) -> None:
        """Unregisters all of them."""
        entries, self.entries = self.entries, []
        for registry, collector in reversed(entries):
            _remove(registry, collector)


class _Recording:
    """Not a generator: `contextlib` changes the traceback of an error, which may be an object that refuses this."""

    def __init__(self, owner: Registrations) -> None:
        self._owner = owner
        self._token: Token[Registrations | None] | None = None

    def __enter__(self) -> None:
        self._token = _RECORDING.set(self._owner)

    def __exit__(self, *error: object) -> None:
        if self._token is not None:
            _RECORDING.reset(self._token)


class Replacement:
    """The collectors of the modules and filters that one change replaces. They stay registered if nothing is in the way."""

    def __init__(self) -> None:
        self._old: list[Registrations] = []
        self._new: list[Registrations] = []
        self._removed: list[tuple[Any, Any]] = []

    def replace(self, old: Registrations) -> None:
        """Adds collectors that are removed when the change is active, or earlier if a new one has their name."""
        self._old.append(old)

    def record(self) -> Registrations:
        """New registrations of this change."""
        made = Registrations(self)
        self._new.append(made)
        return made

    def commit(self) -> None:
        """The change is active."""
        for old in self._old:
            old.remove()
        for new in self._new:
            new.replacement = None
        self._removed.clear()

    def rollback(self) -> None:
        """The change is abandoned: restores what had to make room."""
        for new in self._new:
            new.remove()
        for registry, collector in self._removed:
            _restore(registry, collector)
        self._removed.clear()

    def make_room(self, registry: Any, register: Callable[[], None]) -> bool:
        """Removes old collectors until `register` succeeds, and restores those that were not in its way."""
        freed: list[Any] = []
        is_registered = False
        for collector in [collector for old in self._old for known, collector in old.entries if known is registry]:
            if collector not in _REMOVED and _remove(registry, collector):
                freed.append(collector)
                with contextlib.suppress(ValueError):
                    register()
                    is_registered = True
                    break
        self._removed += [(registry, collector) for collector in freed if not _restore(registry, collector)]
        return is_registered


def _remove(registry: Any, collector: Any) -> bool:
    """Unregisters a collector; False if it was not registered."""
    try:
        registry.pymosn_unregister(collector)
    except BaseException:  # KeyError if it is not registered; a collector's own code may raise anything
        return False
    with contextlib.suppress(TypeError):  # a class with `__slots__` and no weak references
        _REMOVED.add(collector)
    return True


def _restore(registry: Any, collector: Any) -> bool:
    """Registers a removed collector again; False if one of its names is in use."""
    try:
        registry.pymosn_register(collector)
    except BaseException:  # ValueError if a name is in use; see above
        return False
    with contextlib.suppress(TypeError):
        _REMOVED.discard(collector)
    return True


def wrap_registry(owner_of: Callable[[], Registrations | None]) -> None:
    """Wraps the registry of prometheus_client if that has been imported.

    `owner_of`: the registrations of the module that is calling, for those that are made while requests are served.
    """
    module = sys.modules.get("prometheus_client.registry")
    kind: Any = getattr(module, "CollectorRegistry", None)
    if kind is None or hasattr(kind, "pymosn_register"):
        return
    register_one, unregister_one = kind.register, kind.unregister
    kind.pymosn_register, kind.pymosn_unregister = register_one, unregister_one

    def register(self: Any, collector: Any) -> None:
        owner = _RECORDING.get() or owner_of()
        try:
            register_one(self, collector)
        except ValueError:
            change = None if owner is None else owner.replacement
            if change is None or not change.make_room(self, lambda: register_one(self, collector)):
                raise
        if owner is not None:
            owner.entries.append((self, collector))

    def unregister(self: Any, collector: Any) -> None:
        try:
            unregister_one(self, collector)
        except KeyError:
            if collector not in _REMOVED:
                raise

    kind.register, kind.unregister = register, unregister
