"""Checks what listeners and clusters have in common: settings of their TCP connections."""

from typing import Final

from pymosn.config.diagnostics import Diagnostics
from pymosn.config.schema.connections import TcpKeepalive

#: Limits of Linux.
_LONGEST: Final = 32767
_MOST: Final = 127


def check_tcp_keepalive(block: TcpKeepalive | None, path: str, report: Diagnostics) -> None:
    """Check the numbers of a `tcp_keepalive`."""
    if block is None:
        return
    for key in ("idle", "interval"):
        seconds = getattr(block, key)
        if seconds != int(seconds) or not 1 <= seconds <= _LONGEST:
            report.error(f"{path}.{key}", f"must be whole seconds from 1 to {_LONGEST}", seconds)
    if not 1 <= block.probes <= _MOST:
        report.error(f"{path}.probes", f"must be from 1 to {_MOST}", block.probes)
