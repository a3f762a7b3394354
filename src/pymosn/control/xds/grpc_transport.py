"""Streams to control planes by grpcio. Imported only when a client starts, because grpcio needs 20 MB of memory.

`grpc.aio` works on the event loop; its C core has threads of its own. Each stream has its own channel, because the client
decides when to connect again.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any, Final

# The C core would write lines such as "Got goaway" to the standard error output.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
from grpc import aio

from pymosn.control.xds.transport import Server, Stream, StreamEnded, Tls, Transport

#: Parts of the details of a status by which an orderly end is recognized.
_ORDERLY: Final = ("goaway", "max_age", "max_connection_age", "graceful")
#: The server's debug text of a GOAWAY with ENHANCE_YOUR_CALM.
_TOO_MANY_PINGS: Final = "too_many_pings"
_LARGEST: Final = 2**31 - 1


class GrpcTransport(Transport):
    """See `Transport`."""

    async def open(self, server: Server, method: str) -> Stream:
        channel = _channel(server)
        stream = _GrpcStream(channel, server)
        try:
            call = channel.stream_stream(method)(metadata=server.metadata or None)
            stream.call = call
            async with asyncio.timeout(server.connect_timeout):
                await call.wait_for_connection()
        except TimeoutError:
            await stream.close()
            raise StreamEnded(f"no connection within {server.connect_timeout:g} s") from None
        except aio.AioRpcError as error:
            await stream.close()
            raise _ended(error, server) from None
        except BaseException:
            await stream.close()
            raise
        return stream


class _GrpcStream(Stream):
    def __init__(self, channel: Any, server: Server) -> None:
        self._channel: Any = channel
        self._server = server
        self.call: Any = None

    async def send(self, message: bytes) -> None:
        try:
            await self.call.write(message)
        except aio.AioRpcError as error:
            raise _ended(error, self._server) from None
        except asyncio.InvalidStateError:
            raise StreamEnded("the stream has ended", is_normal=True) from None

    async def read(self) -> bytes:
        try:
            message = await self.call.read()
        except aio.AioRpcError as error:
            raise _ended(error, self._server) from None
        if message is aio.EOF:
            code = await self.call.code()
            if code is grpc.StatusCode.OK:
                raise StreamEnded("the server ended the stream", is_normal=True)
            raise StreamEnded(_text(code, await self.call.details()))
        return bytes(message)

    async def close(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            if self.call is not None:
                self.call.cancel()
            await channel.close()


def _ended(error: Any, server: Server) -> StreamEnded:
    code, details = error.code(), str(error.details() or "")
    lower = details.lower() + str(error.debug_error_string() or "").lower()
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in lower:
        return StreamEnded(
            f"a response is larger than max_message_bytes, {server.max_message_bytes}; what was accepted before stays active"
        )
    refuses_pings = _TOO_MANY_PINGS in lower
    is_orderly = code is grpc.StatusCode.UNAVAILABLE and any(word in lower for word in _ORDERLY) and not refuses_pings
    return StreamEnded(_text(code, details), is_orderly, refuses_pings)


def _text(code: Any, details: object) -> str:
    return f"{code.name}: {details}" if details else str(code.name)


def _channel(server: Server) -> Any:
    options: list[tuple[str, int | str]] = [
        ("grpc.max_receive_message_length", min(server.max_message_bytes, _LARGEST)),
        ("grpc.max_send_message_length", _LARGEST),
        ("grpc.keepalive_time_ms", max(1, round(server.keepalive * 1000))),
        ("grpc.keepalive_timeout_ms", max(1, round(server.keepalive_timeout * 1000))),
        # The C core waits for this time, whose default is a minute, instead of the one above.
        ("grpc.http2.ping_timeout_ms", max(1, round(server.keepalive_timeout * 1000))),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        # The connection belongs to one stream; a shared one would hide from the client when it is closed.
        ("grpc.use_local_subchannel_pool", 1),
        # A proxy in the environment is meant for requests to the world.
        ("grpc.enable_http_proxy", 0),
        ("grpc.enable_retries", 0),
        ("grpc.service_config_disable_resolution", 1),
    ]
    if server.tls is None:
        return aio.insecure_channel(server.address, options)
    if server.tls.server_name:
        options.append(("grpc.ssl_target_name_override", server.tls.server_name))
    return aio.secure_channel(server.address, _credentials(server.tls), options)


def _credentials(tls: Tls) -> Any:
    return grpc.ssl_channel_credentials(tls.authorities or None, tls.key or None, tls.certificate or None)
