"""The child processes of a run: started on one core, ended whatever happens."""

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
    """Every long-lived child of this run. Leaving the `with` block ends each one, with the children it made."""

    def __init__(self, directory: Path) -> None:
        """`directory` receives the children's output, a file each."""
        self.directory = directory
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        # A second Ctrl-C must not leave half of them running.
        handlers = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
        for process in self._running:
            if process.poll() is None:
                process.terminate()
        for process in self._running:
            _end(process)
        self._running.clear()
        for number, handler in handlers.items():
            signal.signal(number, handler)

    def start(
        self, name: str, command: Sequence[str], core: int, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Starts `command` with all its future children on `core`, in a process group of its own."""
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
        """Where the child called `name` writes."""
        return self.directory / f"{name}.log"

    def wait_for_port(self, name: str, process: subprocess.Popen[bytes], port: int, seconds: float = 20) -> None:
        """Returns when `port` accepts. Raises Unavailable, with the end of the child's output, when it never does."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise Unavailable(f"{name} ended with status {process.returncode}: {self._tail(name)}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            time.sleep(0.02)
        raise Unavailable(f"{name} does not accept on port {port} after {seconds:.0f} s: {self._tail(name)}")

    def _tail(self, name: str) -> str:
        lines = self.log_path(name).read_text(errors="replace").strip().splitlines()
        return " | ".join(lines[-2:]) or "it wrote nothing"


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """Moves this process to `core` for a moment: a child started meanwhile inherits the place."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, three seconds, then SIGKILL for what is left of the process group."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(3)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
