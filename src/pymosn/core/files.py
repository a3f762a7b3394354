"""Reading files that an administrator names, without waiting for anything that is not a regular file."""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from typing import Final

#: Maximum size in bytes of a configuration or filter file.
MAX_FILE: Final = 64 * 1024 * 1024
#: Seconds to wait for the next bytes of a pipe.
PIPE_TIME: Final = 10.0

_CHUNK: Final = 1024 * 1024
_KINDS: Final[dict[int, str]] = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read_regular(path: str, limit: int = MAX_FILE, pipe: bool = False) -> bytes:
    """The content of a regular file of at most `limit` bytes. OSError with a `strerror` that says what is wrong.

    A FIFO, a device or a folder is an error, and opening it does not wait. `pipe`: also reads an anonymous pipe of this
    process (`/dev/stdin`, `/dev/fd/63`) to its end.
    """
    _require_regular(os.stat(path), path, pipe)  # first, because opening a device may have an effect
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        _require_regular(os.fstat(descriptor), path, pipe)
        return _read(descriptor, path, limit)
    finally:
        os.close(descriptor)


def _require_regular(found: os.stat_result, path: str, pipe: bool) -> None:
    kind = stat.S_IFMT(found.st_mode)
    is_pipe = kind == stat.S_IFIFO and is_descriptor(path)
    if kind != stat.S_IFREG and not (pipe and is_pipe):
        what = "a pipe" if is_pipe else _KINDS.get(kind, "something else")
        raise OSError(errno.EINVAL, f"not a regular file but {what}", path)


def require_replaceable(path: str) -> None:
    """OSError if a new file would replace anything but a regular file or a link, such as `/dev/null`."""
    try:
        kind = stat.S_IFMT(os.lstat(path).st_mode)
    except FileNotFoundError:
        return
    if kind not in (stat.S_IFREG, stat.S_IFLNK):
        raise OSError(errno.EINVAL, f"not a regular file but {_KINDS.get(kind, 'something else')}", path)


def is_descriptor(path: str) -> bool:
    """Whether a path names an open descriptor of this process."""
    return path == "/dev/stdin" or path.startswith(("/dev/fd/", "/proc/self/fd/"))


def _read(descriptor: int, path: str, limit: int) -> bytes:
    data = bytearray()
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    deadline = time.monotonic() + PIPE_TIME
    while True:
        left = deadline - time.monotonic()
        if left <= 0.0 or not poll.poll(left * 1000.0):
            raise OSError(errno.ETIMEDOUT, f"no end within {PIPE_TIME:g} s", path)
        chunk = os.read(descriptor, _CHUNK)
        if not chunk:
            return bytes(data)
        data += chunk
        if len(data) > limit:
            raise OSError(errno.EFBIG, f"larger than {limit} bytes", path)
