"""Protocols that installed packages offer: entry points of the group `pymosn.protocols`. `docs/protocols.md`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pymosn.api.rpc import RpcSpec
from pymosn.api.stream import StreamProtocol
from pymosn.filters.stream.python import describe
from pymosn.stream.rpc.protocol import RpcProtocol

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINTS: Final = "pymosn.protocols"


class ProtocolLoadError(Exception):
    """A protocol cannot be loaded or made; the text says why."""


def installed_protocols() -> list[str]:
    """Names of the protocols that installed packages offer."""
    return sorted({point.name for point in _entry_points()})


def _entry_points() -> list[EntryPoint]:
    from importlib.metadata import entry_points  # 3 MB: only for configurations that name what is not built in

    return list(entry_points(group=ENTRY_POINTS))


def load_protocol(name: str) -> StreamProtocol:
    """Makes the protocol that an installed package offers as `name`: a class of RpcSpec or StreamProtocol, or a function
    that returns one of them. Raises ProtocolLoadError."""
    for point in _entry_points():
        if point.name == name:
            try:
                made = point.load()()
            except Exception as error:
                raise ProtocolLoadError(f"cannot load protocol {point.value}: {describe(error)}") from error
            return as_protocol(name, made, point.value)
    raise ProtocolLoadError(f"no installed package offers a protocol {name!r}")


def as_protocol(name: str, made: object, place: str) -> StreamProtocol:
    """What a package made, as a protocol of layer 3. Raises ProtocolLoadError; `place` says where it comes from."""
    protocol = RpcProtocol(made) if isinstance(made, RpcSpec) else made
    if not isinstance(protocol, StreamProtocol):
        raise ProtocolLoadError(f"{place} makes a {type(made).__name__}, not a pymosn.api.rpc.RpcSpec")
    if protocol.spec.name != name:
        raise ProtocolLoadError(f"{place} is offered as {name!r} and calls itself {protocol.spec.name!r}")
    return protocol
