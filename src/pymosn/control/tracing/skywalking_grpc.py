"""SkyWalking's segments by gRPC. Imported only when the driver is configured so, because grpcio needs 20 MB of memory.

The instance is reported once, and then kept alive, as SkyWalking's agents do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import grpc
from grpc import aio

from pymosn.api.tracing import TraceRecord
from pymosn.config.schema.observability import SkyWalking
from pymosn.control.tracing.exporter import Exporter, ExportError, number_of_spans
from pymosn.control.tracing.skywalking import Instance, encode_segment, instance_properties, segment
from pymosn.core import proto_wire

#: Segments that wait, where the configuration has 0.
QUEUE: Final = 30_000
#: Seconds between two signs of life of the instance.
KEEP_ALIVE: Final = 20.0
#: Most bytes of a segment; the backend's gRPC server accepts messages of up to 4 MiB.
LARGEST: Final = 4_000_000
_COLLECT: Final = "/skywalking.v3.TraceSegmentReportService/collect"
_PROPERTIES: Final = "/skywalking.v3.ManagementService/reportInstanceProperties"
_PING: Final = "/skywalking.v3.ManagementService/keepAlive"


class GrpcExporter(Exporter):
    """Sends segments to the backend, each batch as one stream."""

    batch_spans = 200

    def __init__(self, settings: SkyWalking, instance: Instance) -> None:
        """Raises OSError for a certificate file that cannot be read."""
        self._settings = settings
        self._instance = instance
        self.queue_spans = settings.max_send_queue_size if settings.max_send_queue_size > 0 else QUEUE
        self._certificate = b""
        if settings.tls is not None and settings.tls.cert_file:
            with open(settings.tls.cert_file, "rb") as file:
                self._certificate = file.read()
        self._metadata = [("authentication", settings.authentication)] if settings.authentication else None
        self._channel: aio.Channel | None = None
        self._heart: asyncio.Task[None] | None = None

    async def send(self, batch: Sequence[TraceRecord]) -> int:
        channel = self._open()
        messages = [(encode_segment(segment(trace, self._instance)), len(trace.spans)) for trace in batch]
        fitting = [content for content, _ in messages if len(content) <= LARGEST]
        if fitting:
            call = channel.stream_unary(_COLLECT)(iter(fitting), metadata=self._metadata, timeout=self.timeout)
            try:
                await call
            except grpc.RpcError as error:
                raise _export_error(error) from None
        return number_of_spans(batch) - sum(spans for content, spans in messages if len(content) <= LARGEST)

    async def close(self) -> None:
        if self._heart is not None:
            self._heart.cancel()
        if self._channel is not None:
            await self._channel.close()

    def _open(self) -> aio.Channel:
        if self._channel is None:
            options: list[tuple[str, Any]] = [("grpc.enable_http_proxy", 0), ("grpc.max_reconnect_backoff_ms", 10_000)]
            tls = self._settings.tls
            if self._certificate:
                if tls is not None and tls.server_name_override:
                    options.append(("grpc.ssl_target_name_override", tls.server_name_override))
                credentials = grpc.ssl_channel_credentials(self._certificate)
                self._channel = aio.secure_channel(self._settings.backend_service, credentials, options)
            else:
                self._channel = aio.insecure_channel(self._settings.backend_service, options)
            self._heart = asyncio.get_running_loop().create_task(self._beat(self._channel))
        return self._channel

    async def _beat(self, channel: aio.Channel) -> None:
        """Reports the instance once, and then that it is alive. Errors are those of `send` as well, which reports them."""
        is_known = False
        while True:
            try:
                if not is_known:
                    content = instance_properties(self._instance)
                    await channel.unary_unary(_PROPERTIES)(content, metadata=self._metadata, timeout=self.timeout)
                    is_known = True
                ping = proto_wire.text(1, self._instance.service) + proto_wire.text(2, self._instance.name)
                await channel.unary_unary(_PING)(ping, metadata=self._metadata, timeout=self.timeout)
            except grpc.RpcError:
                pass
            await asyncio.sleep(KEEP_ALIVE)


def _export_error(error: Any) -> ExportError:
    code = error.code()
    refused = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED)
    invalid = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)
    text = f"{code.name}: {error.details() or ''}".rstrip(": ")
    return ExportError(text[:300], may_retry=code not in (*refused, *invalid))
