"""A control plane in a process of its own, which can be stopped by a signal. `python -m xds_process` is the process.

It prints its port, and then `ok` after each line of its input: JSON with calls of functions of `xds_peers` and their
arguments, which make the resources to be set.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from types import TracebackType
from typing import Any

from pymosn_process import eventually, is_stopped


class ControlProcess:
    """The process, as a context manager. `port`: where it listens."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "xds_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        self.port = int(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def set(self, *calls: list[Any]) -> None:
        """Sets resources, such as `["hosts", "c", 80]`."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(calls) + "\n")
        self._process.stdin.flush()
        assert self._line() == "ok\n"

    def freeze(self) -> None:
        """Stops it by SIGSTOP: its connections stay open, and nothing is answered."""
        self._process.send_signal(signal.SIGSTOP)
        assert eventually(lambda: is_stopped(self._process.pid))

    def thaw(self) -> None:
        """Lets it go on."""
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> ControlProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait(10)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()


def main() -> None:
    """The process."""
    import xds_peers
    from tests.kit.xds_server import XdsServer

    with XdsServer() as control:
        print(control.port, flush=True)
        for line in sys.stdin:
            control.set(*(getattr(xds_peers, name)(*arguments) for name, *arguments in json.loads(line)))
            print("ok", flush=True)


if __name__ == "__main__":
    main()
