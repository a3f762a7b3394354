"""Tests stream filters without a server: the proxy's real codecs and exchange, with simulated clients and upstreams.

    from pymosn.testing import Request, Response, send

    async def test_tenant():
        result = await send(Tenant({"header": "x-tenant"}), Request("GET", "/", {"x-api-key": "acme-1"}))
        assert result.status == 200
        assert result.upstream[0].headers["x-tenant"] == "acme"

`run` does the same in a synchronous test. A `World` keeps filters, clusters and clock for several requests. `GrpcRequest`
and `GrpcResponse` are calls of gRPC (`grpc.py`). A `ConnectionWorld` (`connections.py`) tests connection filters, an
`ExtensionWorld` (`extensions.py`) extensions of the process. `recorded` gives the exchanges of `pymosn record` as fixtures.
"""

from __future__ import annotations

from pymosn.testing.answers import SERVICE
from pymosn.testing.connections import ConnectionWorld, FilteredClient, tls_facts
from pymosn.testing.extensions import ExtensionWorld
from pymosn.testing.grpc import GrpcRequest, GrpcResponse, grpc_messages, grpc_status
from pymosn.testing.messages import Down, Request, Response
from pymosn.testing.mistakes import InvalidTest
from pymosn.testing.recordings import RecordedExchange, recorded
from pymosn.testing.world import Result, World, make, run, send

__all__ = [
    "SERVICE",
    "ConnectionWorld",
    "Down",
    "ExtensionWorld",
    "FilteredClient",
    "GrpcRequest",
    "GrpcResponse",
    "InvalidTest",
    "RecordedExchange",
    "Request",
    "Response",
    "Result",
    "World",
    "grpc_messages",
    "grpc_status",
    "make",
    "recorded",
    "run",
    "send",
    "tls_facts",
]
