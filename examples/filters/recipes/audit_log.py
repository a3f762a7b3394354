"""Writes one JSON line per exchange in a background thread, so that the event loop never waits for the disk."""

import asyncio
import json
import os
import queue
import threading
import time
from collections.abc import Callable
from typing import Annotated, Any

import msgspec

from pymosn.api import Exchange, Reply, StreamFilter, UnreadableHeaders

#: Words in the names of headers whose values are never written.
SECRETS = ("authorization", "cookie", "token", "secret", "password", "key", "credential", "session", "signature")
REDACTED, UNREADABLE = "[redacted]", "[unreadable]"
#: Seconds between attempts to write to a disk that fails.
PAUSE = 0.5
#: Maximum lines in one write.
BATCH = 256


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    """`waiting`: maximum lines that wait for the disk; further ones are lost and counted. `headers`: of requests.

    `required`: requests get 503 while the disk fails, or while there is no room for their lines. `sync`: written lines
    survive a crash of the machine (fdatasync).
    """

    file: str
    waiting: Annotated[int, msgspec.Meta(ge=1)] = 10_000
    required: bool = False
    sync: bool = False
    headers: list[str] = []


class AuditLog(StreamFilter):
    """Writes each request and its outcome as a JSON line. Put it first, so that it sees what other filters reject."""

    Config = Settings

    def __init__(self, config: Settings) -> None:
        super().__init__(config)
        self.config = config
        self.writer: Writer | None = None
        #: Requests in progress, whose lines need room.
        self.running = 0

    async def start(self) -> None:
        # Opened here, so that an unwritable file prevents the start.
        self.writer = Writer(self.config, asyncio.get_running_loop(), self.report)

    async def stop(self) -> None:
        if self.writer is not None:
            await asyncio.to_thread(self.writer.close)

    def on_reopen(self) -> None:
        """The file was renamed: lines from now on belong in a new one."""
        if self.writer is not None:
            self.writer.lines.put(None)

    def report(self, text: str, lost: int) -> None:
        """An event of the writer's thread, in the event loop."""
        self.context.counter("lost").value += lost
        if text:
            self.context.write(f"{self.config.file}: {text}")

    def on_request(self, exchange: Exchange) -> Reply | None:
        writer = self.writer
        has_room = writer is not None and writer.lines.qsize() + self.running < self.config.waiting
        if self.config.required and (writer is None or writer.is_failing or not has_room):
            return Reply(503, "requests cannot be recorded\n", {"retry-after": "1"})
        self.running += 1
        exchange.state["audit_log"] = True
        return None

    def on_complete(self, exchange: Exchange) -> None:
        self.running -= bool(exchange.state.pop("audit_log", False))
        try:
            line = self.line(exchange)
        except Exception as error:  # the exchange is recorded nevertheless
            line = {"time": time.time(), "client": exchange.remote_ip, "unreadable": type(error).__name__}
        # Escapes everything that is not ASCII: line ends, control characters, and bytes that are no UTF-8 (as \udcXX).
        text = json.dumps(line, ensure_ascii=True).encode("ascii") + b"\n"
        writer = self.writer
        if writer is not None and (writer.lines.qsize() < self.config.waiting or self.config.required):
            writer.lines.put(text)
        else:
            self.context.counter("lost").value += 1

    def line(self, exchange: Exchange) -> dict[str, Any]:
        """What is recorded of an exchange. The query is not: it may contain secrets."""
        request = exchange.request
        return {
            "time": time.time(),
            "client": exchange.remote_ip,
            "protocol": exchange.protocol,
            "method": request.method,
            "host": exchange.variable("request_host"),
            "path": exchange.variable("request_path"),
            "headers": {name: self.values(exchange, name) for name in self.config.headers},
            "status": None if exchange.response is None else int(exchange.response.status),
            "reason": "ok" if exchange.failure is None else exchange.failure.reason,
            "cluster": exchange.cluster_name,
            "upstream": exchange.upstream_address,
            "ms": round((exchange.finished - exchange.started) * 1000, 3),
            "bytes_in": int(exchange.bytes_received),
            "bytes_out": int(exchange.bytes_sent),
        }

    def values(self, exchange: Exchange, name: str) -> list[str]:
        """All values of a header as the client sent it; not those of credentials."""
        try:
            values = exchange.received_headers.get_all(name)
        except UnreadableHeaders:
            return [UNREADABLE]
        return [REDACTED] * len(values) if any(word in name.lower() for word in SECRETS) else values


class Writer:
    """The file, and the thread that writes to it. Several workers may append to the same file."""

    def __init__(self, config: Settings, loop: asyncio.AbstractEventLoop, report: Callable[[str, int], None]) -> None:
        """`report`: called in `loop` with a text and the number of lost lines. Raises OSError."""
        #: Lines, and None where the file must be reopened.
        self.lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.is_failing = False
        self._config = config
        self._loop = loop
        self._report = report
        self._descriptor = open_file(config.file)
        # Whether the file ends with a part of a line: of this worker, of another one, or of one that was killed.
        self._is_torn = ends_in_part(config.file)
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit log", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Writes what is waiting, with one more attempt if the disk fails, and ends the thread."""
        self._is_closing.set()
        self.lines.put(b"")
        self._thread.join()
        os.close(self._descriptor)

    def _run(self) -> None:
        while not self._is_closing.is_set() or not self.lines.empty():
            batch = [self.lines.get()]
            while len(batch) < BATCH and batch[-1] is not None and not self.lines.empty():
                batch.append(self.lines.get())
            self._write([line for line in batch if line])
            if batch[-1] is None and (error := self._reopen()):
                self._tell(f"cannot be reopened: {error}; still writing to the old file")

    def _write(self, lines: list[bytes]) -> None:
        """Writes lines until they are written, or until the filter ends."""
        while lines:
            is_last = self._is_closing.is_set()
            error = self._append(lines)
            if bool(error) != self.is_failing:
                self.is_failing = bool(error)
                self._tell(f"cannot be written: {error}" if error else "is written again")
            if error and is_last:
                self._tell("", len(lines))
                return
            if error:
                self._is_closing.wait(PAUSE)
                self._reopen()  # the next attempt may have to go to another file, or to another disk

    def _append(self, lines: list[bytes]) -> str:
        """Appends lines in one write, so that workers do not mix theirs. Removes the written ones; returns the error."""
        # The beginning of a line must not swallow the next one.
        start = b"\n" if self._is_torn else b""
        try:
            written = os.write(self._descriptor, start + b"".join(lines)) - len(start)
            if self._config.sync:
                os.fdatasync(self._descriptor)
        except OSError as error:
            return error.strerror or str(error)
        while lines and written >= len(lines[0]):
            written -= len(lines.pop(0))
        self._is_torn = bool(lines) and written != 0
        return "the disk is full" if lines else ""

    def _reopen(self) -> str:
        """Opens the file again. Returns the error."""
        try:
            descriptor = open_file(self._config.file)
        except OSError as error:
            return error.strerror or str(error)
        self._is_torn = ends_in_part(self._config.file)
        os.close(self._descriptor)
        self._descriptor = descriptor
        return ""

    def _tell(self, text: str, lost: int = 0) -> None:
        self._loop.call_soon_threadsafe(self._report, text, lost)


def open_file(path: str) -> int:
    """Opens a file to append to it. Raises OSError."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


def ends_in_part(path: str) -> bool:
    """Whether a file ends with a part of a line; False if it cannot be read."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            return size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
    except OSError:
        return False
