"""Gives up root: the process binds its sockets as root, and then runs as the user of the configuration, for good.

Before, everything that the user must be able to change later is handed over: the folder and files of the logs, the pid file
and the files of unix sockets. Log files are opened as the user already, so that root does not follow a symbolic link that
the user has made. Afterwards there is no way back: real, effective and saved ids are the user's, there are no capabilities,
and no program that is executed can gain any (no_new_privs). Workers are started after that, and inherit it.
"""

import contextlib
import ctypes
import os
import pwd
import socket
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec
import uvloop

import pymosn
from pymosn.config.accounts import Account, find_account, parse_mode
from pymosn.config.schema import MosnConfig
from pymosn.control.service import Service
from pymosn.core.log import WARN, Log
from pymosn.server.prctl import (
    CAP_AMBIENT,
    CAP_AMBIENT_CLEAR_ALL,
    CAPBSET_DROP,
    SET_NO_NEW_PRIVS,
    prctl,
)
from pymosn.server.run_options import RunOptions, StartError

#: From linux/capability.h.
CAPABILITY_VERSION_3: Final = 0x20080522


class Privileges(Service):
    """The user that the process will run as; `start` makes it that user."""

    name = "privileges"

    def __init__(self, options: RunOptions) -> None:
        """StartError if this process cannot become the configured user."""
        config = options.config
        #: The user to become; None if there is nothing to give up.
        self.account: Account | None = None
        self._options = options
        self._notes: list[str] = []
        self.log = Log()
        is_root = os.geteuid() == 0
        if config.user:
            account = find_account(config.user, config.group)
            if not is_root and (account.uid, account.gid) != (os.geteuid(), os.getegid()):
                text = f"cannot run as user {account.name!r}: only root can, and this process runs as {_self_name()!r}"
                raise StartError(lines=[f"{text}; start it as root, or remove the key `user`"])
            if not is_root:
                self._notes.append(f"the key `user` has no effect: the process already runs as {account.name!r}")
            elif account.uid != 0:
                self.account = account
        elif is_root:
            self._notes.append("running as root; the key `user` makes it give up root after the start")

    @contextlib.contextmanager
    def as_user(self) -> Iterator[None]:
        """Opens files with the permissions of the user that the process will become."""
        if self.account is None:
            yield
            return
        before = os.getgroups(), os.getegid(), os.geteuid()
        os.setgroups(self.account.groups)
        os.setegid(self.account.gid)
        os.seteuid(self.account.uid)
        try:
            yield
        finally:
            os.seteuid(before[2])
            os.setegid(before[1])
            os.setgroups(before[0])

    def hand_over(self, files: Iterable[str], folder: str) -> None:
        """Makes the user the owner of files that it must append to or replace, and of `folder`, the default for logs.

        Only in folders of root, where no other user can have made a link. OSError if that is impossible.
        """
        if self.account is None:
            return
        for path in files:
            parent = os.path.dirname(os.path.abspath(path))
            if not os.path.isdir(parent):
                os.makedirs(parent, mode=0o755)
                os.chown(parent, self.account.uid, self.account.gid)
            elif os.stat(parent).st_uid == 0:
                self._give_file(path, parent)
        if os.path.isdir(folder) and os.stat(folder).st_uid == 0:
            self._give(folder, os.O_DIRECTORY)

    def _give_file(self, path: str, parent: str) -> None:
        with self.as_user():
            may_create = os.access(parent, os.W_OK | os.X_OK, effective_ids=True)
        if os.path.lexists(path):
            self._give(path, 0)
        elif not may_create:
            self._give(path, os.O_CREAT | os.O_EXCL)

    def _give(self, path: str, flags: int) -> None:
        """Changes the owner of a file or folder of root. A link, or a file with a second name, stays as it is."""
        assert self.account is not None
        access = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
        try:
            descriptor = os.open(path, access | flags, 0o644)
        except OSError:
            return
        try:
            found = os.fstat(descriptor)
            is_single = stat.S_ISDIR(found.st_mode) or (stat.S_ISREG(found.st_mode) and found.st_nlink == 1)
            if found.st_uid == 0 and is_single:
                os.fchown(descriptor, self.account.uid, self.account.gid)
        finally:
            os.close(descriptor)

    async def start(self) -> None:
        """Gives up root. StartError if that fails, or if the user could not run the workers then."""
        for note in self._notes:
            self.log.write(WARN, note)
        if self.account is not None:
            self._become(self.account)
        marking = [repr(cluster.name) for cluster in self._options.config.cluster_manager.clusters if cluster.mark]
        if marking and not has_net_admin():
            names = ", ".join(marking)
            text = f"connections of the clusters with `mark` ({names}) will fail: the process has no CAP_NET_ADMIN"
            self.log.write(WARN, text)

    def _become(self, account: Account) -> None:
        try:
            drop(account)
        except OSError as error:
            text = f"cannot become user {account.name!r}: {error.strerror or error}"
            raise StartError(lines=[text]) from error
        fault = unreadable_program()
        if fault:
            hint = "install Python and pymosn where this user can read them, or choose another user"
            raise StartError(lines=[f"user {account.name!r} cannot run the workers: {fault}; {hint}"])
        path = self._options.source.path
        if path is not None and not os.access(path, os.R_OK):
            self.log.write(WARN, f"user {account.name!r} cannot read {path}: SIGHUP and reload will be rejected")


def apply_umask(config: MosnConfig) -> None:
    """Applies the key `umask`."""
    if config.umask:
        os.umask(parse_mode(config.umask))


def drop(account: Account) -> None:
    """Becomes another user, without any way back and without capabilities. OSError if it cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    capability = 0
    while prctl(CAPBSET_DROP, capability):
        capability += 1
    prctl(CAP_AMBIENT, CAP_AMBIENT_CLEAR_ALL)
    os.setgroups(account.groups)
    os.setresgid(account.gid, account.gid, account.gid)
    os.setresuid(account.uid, account.uid, account.uid)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    if libc.capset(header, (ctypes.c_uint32 * 6)()) or not prctl(SET_NO_NEW_PRIVS, 1):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    if (os.getresuid(), os.getresgid()) != ((account.uid,) * 3, (account.gid,) * 3) or _can_return():
        raise OSError(0, "the system did not give up root")


def has_net_admin() -> bool:
    """Whether this process may do what needs CAP_NET_ADMIN, such as SO_MARK."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 0)
        except OSError:
            return False
    return True


def _can_return() -> bool:
    try:
        os.setresuid(-1, 0, -1)
    except OSError:
        return False
    return True


def unreadable_program() -> str:
    """Why this process could not execute Python and import what workers need; empty if it could."""
    executable = sys.executable
    if not os.access(executable, os.X_OK):
        return _obstacle(executable)
    files = [os.path.realpath(executable), os.__file__, pymosn.__file__, uvloop.__file__, msgspec.__file__]
    return next((_obstacle(file) for file in files if not os.access(str(file), os.R_OK)), "")


def _obstacle(path: str) -> str:
    """The first part of a path, or of what it links to, that this process may not use."""
    for chain in (path, os.path.realpath(path)):
        for folder in reversed(Path(chain).parents):
            if not os.access(folder, os.X_OK):
                return f"{chain} is not accessible, because the folder {folder} is not"
    link = Path(path)
    while link.is_symlink():
        link = link.parent / os.readlink(link)
        for folder in reversed(Path(os.path.abspath(link)).parents):
            if not os.access(folder, os.X_OK):
                return f"{path} links to {link}, and the folder {folder} is not accessible"
    return f"{path} is not readable"


def _self_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
