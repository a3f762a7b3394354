"""The child processes of a run: started on one core, and always ended."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from bench.void import Unavailable


class Processes:
    """The long-lived children of this run. Leaving the `with` block ends them and their own children."""

    def __init__(self, directory: Path) -> None:
        """`directory`: where the output of each child is written to a file."""
        self.directory = directory
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        # A second Ctrl-C must not leave some of them running.
        handlers = {signum: signal.signal(signum, signal.SIG_IGN) for signum in (signal.SIGINT, signal.SIGTERM)}
        for process in self._running:
            if process.poll() is None:
                process.terminate()
        for process in self._running:
            _end(process)
        self._running.clear()
        for signum, handler in handlers.items():
            signal.signal(signum, handler)

    def start(
        self, name: str, command: Sequence[str], core: int, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Starts `command` with all its future children on `core`, in a new process group."""
        with self.log_path(name).open("wb") as log, on_core(core):
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(env) if env is not None else None,
                start_new_session=True,
            )
        self._running.append(process)
        return process

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """Ends one child before the others."""
        _end(process)
        self._running.remove(process)

    def log_path(self, name: str) -> Path:
        """The output file of the child called `name`."""
        return self.directory / f"{name}.log"

    def wait_for_port(self, name: str, process: subprocess.Popen[bytes], port: int, seconds: float = 20) -> None:
        """Waits until `port` accepts connections. Raises Unavailable, with the end of the child's output, on timeout."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise Unavailable(f"{name} exited with status {process.returncode}: {self._tail(name)}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            time.sleep(0.02)
        raise Unavailable(f"{name} does not accept connections on port {port} after {seconds:.0f} s: {self._tail(name)}")

    def _tail(self, name: str) -> str:
        lines = self.log_path(name).read_text(errors="replace").strip().splitlines()
        return " | ".join(lines[-2:]) or "no output"


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """Moves this process to `core` temporarily, so that a child started meanwhile inherits the affinity."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Sends SIGTERM and, after at most three seconds, SIGKILL to the rest of the process group."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(3)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
