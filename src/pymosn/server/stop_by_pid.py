"""Ends a process that has no admin socket, by its pid file, as `mosn stop` does.

A pid file can be stale, and its number another process's: so the file must belong to root or to the process's user, and the
process must be a pymosn or a MOSN that is older than the file. It is signalled through a descriptor, which means the same
process until the end.
"""

from __future__ import annotations

import os
import select
import signal
import stat
import time
from pathlib import Path
from typing import Final

#: Bytes of a pid file that are read, and seconds by which clocks may differ.
_LONGEST: Final = 100
_SLACK: Final = 2.0


class PidError(Exception):
    """The process is not signalled, or does not end; the text is the reason."""


def stop_by_pid(path: str, number: signal.Signals, timeout: float) -> int:
    """Sends a signal to the process that a pid file names, and waits until it has ended; returns its pid.

    0 if there is no such process. `timeout`: seconds. PidError.
    """
    try:
        pid, status = _read(path)
    except FileNotFoundError:
        return 0
    except (OSError, ValueError) as error:
        raise PidError(f"the pid file {path} cannot be used: {getattr(error, 'strerror', None) or error}") from error
    try:
        end = os.pidfd_open(pid)
    except ProcessLookupError:
        return 0
    except OSError as error:
        raise PidError(f"process {pid} of {path} cannot be signalled: {error.strerror}") from error
    try:
        if _has_ended(end, 0.0):  # its parent has not noticed that yet
            return 0
        reason = _why_not(pid, status)
        if reason:
            raise PidError(f"process {pid} is not signalled, because the pid file {path} may be stale: {reason}")
        try:
            signal.pidfd_send_signal(end, number)
        except ProcessLookupError:
            return pid
        except OSError as error:
            raise PidError(f"process {pid} of {path} cannot be signalled: {error.strerror}") from error
        if not _has_ended(end, timeout):
            raise PidError(f"process {pid} is stopping, but has not ended within {timeout:g} s")
    finally:
        os.close(end)
    return pid


def _has_ended(end: int, timeout: float) -> bool:
    """Whether the process of a descriptor ends within so many seconds."""
    return bool(select.select([end], [], [], timeout)[0])


def _read(path: str) -> tuple[int, os.stat_result]:
    """The number in a pid file, and the state of the file; OSError, ValueError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a regular file")
        text = file.read(_LONGEST).decode("ascii", "replace").strip()
    if not text.isdecimal() or not 0 < int(text) < 1 << 31:
        raise ValueError(f"expected a process id, got {text!r}")
    return int(text), status


def _why_not(pid: int, file: os.stat_result) -> str:
    """Why a process may not be the one that has written the file; empty if it is."""
    folder = Path(f"/proc/{pid}")
    try:
        command = (folder / "cmdline").read_bytes()
        fields = (folder / "stat").read_bytes().rpartition(b")")[2].split()
        user = folder.stat().st_uid
    except OSError as error:
        return f"nothing is known of it ({error.strerror})"
    if b"mosn" not in command:
        name = command.partition(b"\0")[0].decode("utf-8", "replace")
        return f"it is {name!r}" if name else "it is a process of the kernel"
    if file.st_uid not in (0, user):
        return f"the file belongs to uid {file.st_uid}, the process to {user}"
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    if time.time() - age > file.st_mtime + _SLACK:
        return "it was started after the file was written"
    return ""
