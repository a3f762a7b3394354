"""The process that the outside knows, after the generation that it once was has ended: it keeps the process id.

Run as a script, in the process of that generation, with: main child, urgency, and the descriptors of the tether and of a
pipe (reading and writing end), into which the signal handlers of both programs write. The signals are blocked while one
program replaces the other, so that none is lost. It imports little, because it is resident.
"""

import contextlib
import os
import select
import signal
import sys

#: The signals that are meant for the generation that serves.
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
#: Adds to `urgency`: from NOW on, older generations do not finish what they drain.
NOW = 2
URGENCY: dict[int, int] = {signal.SIGTERM: 1, signal.SIGINT: NOW, signal.SIGQUIT: NOW}
#: The exit code when that of the main child is not known.
UNKNOWN = 1
#: The longest message of the tether in bytes.
LONGEST = 4096


class Outside:
    """The main process's view of the generations.

    `main`: the generation that serves; `code`: its exit code, if it has ended. `are_gone`: no other generation is left.
    """

    def __init__(self, main: int, tether: int, urgency: int = 0) -> None:
        self.main = main
        self.code: int | None = None
        self.are_gone = False
        self.urgency = urgency
        self._tether = tether

    def read(self) -> None:
        """Reads the messages of the generations."""
        while not self.are_gone:
            try:
                message = os.read(self._tether, LONGEST)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            word, _, rest = message.partition(b" ")
            if not word:
                self.are_gone = True
            elif word == b"main":
                self.main, self.code = int(rest), None
            elif word == b"ended":
                pid, code = rest.split()
                self.on_end(int(pid), int(code))
            elif word == b"now":
                self.urgency += NOW
            elif word == b"notify":
                notify(rest)

    def on_end(self, pid: int, code: int) -> None:
        """A process has ended, maybe the main child."""
        if pid == self.main:
            self.code = code

    def forward(self, number: int) -> None:
        """Gives a signal to the main child."""
        self.urgency += URGENCY.get(number, 0)
        if self.code is None:
            with contextlib.suppress(OSError):  # it has just ended
                os.kill(self.main, number)

    def verdict(self) -> int | None:
        """The exit code of this process when it is time to exit: at a crash at once, else after the older generations."""
        if self.code is None and self.are_gone and not exists(self.main):
            return UNKNOWN
        if self.code == 0 and not self.are_gone and self.urgency < NOW:
            return None
        return self.code


def shell_code(code: int) -> int:
    """The exit code by the convention of shells and containers: 128 + n after signal n, which `code` has as -n."""
    return code if code >= 0 else 128 - code


def notify(text: bytes) -> str:
    """Sends a text to the service manager (sd_notify(3)), if there is one; returns why that failed, empty if it did not."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return ""
    if address[0] not in "/@":
        return f"NOTIFY_SOCKET={address} is not a unix socket"
    import socket

    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            sock.sendto(text, "\0" + address[1:] if address[0] == "@" else address)
    except OSError as error:
        return f"{address}: {error.strerror or error}"
    return ""


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _reap(outside: Outside) -> None:
    """Collects the exit states of all children that have ended; orphans of others too."""
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            outside.on_end(pid, shell_code(os.waitstatus_to_exitcode(status)))


def main(child: int, urgency: int, tether: int, woken: int, waker: int) -> int:
    """Keeps the process until the end of the main child; returns the exit code."""
    for number in (*FORWARDED, signal.SIGCHLD):
        signal.signal(number, lambda number, frame: None)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    outside = Outside(child, tether, urgency)
    poll = select.poll()
    poll.register(woken, select.POLLIN)
    poll.register(tether, select.POLLIN)
    while True:
        try:
            numbers = os.read(woken, LONGEST)
        except BlockingIOError:
            numbers = b""
        # First, because the signals are for the generation that serves now.
        outside.read()
        for received in numbers:
            if received in FORWARDED:
                outside.forward(received)
        _reap(outside)
        code = outside.verdict()
        if code is not None:
            return code
        if outside.are_gone and tether >= 0:
            poll.unregister(tether)
            tether = -1
        poll.poll()


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[-5:])))
