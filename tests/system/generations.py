"""All processes of a proxy that is upgraded: the first is the test's child, the others are theirs."""

import http.client
import json
import os
import signal
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from pymosn_process import PATIENCE, READY, Pymosn, is_alive

from pymosn.server.worker_process import worker_environment

#: Seconds for `pymosn upgrade`, which by itself gives up after 75.
UPGRADE_TIME = 90.0


class Generations:
    """`config`: the file of the proxy. `pids`: of the generations that the test knows, the oldest first."""

    def __init__(self, proxy: Pymosn, config: Path, admin_port: int) -> None:
        self.proxy = proxy
        self.config = config
        self.pids = [proxy.process.pid]
        self._admin_port = admin_port
        proxy.wait_for(READY)

    def get(self, path: str) -> bytes:
        """A page of the admin API."""
        with closing(http.client.HTTPConnection("127.0.0.1", self._admin_port, timeout=PATIENCE)) as connection:
            connection.request("GET", path)
            return connection.getresponse().read()

    def view(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.get("/api/v1/upgrade"))
        return found

    def upgrade(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`pymosn upgrade`; notes the process that has taken over."""
        command = [sys.executable, "-m", "pymosn", "upgrade", "-c", str(self.config), *arguments]
        environment = worker_environment(os.environ)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=UPGRADE_TIME)
        if done.returncode == 0:
            self.note()
        return done

    def note(self) -> None:
        """Notes the process that serves."""
        self.pids.append(self.serving())

    def serving(self) -> int:
        """The process that serves."""
        found: int = next(each["pid"] for each in self.view()["generations"] if each["state"] == "serving")
        return found

    def processes(self) -> list[int]:
        """The live processes that were started with the configuration file."""
        return [pid for pid in all_pids() if is_alive(pid) and str(self.config).encode() in command_of(pid)]

    def end(self) -> None:
        while found := self.processes():
            for pid in found:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.proxy.process.poll()
        self.proxy.end()


def all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
