"""One process id for the outside: the first process stays through all upgrades, as parent and messenger of the others.

The *main process* is the one that was started by a service manager, a container or a shell. When another generation has
taken over, it forwards signals to that one (the *main child*), and when it has drained its own connections, it is replaced
by `keeper.py`, in the same process. It exits with the exit code of the main child.

The *tether* is a SEQPACKET socket pair between the main process and all later generations, which share one end. They send
which of them serves ("main PID"), how it has ended ("ended PID CODE", from its parent, if that is not the main process),
that older ones need not finish ("now"), and texts for the service manager ("notify ..."), which accepts them only from the
main process. The main process sends nothing, and its end is that of all generations: they kill themselves, so that their
workers end as if their supervisor was killed. When the other end is closed, no generation is left.
"""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Final

from pymosn.server.upgrade.keeper import FORWARDED, LONGEST, NOW, URGENCY, Outside, exists, notify, shell_code

#: The variable with which a generation inherits the tether: the descriptor, and the main process.
VARIABLE: Final = "PYMOSN_TETHER"
#: Turns of the event loop after which it has handled all signals that had arrived.
_TURNS: Final = 4
#: Seconds for an attempt to run the Python that the keeper needs.
_PROBE_TIME: Final = 10.0
#: Seconds between two checks whether the main child has ended, if the keeper could not be started.
_COLLECT_PERIOD: Final = 0.5
#: The signals about files, which a generation that starts must receive as well.
_REPEATED: Final = frozenset((signal.SIGHUP, signal.SIGUSR1))


class Tether:
    """What one generation has to do with the main process. `main_pid`: of that."""

    def __init__(self, main_pid: int) -> None:
        self.main_pid: Final = main_pid
        #: The generation that was started last, and the one that has taken over from this one; 0: there is none.
        self.starting = 0
        self.successor = 0
        #: Called when this generation has to end without waiting for anything.
        self.stop_now: Callable[[], object] = lambda: None
        self._urgency = 0

    @property
    def is_main(self) -> bool:
        """Whether this is the main process."""
        return self.main_pid == os.getpid()

    def pass_on(self) -> tuple[int, dict[str, str]]:
        """For starting a successor: a descriptor that it inherits, and variables of its environment."""
        raise NotImplementedError

    def on_started(self, pid: int) -> None:
        """The successor has been started. It must have blocked the signals that it is not ready for."""
        self.starting = pid

    def on_failed(self) -> None:
        """The successor has ended before it took over."""
        self.starting = 0

    def on_taken(self, pid: int) -> None:
        """The successor has taken over; signals are for it from now on."""
        self.successor = pid

    def on_end(self, pid: int, code: int) -> None:
        """A later generation has ended. `code`: as of `subprocess`, -n after signal n."""
        raise NotImplementedError

    def take_over(self) -> None:
        """This generation is the one that serves. OSError if the main process cannot be informed."""

    def notify(self, text: str) -> str:
        """Sends a text to the service manager, see sd_notify(3); returns why it failed, empty if it did not."""
        raise NotImplementedError

    def hurry(self) -> None:
        """This process was asked to stop at once: so must older generations."""

    async def stay(self) -> int:
        """To be called last, when this generation has nothing left to do; returns the exit code."""
        return 0

    def handle(self, loop: asyncio.AbstractEventLoop, number: signal.Signals, own: Callable[[], object]) -> None:
        """Sets the handler of a signal: `own`, or the successor's when there is one."""
        loop.add_signal_handler(number, self._on_signal, number, own)
        # Signals reach the event loop in two ways, and uvloop may call the handler once for each. The wakeup descriptor
        # remains.
        signal.signal(number, _ignore)
        signal.siginterrupt(number, False)

    def _on_signal(self, number: signal.Signals, own: Callable[[], object]) -> None:
        if not self.successor:
            own()
            if self.starting and number in _REPEATED:
                _kill(self.starting, number)  # for when it serves: it may have read the file, or opened the logs, before
            return
        self.forward(number)
        if number == signal.SIGUSR1:
            own()  # the logs of what is drained here
        self._urgency += URGENCY.get(number, 0)
        if self._urgency >= NOW:
            self.stop_now()

    def forward(self, number: signal.Signals) -> None:
        """Gives a signal to the generation that has taken over."""
        _kill(self.successor, number)


class LaterGeneration(Tether):
    """A generation that was started by an upgrade."""

    def __init__(self, main_pid: int, sock: socket.socket) -> None:
        super().__init__(main_pid)
        self._sock = sock
        threading.Thread(target=self._watch, name="tether", daemon=True).start()

    def _watch(self) -> None:
        """Ends this process with the main process, even if the event loop hangs or does not run yet."""
        with contextlib.suppress(OSError):
            while self._sock.recv(LONGEST):
                pass
        os.kill(os.getpid(), signal.SIGKILL)

    def pass_on(self) -> tuple[int, dict[str, str]]:
        return self._sock.fileno(), {VARIABLE: f"{self._sock.fileno()}:{self.main_pid}"}

    def on_end(self, pid: int, code: int) -> None:
        self._send(f"ended {pid} {shell_code(code)}")

    def on_failed(self) -> None:
        super().on_failed()
        self._send(f"main {os.getpid()}")  # it may have sent that it serves

    def take_over(self) -> None:
        self._sock.send(f"main {os.getpid()}".encode(), socket.MSG_DONTWAIT)

    def notify(self, text: str) -> str:
        return self._send(f"notify {text}")

    def hurry(self) -> None:
        self._send("now")

    def _send(self, text: str) -> str:
        """Returns why it failed, which happens if the main process is stopped (SIGSTOP)."""
        try:
            self._sock.send(text.encode()[:LONGEST], socket.MSG_DONTWAIT)
        except OSError as error:
            return f"the main process {self.main_pid}: {error.strerror}"
        return ""


class MainProcess(Tether):
    """The main process while it is still a generation."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(os.getpid())
        self._loop = loop
        # Read now: the upgrade may be to files that have replaced these.
        self._keeper = Path(__file__).with_name("keeper.py").read_bytes()
        self._pair: tuple[socket.socket, socket.socket] | None = None
        self._outside: Outside | None = None
        self._changed = asyncio.Event()

    def pass_on(self) -> tuple[int, dict[str, str]]:
        ours, theirs = self._pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self._outside = Outside(0, ours.fileno())
        self._loop.add_reader(ours.fileno(), self._read)
        return theirs.fileno(), {VARIABLE: f"{theirs.fileno()}:{self.main_pid}"}

    def on_failed(self) -> None:
        super().on_failed()
        if self._pair is not None and not self.successor:
            ours, theirs = self._pair
            self._loop.remove_reader(ours.fileno())
            ours.close()
            theirs.close()
            self._pair = self._outside = None

    def on_taken(self, pid: int) -> None:
        assert self._pair is not None
        assert self._outside is not None
        super().on_taken(pid)
        if not self._outside.main:
            self._outside.main = pid
        self._pair[1].close()

    def on_end(self, pid: int, code: int) -> None:
        if self._outside is not None:
            self._outside.on_end(pid, shell_code(code))
            self._check()

    def notify(self, text: str) -> str:
        return notify(text.encode())

    def forward(self, number: signal.Signals) -> None:
        assert self._outside is not None
        self._outside.read()
        self._outside.forward(number)

    def _read(self) -> None:
        assert self._pair is not None
        assert self._outside is not None
        self._outside.read()
        if self._outside.are_gone:
            self._loop.remove_reader(self._pair[0].fileno())
        self._check()

    def _check(self) -> None:
        self._changed.set()
        outside = self._outside
        if self.successor and outside is not None:
            code = outside.verdict()
            if code or (code == 0 and outside.urgency >= NOW):
                self.stop_now()

    async def stay(self) -> int:
        """Becomes the keeper, if a generation has taken over that has not ended."""
        outside = self._outside
        if outside is None or not self.successor:
            return 0
        if outside.code is None and await asyncio.to_thread(_runs_keeper):
            await self._become_keeper(outside)
        while True:
            self._changed.clear()
            outside.read()
            self._collect(outside)
            code = outside.verdict()
            if code is not None:
                return code
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), _COLLECT_PERIOD)

    def _collect(self, outside: Outside) -> None:
        """Collects the exit state of a main child that became a child of this process. Others wait for the successor."""
        if outside.main != self.successor:
            with contextlib.suppress(ChildProcessError):
                pid, status = os.waitpid(outside.main, os.WNOHANG)
                if pid:
                    outside.on_end(pid, shell_code(os.waitstatus_to_exitcode(status)))

    async def _become_keeper(self, outside: Outside) -> None:
        """Does not return, unless the system refuses.

        From a certain moment on, the event loop does not see signals any more, but the pipe has them. What had arrived
        before is handled meanwhile. So each signal is forwarded once, also one that arrives at another thread.
        """
        woken, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        before = signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        assert self._pair is not None
        script = os.memfd_create("pymosn-keeper", os.MFD_CLOEXEC)
        os.write(script, self._keeper)
        descriptors = [self._pair[0].fileno(), woken, waker]
        for descriptor in (script, *descriptors):
            os.set_inheritable(descriptor, True)
        program = [sys.executable, "-I", "-S", f"/proc/self/fd/{script}", "pymosn-keeper"]
        signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
        outside.read()
        if outside.code is None and exists(outside.main):  # else its exit code is about to be reported
            with contextlib.suppress(OSError):
                os.execv(program[0], [*program, *map(str, (outside.main, outside.urgency, *descriptors))])
        signal.set_wakeup_fd(before, warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
        with contextlib.suppress(BlockingIOError):
            for number in os.read(woken, LONGEST):
                outside.forward(number)
        for descriptor in (script, woken, waker):
            os.close(descriptor)
        self._changed.set()


def connect(loop: asyncio.AbstractEventLoop, environment: MutableMapping[str, str]) -> Tether:
    """The tether of this process, by a variable that is removed. ValueError if it is invalid."""
    value = environment.pop(VARIABLE, None)
    if value is None:
        return MainProcess(loop)
    descriptor, _, main_pid = value.partition(":")
    if not (descriptor.isdecimal() and main_pid.isdecimal()):
        raise ValueError(f"{VARIABLE}: expected a descriptor and a process id, got {value!r}")
    try:
        sock = socket.socket(fileno=int(descriptor))
    except OSError as error:
        raise ValueError(f"{VARIABLE}: descriptor {descriptor} is not a socket: {error.strerror}") from error
    sock.set_inheritable(False)
    return LaterGeneration(int(main_pid), sock)


def _runs_keeper() -> bool:
    """Whether the Python of this process still runs; an upgrade may have removed it."""
    command = [sys.executable, "-I", "-S", "-c", "import os, select, signal, socket"]
    try:
        return subprocess.run(command, stderr=subprocess.DEVNULL, timeout=_PROBE_TIME).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _kill(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(OSError):  # has just ended
        os.kill(pid, number)


def _ignore(number: int, frame: object) -> None:
    """The number is written to the wakeup descriptor."""
