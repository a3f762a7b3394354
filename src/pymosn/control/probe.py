"""One health check of a host: a TCP connection, or an HTTP request over one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from pymosn.config.schema.cluster import HealthCheck, HttpProbe
from pymosn.core.addresses import UNIX, host_field, split_address

#: Maximum length of a response's status line in bytes.
LONGEST_LINE: Final = 8192

#: Whether the host at an address passes. OSError and TimeoutError: it could not be reached, and so does not pass.
Probe = Callable[[str, HealthCheck], Awaitable[bool]]


def http_settings(check: HealthCheck) -> HttpProbe | None:
    """The HTTP settings of a check that sends a request; None for one that only connects.

    HTTP requires `http_check_config` and a `protocol` of `Http1` or `http` (ignoring case); anything else only connects.
    """
    if check.protocol.lower() not in ("http", "http1") or check.check_config is None:
        return None
    return check.check_config.http_check_config


async def probe(address: str, check: HealthCheck) -> bool:
    """Checks the host at `address` (`host:port` or `unix:/path`) once; see `Probe`."""
    settings = http_settings(check)
    if settings is None:
        async with asyncio.timeout(check.timeout):
            _, writer = await _connect(address, 0)
            writer.close()
        return True
    async with asyncio.timeout(min(check.timeout, settings.timeout) or check.timeout):
        status = await _status(settings, address)
    if not settings.codes:
        return status == 200
    return any(codes.Start <= status <= codes.End for codes in settings.codes)


async def _connect(address: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connects to `address`, or to another `port` of the same host unless it is 0 or `address` is a unix socket."""
    if address.startswith(UNIX):
        return await asyncio.open_unix_connection(address.removeprefix(UNIX), limit=LONGEST_LINE)
    host, own_port = split_address(address)
    return await asyncio.open_connection(host, port or own_port, limit=LONGEST_LINE)


async def _status(settings: HttpProbe, address: str) -> int:
    """The status of the response; 0 if it is not HTTP."""
    reader, writer = await _connect(address, settings.port)
    try:
        target = settings.path if settings.path.startswith("/") else f"/{settings.path}"
        lines = (
            f"{settings.method or 'GET'} {target} HTTP/1.1",
            f"Host: {settings.domain or host_field(address)}",
            "User-Agent: pymosn-health-check",
            "Accept: */*",
            "Connection: close",
        )
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        try:
            line = await reader.readline()
        except ValueError:
            return 0
        parts = line.split()
        return int(parts[1]) if len(parts) > 1 and parts[0].startswith(b"HTTP/1.") and parts[1].isdigit() else 0
    finally:
        writer.transport.abort()
