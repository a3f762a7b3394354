"""Logging to syslog, local or remote, through the standard library's handler."""

from __future__ import annotations

import logging
import logging.handlers
import os
import socket
from socket import SocketKind
from typing import Final

from pymosn.core.authority import is_host, split_authority
from pymosn.core.headers import to_bytes
from pymosn.core.log import ERROR, FATAL, INFO, WARN
from pymosn.core.uri import parse_uri
from pymosn.observe.destination import Destination, report_to_stderr

#: Maximum seconds that a line may block for a syslog server over TCP.
SYSLOG_TIMEOUT: Final = 0.2
SYSLOG_PORT: Final = 514
#: By the scheme of the address.
_KINDS: Final = {b"syslog": socket.SOCK_DGRAM, b"syslog+udp": socket.SOCK_DGRAM, b"syslog+tcp": socket.SOCK_STREAM}
#: The names in the standard library of the levels from each one up.
_NAMES: Final = ((FATAL, "CRITICAL"), (ERROR, "ERROR"), (WARN, "WARNING"), (INFO, "INFO"))


class Syslog(Destination):
    """The local syslog daemon, or a server over UDP or TCP (facility `daemon`)."""

    def __init__(self, path: str) -> None:
        """`path`: `syslog`, `syslog://host:port`, `syslog+udp://host:port`, `syslog+tcp://host:port`.

        Raises ValueError for another form, OSError if the server cannot be reached.
        """
        super().__init__()
        self._path = path
        self._handler = _syslog_handler(path)

    def write(self, line: str, level: int = INFO) -> None:
        if self.enabled:
            record = logging.LogRecord("pymosn", level, "", 0, line, None, None)
            record.levelname = next((name for least, name in _NAMES if level >= least), "DEBUG")
            self._handler.handle(record)
            self.dropped = self._handler.failed

    def reopen(self) -> None:
        try:
            handler = _syslog_handler(self._path)
        except OSError as error:
            report_to_stderr(f"log {self._path} cannot be reconnected: {error}")
            return
        handler.failed = self._handler.failed
        self._handler.close()
        self._handler = handler

    def close(self) -> None:
        self.enabled = False
        self._handler.close()


class _SyslogHandler(logging.handlers.SysLogHandler):
    socket: socket.socket | None

    def __init__(self, address: str | tuple[str, int], kind: SocketKind | None, ending: str) -> None:
        self.failed = 0
        super().__init__(address, self.LOG_DAEMON, kind)
        self.append_nul = False
        self._ending = ending

    def createSocket(self) -> None:  # noqa: N802
        super().createSocket()
        if self.socket is not None:
            self.socket.settimeout(SYSLOG_TIMEOUT)

    def format(self, record: logging.LogRecord) -> str:
        return f"pymosn[{os.getpid()}]: {record.msg}{self._ending}"

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        self.failed += 1
        # A stream that broke within a line is unusable; the next line reconnects.
        if self.socktype == socket.SOCK_STREAM and self.socket is not None:
            self.socket.close()
            self.socket = None


def _syslog_handler(path: str) -> _SyslogHandler:
    if path == "syslog":
        return _SyslogHandler("/dev/log", None, "")
    uri = parse_uri(to_bytes(path))
    kind = _KINDS.get(uri.scheme)
    is_bare = uri.target() == b"/" and uri.fragment is None
    if kind is None or uri.authority is None or not is_host(uri.authority) or not is_bare:
        raise ValueError(f"not a syslog address: {path!r}; expected syslog, syslog://host:port or syslog+tcp://host:port")
    server = split_authority(uri.authority)
    # Resolved once instead of for each line.
    address = socket.getaddrinfo(server.name().decode(), int(server.port or b"0") or SYSLOG_PORT, 0, kind)[0][4]
    ending = "\n" if kind == socket.SOCK_STREAM else ""
    return _SyslogHandler((str(address[0]), int(address[1])), kind, ending)
