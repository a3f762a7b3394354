"""Loads protocols that installed packages offer: entry points of the group `pymosn.protocols`. `docs/protocols.md`."""

from __future__ import annotations

from typing import cast

from pymosn.api.rpc import RpcSpec
from pymosn.api.stream import StreamProtocol
from pymosn.core.errors import type_name
from pymosn.core.plain import plain_text
from pymosn.filters.errors import describe
from pymosn.filters.loading import PROTOCOLS, entry_points_of
from pymosn.stream.registry import RpcProtocol


class ProtocolLoadError(Exception):
    """A protocol cannot be loaded or created; the text has the reason."""


def load_protocol(name: str) -> StreamProtocol:
    """Creates the protocol that an installed package offers as `name`: a class of RpcSpec or StreamProtocol, or a function
    that returns one of them. Raises ProtocolLoadError."""
    for point in entry_points_of(PROTOCOLS):
        if point.name == name:
            try:
                made = point.load()()
            except BaseException as error:  # a package may call `sys.exit`
                raise ProtocolLoadError(f"cannot load protocol {point.value}: {describe(error)}") from error
            return as_protocol(name, made, point.value)
    raise ProtocolLoadError(f"no installed package offers a protocol {name!r}")


def as_protocol(name: str, made: object, origin: str) -> StreamProtocol:
    """The object that a package created, as a protocol of layer 3. `origin`: its entry point. Raises ProtocolLoadError."""
    protocol: object = RpcProtocol(cast("RpcSpec", made)) if issubclass(type(made), RpcSpec) else made
    if not issubclass(type(protocol), StreamProtocol):
        raise ProtocolLoadError(f"{origin} makes a {type_name(made)}, not a pymosn.api.rpc.RpcSpec")
    known = cast("StreamProtocol", protocol)
    try:
        own_name = plain_text(known.spec.name)
    except BaseException as error:
        raise ProtocolLoadError(f"cannot load protocol {origin}: {describe(error)}") from error
    if own_name != name:
        raise ProtocolLoadError(f"{origin} is offered as {name!r} but its spec is named {own_name!r}")
    return known
