"""The listeners of a worker that drain while it keeps running: see `draining.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pymosn.network.listener import Listener
from pymosn.server.messages import SetDrain


class DrainMode:
    """What the last `SetDrain` demands; also of listeners that are added later."""

    def __init__(self, close: Callable[[list[Listener]], object]) -> None:
        """`close`: makes listeners stop accepting."""
        self._close = close
        self._command = SetDrain([], [])

    def set(self, command: SetDrain, listeners: Iterable[Listener]) -> None:
        """Obeys a command. A listener that is no longer drained serves as before; one that is closed stays closed."""
        before, self._command = self._command, command
        for listener in listeners:
            if listener.name in before.drained and listener.name not in command.drained:
                listener.is_draining = False
        self.apply(listeners)

    def apply(self, listeners: Iterable[Listener]) -> None:
        """Drains and closes the listeners among these that have to be."""
        closed = [listener for listener in listeners if listener.name in self._command.closed]
        if closed:
            self._close(closed)
        for listener in listeners:
            if listener.name in self._command.drained and not listener.is_draining:
                listener.drain()
