"""Taking the listening sockets over from a running MOSN, as the next MOSN would (key reference, section 18).

A MOSN that can be upgraded listens on `reconfig.sock` in the folder of `uds_dir`. Who connects starts the upgrade: MOSN
sends its sockets to `listen.sock`, one message with descriptors, and with `inherit_old_mosnconfig` its configuration to
`mosnconfig.sock`. Then it waits for one byte, which means that the successor serves, and acknowledges it with another. Until
then MOSN serves as before, whatever happens here; afterwards it stops accepting and ends by itself, and its open connections
stay with it. Only processes of the same user, and of root, are trusted.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
import time
from array import array
from collections.abc import Iterator
from typing import Final, NamedTuple

from pymosn.api.network import join_address
from pymosn.control.peer import peer_of
from pymosn.core.addresses import unmapped
from pymosn.core.errors import reason
from pymosn.core.files import MAX_FILE
from pymosn.server.sockets import TRANSPARENT, close_all, is_bound

#: MOSN's folder for its sockets if the configuration file is in `/` or in a folder of it, whatever `uds_dir` is.
DEFAULT_FOLDER: Final = "/home/admin/mosn/conf"
#: Seconds until MOSN has accepted and written its byte.
DIAL_TIME: Final = 3.0
#: Seconds until MOSN has sent its sockets, and as many until it has sent its configuration.
SEND_TIME: Final = 10.0
#: Seconds until MOSN has acknowledged that it is replaced.
ACKNOWLEDGE_TIME: Final = 3.0
#: The kernel's limit of descriptors in a message (SCM_MAX_FD); MOSN sends at most 100.
_MAX_DESCRIPTORS: Final = 253
_READ_SIZE: Final = 64 * 1024
#: Seconds in which a process that is dying ends.
_DYING_TIME: Final = 0.5
_WILDCARDS: Final = ("0.0.0.0", "::")


class TakeoverError(Exception):
    """The sockets of MOSN cannot be taken over; it keeps serving."""


class MosnSocket(NamedTuple):
    """One of MOSN's sockets. `network`: "tcp", "udp" or "unix". `host`: IP address, or path of a unix socket."""

    sock: socket.socket
    network: str
    host: str
    port: int
    is_transparent: bool

    @property
    def address(self) -> str:
        """For people."""
        return self.host if self.network == "unix" else join_address(self.host, self.port)

    def has_address(self, network: str, host: str, port: int) -> bool:
        """Whether this is its address. MOSN, as all Go programs, listens on `[::]` if `0.0.0.0` is configured."""
        if (network, port) != (self.network, self.port):
            return False
        return host == self.host or (network != "unix" and host in _WILDCARDS and self.host in _WILDCARDS)


def socket_folder(config_path: str, uds_dir: str) -> str:
    """Where MOSN has its sockets. `uds_dir` is relative to the current directory; default: the folder of the file."""
    folder = os.path.dirname(os.path.abspath(config_path))
    if folder.rfind("/") <= 0:
        return DEFAULT_FOLDER
    return os.path.abspath(uds_dir) if uds_dir else folder


class _Place:
    """A unix socket that listens, and its file. What an earlier start has left there is removed."""

    def __init__(self, path: str) -> None:
        """TakeoverError if it cannot listen."""
        self._path = path
        self.sock: Final = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _explained(f"cannot listen on {path}"):
                with contextlib.suppress(FileNotFoundError):
                    if not stat.S_ISSOCK(os.lstat(path).st_mode):
                        raise TakeoverError(f"{path} is not a socket")
                    os.unlink(path)
                os.fchmod(self.sock.fileno(), 0o600)  # the mode of its file
                self.sock.bind(path)
                self.sock.listen(1)
        except BaseException:
            self.sock.close()
            raise
        self._mine = _inode(path)

    def close(self) -> None:
        """Also removes the file."""
        if self._mine is not None and self._mine == _inode(self._path):
            with contextlib.suppress(OSError):
                os.unlink(self._path)
        self._mine = None
        self.sock.close()

    def accept(self, seconds: float) -> socket.socket:
        """The next connection of a trusted process, which is closed if it sends nothing for SEND_TIME. OSError."""
        deadline = time.monotonic() + seconds
        while True:
            self.sock.settimeout(max(0.0, deadline - time.monotonic()))
            connection, _ = self.sock.accept()
            if _is_trusted(peer_of(connection).uid):
                connection.settimeout(SEND_TIME)
                return connection
            connection.close()

    def read(self, seconds: float) -> bytes:
        """All that the next connection sends, which comes within `seconds`. OSError, TakeoverError."""
        with self.accept(seconds) as connection:
            content = bytearray()
            while data := connection.recv(_READ_SIZE):
                content += data
                if len(content) > MAX_FILE:
                    raise TakeoverError(f"MOSN's configuration has more than {MAX_FILE} bytes")
            return bytes(content)


class OldMosn:
    """A MOSN that has sent its sockets, and waits until its successor serves."""

    def __init__(self, reconfig: str, connection: socket.socket, configs: _Place) -> None:
        """`reconfig`: the path of `reconfig.sock`. `connection`: what MOSN has made to `listen.sock`."""
        self._reconfig = reconfig
        self._inode = _inode(reconfig)
        self._connection = connection
        self._configs = configs
        self._process = _process_of(connection)
        self.sockets: list[MosnSocket] = []
        self._used: set[MosnSocket] = set()
        #: Its configuration, JSON, if it was asked for.
        self.config = b""

    def receive(self, wants_config: bool) -> None:
        """Receives the sockets, and the configuration. TakeoverError."""
        with _explained("MOSN did not send its sockets"):
            self.sockets = [_described(sock) for sock in _received(self._connection)]
        if wants_config:
            with _explained("MOSN did not send its configuration (is `inherit_old_mosnconfig` true there as well?)"):
                self.config = self._configs.read(SEND_TIME)

    def find(self, network: str, host: str, port: int) -> MosnSocket | None:
        """The socket with this address, which then counts as used. It stays open until `close`."""
        for found in self.sockets:
            if found.has_address(network, host, port):
                self._used.add(found)
                return found
        return None

    def unused(self) -> list[MosnSocket]:
        """The sockets that were not found by anyone."""
        return [found for found in self.sockets if found not in self._used]

    def confirm(self) -> str:
        """Confirms that this process serves, and waits for the acknowledgment. Blocks for seconds.

        Returns a warning, or an empty text. TakeoverError if MOSN has not left the sockets to this process.
        """
        try:
            with _explained("MOSN did not acknowledge that it is replaced"):
                self._connection.settimeout(ACKNOWLEDGE_TIME)
                self._connection.sendall(b"\0")
                self._await_acknowledgment()
                if not self._connection.recv(1):
                    raise TakeoverError("MOSN has ended the upgrade, and serves; its log has the reason")
        except TakeoverError as error:
            if not self._is_gone():
                raise
            return f"MOSN has died during the upgrade, and this process serves alone ({error})"
        # MOSN answers there until it ends, but has no sockets to give any more.
        if self._inode is not None and self._inode == _inode(self._reconfig):
            with contextlib.suppress(OSError):
                os.unlink(self._reconfig)
        return ""

    def _await_acknowledgment(self) -> None:
        """Returns when MOSN answers. TimeoutError.

        With `inherit_old_mosnconfig` it sends its configuration unasked at some time, and waits until all has been read.
        """
        wanted = [self._connection] if self.config else [self._connection, self._configs.sock]
        deadline = time.monotonic() + ACKNOWLEDGE_TIME
        while True:
            ready = select.select(wanted, [], [], max(0.0, deadline - time.monotonic()))[0]
            if self._connection in ready:
                return
            if not ready:
                raise TimeoutError("timed out")
            with contextlib.suppress(OSError, TakeoverError):
                self._configs.read(0.0)

    def close(self) -> None:
        """Closes the connection, and this process's copies of the sockets. If it has not confirmed, MOSN continues."""
        self._connection.close()
        self._configs.close()
        close_all(found.sock for found in self.sockets)
        self.sockets = []
        if self._process >= 0:
            os.close(self._process)
            self._process = -1

    def process(self) -> int:
        """A pidfd of MOSN, which the caller closes; -1 if it is not visible."""
        return -1 if self._process < 0 else os.dup(self._process)

    def used_files(self) -> list[str]:
        """The paths of the unix sockets that were found."""
        return [found.host for found in self._used if found.network == "unix"]

    def _is_gone(self) -> bool:
        """Whether it has died: its descriptors are closed a moment before the process ends."""
        return self._process >= 0 and bool(select.select([self._process], [], [], _DYING_TIME)[0])


def find(folder: str, wants_config: bool) -> OldMosn | None:
    """Asks a MOSN that serves in this folder for its sockets; None if there is none. Blocks up to half a minute.

    TakeoverError if there is one that cannot be taken over.
    """
    path = os.path.join(folder, "reconfig.sock")
    try:
        found = os.lstat(path)
    except OSError:
        return None
    if not stat.S_ISSOCK(found.st_mode):
        return None
    if not _is_trusted(found.st_uid):
        # Connecting would already start the upgrade.
        if is_bound(path):
            raise TakeoverError(f"{path} belongs to user {found.st_uid}, who is not trusted; `disable_upgrade` ignores it")
        return None
    # First, so that MOSN finds them at its first attempt.
    listening = _Place(os.path.join(folder, "listen.sock"))
    try:
        configs = _Place(os.path.join(folder, "mosnconfig.sock"))
        try:
            return _received_from(path, listening, configs, wants_config)
        except BaseException:
            configs.close()
            raise
    finally:
        listening.close()


def _received_from(path: str, listening: _Place, configs: _Place, wants_config: bool) -> OldMosn | None:
    """Receives everything from the MOSN that serves `path`. The result owns `configs`."""
    if not _asked(path):
        configs.close()
        return None
    with _explained("MOSN did not send its sockets (it may be ending; its log has the reason)"):
        old = OldMosn(path, listening.accept(SEND_TIME), configs)
    try:
        old.receive(wants_config)
    except BaseException:
        old.close()
        raise
    return old


def _asked(path: str) -> bool:
    """Asks MOSN to begin; False if nothing listens there."""
    with _explained("MOSN does not answer"), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(DIAL_TIME)
        try:
            sock.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        peer = peer_of(sock)
        if not _is_trusted(peer.uid):
            raise TakeoverError(f"{path} is served by user {peer.uid}, who is not trusted")
        if not sock.recv(1):
            raise TakeoverError("MOSN does not answer: it has closed the connection")
        return True


def _received(connection: socket.socket) -> list[socket.socket]:
    """The sockets in one message. OSError, TakeoverError."""
    size = array("i").itemsize
    data, ancillary, flags, _ = connection.recvmsg(1, socket.CMSG_LEN(_MAX_DESCRIPTORS * size), socket.MSG_CMSG_CLOEXEC)
    descriptors: list[int] = []
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.extend(array("i", content[: len(content) - len(content) % size]))
    sockets: list[socket.socket] = []
    try:
        if not data or flags & socket.MSG_CTRUNC:
            raise TakeoverError("MOSN's sockets were lost" if data else "MOSN has closed the connection")
        while descriptors:
            sockets.append(socket.socket(fileno=descriptors[0]))
            del descriptors[0]
    except BaseException:
        close_all(sockets)
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    return sockets


def _described(sock: socket.socket) -> MosnSocket:
    sock.setblocking(False)
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return MosnSocket(sock, "unix", str(name), 0, False)
    network = "udp" if sock.type == socket.SOCK_DGRAM else "tcp"
    option = TRANSPARENT.get(sock.family)
    is_transparent = option is not None and network == "tcp" and bool(sock.getsockopt(*option))
    return MosnSocket(sock, network, unmapped(str(name[0])), int(name[1]), is_transparent)


def _process_of(connection: socket.socket) -> int:
    """A pidfd of the peer; -1 if it is in another namespace."""
    with contextlib.suppress(OSError, ValueError):
        return os.pidfd_open(peer_of(connection).pid)
    return -1


def _is_trusted(uid: int) -> bool:
    return uid in (0, os.geteuid())


def _inode(path: str) -> tuple[int, int] | None:
    """Device and inode of a file; None if it is gone."""
    with contextlib.suppress(OSError):
        found = os.lstat(path)
        return found.st_dev, found.st_ino
    return None


@contextlib.contextmanager
def _explained(text: str) -> Iterator[None]:
    """Errors of the system as TakeoverError."""
    try:
        yield
    except TimeoutError as error:
        raise TakeoverError(f"{text}: no answer in time") from error
    except OSError as error:
        raise TakeoverError(f"{text}: {reason(error) or error}") from error
