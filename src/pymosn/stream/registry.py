"""The built-in protocols, in the order in which `Auto` tries them. A new one is one line here."""

from __future__ import annotations

from pymosn.api.stream import StreamProtocol
from pymosn.core.registry import Registry
from pymosn.protocol.bolt.codec import BoltSpec
from pymosn.protocol.bolt.frames import V1, V2
from pymosn.protocol.dubbo.codec import DubboSpec
from pymosn.protocol.dubbothrift.codec import ThriftSpec
from pymosn.protocol.tars.codec import TarsSpec
from pymosn.stream.http1.protocol import Http1Protocol
from pymosn.stream.rpc.protocol import RpcProtocol


def built_protocols() -> list[StreamProtocol]:
    """All protocols that come with pymosn."""
    return [
        Http1Protocol(),
        RpcProtocol(BoltSpec(V1)),
        RpcProtocol(BoltSpec(V2)),
        RpcProtocol(DubboSpec()),
        RpcProtocol(ThriftSpec()),
        RpcProtocol(TarsSpec()),
    ]


def protocols() -> Registry[StreamProtocol]:
    """A new table of all protocols by their configured names; those of installed packages may be added."""
    registry: Registry[StreamProtocol] = Registry("protocol")
    for protocol in built_protocols():
        registry.add(protocol.spec.name, protocol)
    return registry
