"""The processes that filters of this worker start: they must hold none of its sockets, and must not outlive it.

A forked child gets a copy of every descriptor. A copy of a listening socket would keep the port, and a copy of a connection
would keep its peer waiting for an end that the worker has already sent. Programs started with exec inherit no descriptor,
because all of them are close-on-exec.
"""

import contextlib
import os
import signal
import socket
import stat
from collections.abc import Callable, Collection
from typing import Final

from pymosn.server.prctl import SET_PDEATHSIG, prctl

#: The variable that marks a worker and all processes it starts; its value begins with the supervisor's process id.
MARK: Final = "PYMOSN_FAMILY"


def end_with_supervisor(mark: str) -> None:
    """Makes the kernel kill this process when the supervisor dies, even if its event loop hangs then.

    `mark`: the value of MARK, which begins with the supervisor's process id; nothing is done if it is empty.
    """
    if not mark:
        return
    prctl(SET_PDEATHSIG, signal.SIGKILL)
    # It may have died before the call; then this process already has another parent.
    if os.getppid() != int(mark.partition(".")[0]):
        os._exit(1)


def keep_sockets(own: Collection[int]) -> None:
    """Makes forked children give up this worker's sockets. `own`: descriptors of the worker that they must not keep."""
    for descriptor in own:
        os.set_inheritable(descriptor, False)
    worker = os.getpid()

    def in_child() -> None:
        # The sockets of a child that forks itself are its own.
        if os.getppid() == worker:
            give_up_sockets(own)

    os.register_at_fork(after_in_child=in_child)


def give_up_sockets(own: Collection[int]) -> None:
    """Replaces `own`, and all sockets with an address, by /dev/null. Socket pairs and pipes without a name stay open.

    The numbers stay in use, because objects copied from the worker will close them once more.
    """
    for descriptor in own:
        # First of all: without a free number nothing below could be opened.
        with contextlib.suppress(OSError):
            os.close(descriptor)
    try:
        found = {int(name) for name in os.listdir("/proc/self/fd")}
    except OSError:
        found = set(range(3, os.sysconf("SC_OPEN_MAX")))
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for descriptor in {*found, *own} - {0, 1, 2, null}:
        if descriptor in own or _is_public(descriptor):
            os.dup2(null, descriptor, inheritable=False)
    if null not in own:
        os.close(null)
    signal.set_wakeup_fd(-1)


def _is_public(descriptor: int) -> bool:
    """Whether a descriptor is a socket that has, or may get, peers outside this process; or the event loop's epoll."""
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return os.readlink(f"/proc/self/fd/{descriptor}") == "anon_inode:[eventpoll]"
        sock = socket.socket(fileno=descriptor)
    except OSError:
        return False
    try:
        return sock.family != socket.AF_UNIX or bool(_name(sock.getsockname) or _name(sock.getpeername))
    finally:
        sock.detach()


def _name(get: Callable[[], object]) -> object:
    try:
        return get()
    except OSError:
        return ""  # not connected
