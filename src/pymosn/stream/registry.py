"""The protocols that are built. A new one is one line here."""

from __future__ import annotations

from pymosn.api.stream import StreamProtocol
from pymosn.core.registry import Registry
from pymosn.stream.http1.protocol import Http1Protocol


def protocols() -> Registry[StreamProtocol]:
    """A new table of all protocols, by the names that configurations use."""
    registry: Registry[StreamProtocol] = Registry("protocol")
    for protocol in (Http1Protocol(),):
        registry.add(protocol.spec.name, protocol)
    return registry
