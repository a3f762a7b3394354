"""The unix socket of the admin API, through which changes are made; the commands of the CLI use it too.

Its file has mode 0600 from the first moment. A file without a listener is left over from a process that was killed, and
is replaced; a living owner is an error. Two processes that start at the same time are kept apart by a lock on the folder.
"""

import contextlib
import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from typing import Final

from pymosn.config.accounts import Account
from pymosn.control.peer import peer_of
from pymosn.server.sockets import BindError, is_bound

#: Access for the owner of the process only.
MODE: Final = 0o600
#: Bytes of `sun_path` without its closing NUL (unix(7)).
_LONGEST_PATH: Final = 107
#: Seconds to wait for another process that creates a socket in the same folder.
_LOCK_TIME: Final = 2.0


class AdminSocket:
    """A bound socket, which does not listen yet, and its file. `sock`: for the server; `close` removes the file."""

    def __init__(
        self, path: str, account: Account | None = None, adopted: socket.socket | None = None, is_kept: bool = False
    ) -> None:
        """Creates the file. BindError if another process serves it; OSError if it cannot be created.

        `account`: the owner of the file, by default the user of the process at this moment. `adopted`: the socket of a
        process that this one is going to replace; until then its file is not touched. `is_kept`: it is the service
        manager's, and its file is never removed; BindError if others may use it.
        """
        self.path: Final = path
        self.is_kept: Final = is_kept
        #: Whether `close` removes the file.
        self.owns_file = adopted is None
        if adopted is not None:
            mode = stat.S_IMODE(os.lstat(path).st_mode) if is_kept else MODE
            if mode & ~MODE:
                raise BindError(f"admin.socket: {path} of the service manager has the mode {mode:04o}, expected {MODE:04o}")
            self.sock = adopted
            return
        with open_folder(path) as folder, _locked(folder):
            self.sock = _bind(folder, path)
            if account is not None:
                os.chown(os.path.basename(path), account.uid, account.gid, dir_fd=folder, follow_symlinks=False)

    def close(self) -> None:
        """Closes the socket and removes its file, unless another process serves it now."""
        self.sock.close()
        if self.is_kept or not self.owns_file:
            return
        with contextlib.suppress(OSError, BindError), open_folder(self.path) as folder, _locked(folder):
            _remove_left_over(folder, self.path)


@contextlib.contextmanager
def open_folder(path: str) -> Iterator[int]:
    """A descriptor of the folder of a file. OSError if it cannot be opened."""
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield folder
    finally:
        os.close(folder)


def short_address(folder: int, path: str) -> str:
    """The address of the socket `path` in the open `folder`. OSError if even its shortest form does not fit."""
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        return path
    address = f"/proc/self/fd/{folder}/{os.path.basename(path)}"
    if len(os.fsencode(address)) > _LONGEST_PATH:
        raise OSError(errno.ENAMETOOLONG, "the file name is too long for a unix socket")
    return address


@contextlib.contextmanager
def _locked(folder: int) -> Iterator[None]:
    """Holds the lock of a folder. A process that never releases it cannot prevent the start."""
    deadline = time.monotonic() + _LOCK_TIME
    while time.monotonic() < deadline:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            time.sleep(0.01)
        except OSError:
            break  # a file system without locks
    yield  # closing the descriptor releases the lock


def _bind(folder: int, path: str) -> socket.socket:
    address = short_address(folder, path)
    name = os.path.basename(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            _remove_left_over(folder, path)
        # The new file gets the mode of the socket, further limited by the umask.
        os.fchmod(sock.fileno(), MODE)
        sock.bind(address)
        sock.setblocking(False)
        mode = stat.S_IMODE(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
        if mode & ~MODE:
            os.unlink(name, dir_fd=folder)
            raise BindError(f"admin.socket: {path} got the mode {mode:04o}; this file system cannot protect it")
    except BaseException:
        sock.close()
        raise
    return sock


def _remove_left_over(folder: int, path: str) -> None:
    """Removes a socket file without a listener. BindError if it has one, or is not a socket; else OSError."""
    name = os.path.basename(path)
    if not stat.S_ISSOCK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        raise BindError(f"admin.socket: {path} exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a full backlog also means that a process listens
        result = probe.connect_ex(short_address(folder, path))
        if result == 0:
            other = f"another pymosn (pid {peer_of(probe).pid}) already serves {path}"
            raise BindError(f"{other}; `pymosn upgrade` replaces it without an interruption")
        if result == errno.EAGAIN or (result == errno.ECONNREFUSED and is_bound(path)):
            raise BindError(f"another process already serves {path}, or is about to")
    if result != errno.ECONNREFUSED:
        raise OSError(result, os.strerror(result))
    os.unlink(name, dir_fd=folder)
