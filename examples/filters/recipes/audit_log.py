"""Writes one JSON line per exchange in a background thread, so that the event loop never waits for the disk."""

import asyncio
import os
import queue
import threading
import time

import msgspec

from pymosn.api import Exchange, StreamFilter


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    """`waiting`: maximum lines waiting for the disk; further ones are dropped and counted."""

    file: str
    waiting: int = 10_000
    user_header: str = "x-user"


class AuditLog(StreamFilter):
    """Writes each request and its outcome as a JSON line."""

    Config = Settings

    def __init__(self, config: Settings) -> None:
        super().__init__(config)
        self.config = config
        self.dropped = 0
        self._encoder = msgspec.json.Encoder()
        self._lines: queue.Queue[bytes | None] = queue.Queue(config.waiting)
        self._thread: threading.Thread | None = None
        self._descriptor = -1

    async def start(self) -> None:
        # Opened here, so that an unwritable file prevents the start.
        self._descriptor = os.open(self.config.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        self._thread = threading.Thread(target=self._write_lines, name="audit log", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        if self._thread is not None:
            await asyncio.to_thread(self._lines.put, None)
            await asyncio.to_thread(self._thread.join)
            os.close(self._descriptor)
        if self.dropped:
            self.context.write(f"{self.dropped} lines were dropped: the disk is full or too slow")

    def on_complete(self, exchange: Exchange) -> None:
        request = exchange.request
        line = {
            "time": time.time(),
            "client": exchange.remote_ip,
            "user": request.headers.get(self.config.user_header),
            "method": request.method,
            "host": request.host,
            "path": request.path,
            "status": None if exchange.response is None else int(exchange.response.status),
            "reason": "ok" if exchange.failure is None else exchange.failure.reason,
            "cluster": exchange.cluster_name,
            "upstream": exchange.upstream_address,
            "ms": round((exchange.finished - exchange.started) * 1000, 3),
            "bytes_in": int(exchange.bytes_received),
            "bytes_out": int(exchange.bytes_sent),
        }
        try:
            self._lines.put_nowait(self._encoder.encode(line) + b"\n")
        except queue.Full:
            self.dropped += 1

    def _write_lines(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                # Whole lines in one write, so that workers that share the file do not mix theirs.
                os.write(self._descriptor, line)
            except OSError:
                self.dropped += 1
