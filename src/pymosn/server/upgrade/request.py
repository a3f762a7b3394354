"""What is asked for by an upgrade, and its result."""

from __future__ import annotations

from typing import Final, NamedTuple

#: Seconds in which a successor must be ready, unless the request specifies it.
DEFAULT_TIME: Final = 60.0


class UpgradeRequest(NamedTuple):
    """`source`: the requester, for the log. `keeps_config`: use the active configuration instead of the file.

    `seconds`: in which the successor must be ready. `command`: the words of another program, which gets the arguments of
    this process; empty: the same program. `workers`: their number, None: as many as configured.
    """

    source: str
    keeps_config: bool = False
    seconds: float = DEFAULT_TIME
    command: tuple[str, ...] = ()
    workers: int | None = None


class UpgradeResult(NamedTuple):
    """`done`: another process has taken over; otherwise nothing has changed, because of `lines`. `pid`: of that process."""

    done: bool
    lines: list[str]
    pid: int = 0
    is_config_fault: bool = False
