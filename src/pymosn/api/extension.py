"""The interface of extensions of the process: classes in Python that change the configuration while it runs.

An extension is an entry of `extends` with the type `python`. It runs in the supervisor, not in the workers, so it sees no
traffic; what it changes takes the same path as a change by the admin API, and is activated in every worker or nowhere.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Mapping
from typing import Any, ClassVar, Final, Literal

from mypy_extensions import mypyc_attr

#: The kinds of blocks that an extension may change.
Kind = Literal["listener", "router", "cluster"]
KINDS: Final = ("listener", "router", "cluster")

#: A block of the configuration with MOSN's keys, as in the file.
JsonBlock = Mapping[str, Any]


@mypyc_attr(allow_interpreted_subclasses=True)
class Change:
    """One step of a change. Its subclasses are all there are."""

    __slots__ = ()


class Put(Change):
    """Adds a listener, router table or cluster, or replaces the one of the same name."""

    __slots__ = ("block", "kind")

    def __init__(self, kind: Kind, block: JsonBlock) -> None:
        """`block`: as in the configuration file, with its name."""
        self.kind = kind
        self.block = block


class Remove(Change):
    """Removes a listener, router table or cluster."""

    __slots__ = ("kind", "name")

    def __init__(self, kind: Kind, name: str) -> None:
        self.kind = kind
        self.name = name


class SetHosts(Change):
    """Gives a cluster these hosts instead of those that it has."""

    __slots__ = ("cluster", "hosts")

    def __init__(self, cluster: str, hosts: Iterable[str | JsonBlock]) -> None:
        """`hosts`: addresses (`HOST:PORT`), or blocks as in the configuration file."""
        self.cluster = cluster
        self.hosts = [{"address": host} if isinstance(host, str) else host for host in hosts]


class ChangeRejected(Exception):
    """A change was rejected; nothing has changed. `faults`: a line for each error, with the path of the value."""

    def __init__(self, message: str, faults: Iterable[str] = ()) -> None:
        self.faults = list(faults)
        super().__init__("; ".join([message, *self.faults]))


@mypyc_attr(allow_interpreted_subclasses=True)
class Plane:
    """What an extension may do in the process. Given to its `start`."""

    def config(self) -> dict[str, Any]:
        """The active configuration, with what xDS and other changes have added, and without secrets."""
        raise NotImplementedError

    async def apply(self, *changes: Change) -> None:
        """Makes all changes at once, in this order, or none of them. Returns when they are active in every worker.

        Whatever is set this way outlives reloads of the file, which are joined with it, until the extension sets it
        otherwise or is removed from the file. Raises ChangeRejected; a change that changes nothing is accepted.
        """
        raise NotImplementedError

    def write(self, text: str) -> None:
        """Writes a line to the process log."""
        raise NotImplementedError

    def create_task(self, work: Coroutine[Any, Any, Any]) -> None:
        """Runs `work` in the background until it ends or the extension stops; an exception is logged."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class Extension:
    """Base of extensions. One object in each process, and a new one when its file or its settings change."""

    #: A msgspec.Struct or pydantic model for `config`; without it `config` is a dict.
    Config: ClassVar[Any] = None

    def __init__(self, config: Any) -> None:
        """`config`: an instance of `Config`, else a dict. Raise to reject the configuration."""
        self.config: Any = config

    async def start(self, plane: Plane) -> None:
        """Called when the workers serve. Raise to prevent the start of the process; later it is tried again."""

    async def stop(self) -> None:
        """Called at the end, and before another object takes over. Its background tasks have ended by then."""
