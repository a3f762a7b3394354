"""The Java programs of the suite: built once by Maven, run as child processes, controlled through lines of text."""

from __future__ import annotations

import contextlib
import queue
import random
import shutil
import socket
import subprocess
import threading
from pathlib import Path

JAVA = Path(__file__).parent / "java"
#: Messages of Maven without network access, or if its repository lacks an artifact.
NOT_SERVED = ("Could not transfer", "Could not resolve", "Could not find artifact", "Non-resolvable", "Unknown host")
#: Dubbo 2.7 accesses internals of the JDK, which newer JDKs forbid by default.
JVM = (
    "-Xmx256m",
    "-XX:TieredStopAtLevel=1",
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
    "--add-opens=java.base/java.math=ALL-UNNAMED",
    "--add-opens=java.base/java.util=ALL-UNNAMED",
    "-Djava.net.preferIPv4Stack=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Ddubbo.application.logger=slf4j",
    "-Ddubbo.application.qos-enable=false",
    "-Ddubbo.service.shutdown.wait=500",
)
#: Dubbo replaces 127.0.0.1 and localhost by the machine's external address, but not this number for the same address.
LOOPBACK = str(0x7F000001)


class NotServed(Exception):
    """The Java peers cannot be built on this machine; the text is the reason."""


def build() -> None:
    """Builds all peers. Raises NotServed if Maven or its repository is not available, RuntimeError for a compile error."""
    for tool in ("mvn", "java", "javac"):
        if shutil.which(tool) is None:
            raise NotServed(f"{tool} is not installed")
    run = subprocess.run(["mvn", "-B", "-q", "package"], cwd=JAVA, capture_output=True, text=True, timeout=900, check=False)
    if run.returncode == 0:
        return
    for line in run.stdout.splitlines():
        if any(words in line for words in NOT_SERVED):
            raise NotServed(line)
    raise RuntimeError(run.stdout + run.stderr)


def provider_ports(count: int) -> list[int]:
    """Free ports outside the ephemeral range, so that no outgoing connection takes them while the provider starts."""
    found: list[int] = []
    for port in random.sample(range(15000, 32000), 500):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("0.0.0.0", port))
            found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no free ports")


class Peer:
    """One Java program, which exits when its standard input is closed."""

    def __init__(self, module: str, main: str, *arguments: str, options: tuple[str, ...] = ()) -> None:
        """`module`: dubbo2, dubbo3 or sofa; `main`: the class in it, such as dubbo.Provider."""
        target = JAVA / module / "target"
        command = ["java", *JVM, *options, "-cp", f"{target / 'classes'}:{target / 'lib'}/*", f"interop.{main}", *arguments]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
        )
        self.lines: list[str] = []
        self._queue: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._queue.put(line.rstrip("\n"))
        self._queue.put(None)

    def expect(self, start: str, seconds: float = 60) -> str:
        """The next line that begins with `start`; fails, with the output so far, if there is none in time."""
        while True:
            try:
                line = self._queue.get(timeout=seconds)
            except queue.Empty:
                line = None
            if line is None:
                raise AssertionError(f"no line {start!r} received:\n" + "\n".join(self.lines[-60:]))
            self.lines.append(line)
            if line.startswith(start):
                return line

    def finish(self, seconds: float = 60) -> list[str]:
        """Closes standard input, waits for the exit, and returns all lines."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(seconds)
        while (line := self._queue.get(timeout=seconds)) is not None:
            self.lines.append(line)
        return self.lines

    def kill(self) -> None:
        """Kills the process, to simulate a crash."""
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()


def steps_of(lines: list[str]) -> list[str]:
    """The names of the steps that a consumer ran; fails if one of them had a wrong result."""
    wrong = [line for line in lines if line.startswith("WRONG ")]
    assert not wrong, wrong
    return [line.removeprefix("STEP ") for line in lines if line.startswith("STEP ")]
