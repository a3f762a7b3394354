"""The client side of `pymosn reload` and `pymosn stop`: calls to the admin API over its unix socket.

No command signals a process that a file names: a pid file can be stale, and its number another process's. The process that
answers on the socket is the one that is meant, and the kernel tells its pid and user.
"""

import errno
import json
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from pymosn.control.peer import peer_of
from pymosn.control.plane import ChangeResult
from pymosn.observe.profile import Profile
from pymosn.server.admin_socket import open_folder, short_address
from pymosn.server.admin_wire import LONGEST_LINE, AdminWire, WireError

#: Limit of the processes above the one that serves.
MAX_ANCESTORS: Final = 100
#: Seconds that a tap may take longer than its time, and bytes of the longest line about an exchange.
TAP_MARGIN: Final = 30.0
LONGEST_RECORD: Final = 64 * 1024 * 1024
_NOT_RUNNING: Final = (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR)


class CallError(Exception):
    """The process cannot be reached or does not answer as expected; the text is the reason."""


class NotRunningError(CallError):
    """No process serves the socket."""


def reload_running(path: str, config: str, timeout: float) -> ChangeResult:
    """Makes the process that serves the socket `path` read its configuration again; returns the result.

    `config`: the file that it must have been started from. `timeout`: seconds.
    """
    with _Call(path, timeout) as call:
        body = call.post("/api/v1/reload", {"config": os.path.abspath(config)}, (200, 400))
    try:
        return msgspec.json.decode(body, type=ChangeResult)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise CallError(f"the process at {path} sent a response that is not a result of a change") from None


def view_of_running(path: str, target: str, timeout: float) -> dict[str, Any]:
    """An object that the admin API of the process at the socket `path` shows. `timeout`: seconds."""
    with _Call(path, timeout) as call:
        return _view(path, call.get(target))


def json_of_running(path: str, target: str, timeout: float) -> Any:
    """What the admin API of the process at the socket `path` shows: a JSON value. `timeout`: seconds."""
    with _Call(path, timeout) as call, suppress(ValueError, RecursionError):
        return json.loads(call.get(target))
    raise CallError(f"the process at {path} sent a response that is not JSON")


def explain_in_running(path: str, question: dict[str, Any], timeout: float) -> dict[str, Any]:
    """How the process at the socket `path` handles a request: `Question` and answer of `control/explain.py`."""
    with _Call(path, timeout) as call:
        return _view(path, call.post("/api/v1/explain", question, (200,)))


def profile_of_running(path: str, target: str, timeout: float) -> Profile:
    """A profile of the process that serves the socket `path`. `target`: a path below `/debug/pprof/`, with `format=json`."""
    with _Call(path, timeout) as call:
        body = call.get(target)
    try:
        return msgspec.json.decode(body, type=Profile)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise CallError(f"the process at {path} sent a response that is not a profile") from None


def _view(path: str, body: bytes) -> dict[str, Any]:
    with suppress(ValueError, RecursionError):
        value = json.loads(body)
        if isinstance(value, dict):
            return value
    raise CallError(f"the process at {path} sent a response that is not a view")


def stop_running(path: str, config: str, now: bool, timeout: float) -> int:
    """Ends the process that serves the socket `path`, and waits until it is gone; returns its pid. Else as `reload_running`.

    `now`: without draining.
    """
    with ExitStack() as stack, _Call(path, timeout) as call:
        ends = {pid: _end_of(pid) for pid in [call.pid, *_ancestors_of(call.pid)]}
        for end in ends.values():
            if end is not None:
                stack.callback(os.close, end)
        body = call.post("/api/v1/stop", {"config": os.path.abspath(config), "now": now}, (202,))
        # After upgrades the process that the outside knows is an ancestor, and ends last.
        main = _view(path, body).get("pid")
        pid = main if main in ends else call.pid
        if not all(_wait_for_end(ends[each], path, call.deadline) for each in (call.pid, pid)):
            raise CallError(f"process {pid} is stopping, but has not ended within {timeout:g} s")
    return int(pid)


def upgrade_running(path: str, asked: dict[str, Any], timeout: float, tell: Callable[[str], None]) -> dict[str, Any]:
    """Makes another process take over from the one at the socket `path`; returns the last line of its answer.

    `asked`: the body of `/api/v1/upgrade`. `tell`: called with each line of progress.
    """
    with _Call(path, timeout) as call:
        for line in call.lines("/api/v1/upgrade", asked):
            item = _view(path, line)
            if "done" in item:
                return item
            tell(_one_line(str(item.get("progress", ""))))
    raise CallError(f"the process at {path} has ended before the upgrade did")


def tap_running(path: str, asked: dict[str, Any], seconds: float) -> Iterator[bytes]:
    """The lines of a tap of the process at the socket `path`. `asked`: the body of `/api/v1/tap`."""
    with _Call(path, seconds + TAP_MARGIN) as call:
        yield from call.lines("/api/v1/tap", asked, LONGEST_RECORD)


def _ancestors_of(pid: int) -> list[int]:
    """The processes above a process, as far as this process can see them: one for each generation that still drains."""
    found: list[int] = []
    while (pid := _parent_of(pid)) and len(found) < MAX_ANCESTORS:
        found.append(pid)
    return found


def _parent_of(pid: int) -> int:
    """The parent of a process; 0 if this process cannot see it."""
    with suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    return 0


def _end_of(pid: int) -> int | None:
    """A descriptor that becomes readable when a process ends; None if the kernel has none for it."""
    with suppress(OSError):
        return os.pidfd_open(pid)
    return None


def _wait_for_end(end: int | None, path: str, deadline: float) -> bool:
    """Waits until a process has ended; without a descriptor, until its socket has gone."""
    if end is not None:
        return bool(select.select([end], [], [], max(0.0, deadline - time.monotonic()))[0])
    while os.path.lexists(path):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


class _Call:
    """One call over a unix socket. `pid`: of the process that serves it; `deadline`: on the monotonic clock."""

    def __init__(self, path: str, timeout: float) -> None:
        self._path = path
        self._timeout = timeout
        self._is_expired = False
        self.deadline = time.monotonic() + timeout
        self._socket = self._connect()
        self.pid, uid = peer_of(self._socket)
        if uid not in (0, os.geteuid()) and os.geteuid() != 0:
            self._socket.close()
            raise CallError(f"the socket {path} belongs to another user (uid {uid}); it may not be pymosn")

    def __enter__(self) -> "_Call":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _expire(self) -> None:
        """Ends every wait for the other process."""
        self._is_expired = True
        with suppress(OSError):  # already closed
            self._socket.shutdown(socket.SHUT_RDWR)

    def _connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(self._timeout)
        try:
            with open_folder(self._path) as folder:
                sock.connect(short_address(folder, self._path))
        except OSError as error:
            sock.close()
            kind = NotRunningError if error.errno in _NOT_RUNNING else CallError
            raise kind(self._connect_fault(error)) from error
        return sock

    def _connect_fault(self, error: OSError) -> str:
        if error.errno in _NOT_RUNNING:
            reason = "no process listens there" if error.errno == errno.ECONNREFUSED else "there is no such socket"
            return f"no process found at {self._path}: {reason}; is pymosn running with this configuration?"
        if error.errno in (errno.EACCES, errno.EPERM):
            return f"no access to {self._path}: only root and the user that pymosn runs as may use it"
        return f"cannot connect to {self._path}: {error.strerror or error}"

    def get(self, target: str) -> bytes:
        """Gets a resource."""
        return self._exchange("GET", target, "", (200,))

    def post(self, target: str, value: dict[str, Any], expected: tuple[int, ...]) -> bytes:
        """Sends a request; returns the body of the response. CallError if its status is not `expected`."""
        return self._exchange("POST", target, json.dumps(value), expected)

    def lines(self, target: str, value: dict[str, Any], longest: int = LONGEST_LINE) -> Iterator[bytes]:
        """Sends a request; yields the lines of the response while they arrive. CallError as for `post`."""
        with self._connected() as wire:
            status = wire.ask("POST", target, json.dumps(value).encode())
            if status != 200:
                raise self._refusal(status, wire.body())
            yield from wire.lines(longest)

    def _exchange(self, method: str, target: str, content: str, expected: tuple[int, ...]) -> bytes:
        with self._connected() as wire:
            status = wire.ask(method, target, content.encode())
            body = wire.body()
            if self._is_expired:
                raise TimeoutError
        if status not in expected:
            raise self._refusal(status, body)
        return body

    @contextmanager
    def _connected(self) -> Iterator[AdminWire]:
        """The connection for one request, whose failures become CallErrors."""
        # The timeout of the socket is for each of its bytes; this one is for all of them.
        end = threading.Timer(max(0.0, self.deadline - time.monotonic()), self._expire)
        end.daemon = True
        end.start()
        try:
            yield AdminWire(self._socket)
        except (OSError, WireError) as error:
            if self._is_expired or isinstance(error, TimeoutError):
                text = f"process {self.pid} at {self._path} has not answered within {self._timeout:g} s"
                raise CallError(text) from None
            reason = _one_line(str(error)) or type(error).__name__
            raise CallError(f"process {self.pid} at {self._path} does not answer as pymosn does: {reason}") from error
        finally:
            end.cancel()

    def _refusal(self, status: int, body: bytes) -> CallError:
        return CallError(f"process {self.pid} at {self._path} answered {status}: {_reason(body)}")


def _reason(body: bytes) -> str:
    """The error in a response."""
    text = body.decode("utf-8", "replace")
    with suppress(ValueError, RecursionError):
        value = json.loads(text)
        if isinstance(value, dict) and isinstance(value.get("error"), str):
            text = value["error"]
    return _one_line(text) or "no reason"


def _one_line(text: str) -> str:
    """A text from another process, for a terminal."""
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split())[:500])
