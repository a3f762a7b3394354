"""The file with the process id, for service managers; pymosn itself never reads it to find a process."""

import contextlib
import os
from pathlib import Path

from pymosn.config.schema import MosnConfig
from pymosn.control.service import Service
from pymosn.core.log import WARN, Log


def pid_path(config: MosnConfig, base_dir: str) -> str:
    """The path of the file, by default `<base_dir>/logs/mosn.pid`."""
    return config.pid or os.path.join(base_dir, "logs", "mosn.pid")


class PidFile(Service):
    """Exists while the process runs, with mode 0644 and in a new folder if needed, as in MOSN. Failures are only logged."""

    name = "pid file"

    def __init__(self, path: str, log: Log) -> None:
        self._path = path
        self._log = log
        self._text = f"{os.getpid()}\n"

    async def start(self) -> None:
        # Written under another name and renamed: a reader never sees half a number, and a symbolic link is replaced, not
        # followed.
        temporary = f"{self._path}.{os.getpid()}"
        try:
            os.makedirs(os.path.dirname(os.path.abspath(self._path)), exist_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
            with open(descriptor, "w") as file:
                file.write(self._text)
            os.replace(temporary, self._path)
        except OSError as error:
            self._log.write(WARN, f"no pid file: {self._path}: {error.strerror}")

    async def stop(self) -> None:
        with contextlib.suppress(OSError):  # already removed
            if Path(self._path).read_text() == self._text:
                os.unlink(self._path)
