"""The file with the process id: for service managers, and for `pymosn stop` if nothing serves the admin socket."""

import contextlib
import os
from typing import Final

from pymosn.config.schema import MosnConfig
from pymosn.control.service import Service
from pymosn.control.threads import off_loop
from pymosn.core.files import read_regular, require_replaceable
from pymosn.core.log import WARN, Log

#: Seconds for writing or removing the file.
TIME: Final = 5.0


def pid_path(config: MosnConfig, base_dir: str) -> str:
    """The path of the file, by default `<base_dir>/logs/mosn.pid`."""
    return config.pid or os.path.join(base_dir, "logs", "mosn.pid")


class PidFile(Service):
    """Exists while the process runs, with mode 0644 and in a new folder if needed, as in MOSN. Failures are only logged."""

    name = "pid file"

    def __init__(self, path: str, log: Log, pid: int) -> None:
        """`pid`: the process that the outside knows."""
        self._path = path
        self._log = log
        self._text = f"{pid}\n"

    async def start(self) -> None:
        try:
            await off_loop(TIME, self._write)
        except OSError as error:
            self._log.write(WARN, f"no pid file: {self._path}: {error.strerror or error}")

    def leave(self) -> None:
        """The file is another process's from now on, and stays."""
        self._text = ""

    async def stop(self) -> None:
        if not self._text:
            return
        with contextlib.suppress(OSError):  # already removed
            await off_loop(TIME, self._remove)

    def _write(self) -> None:
        # Written under another name and renamed: a reader never sees half a number, and a symbolic link is replaced, not
        # followed.
        # In a folder that this process may not write to, the file itself may have been handed over to its user.
        require_replaceable(self._path)
        temporary = f"{self._path}.{os.getpid()}"
        try:
            os.makedirs(os.path.dirname(os.path.abspath(self._path)), exist_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
            with open(descriptor, "w") as file:
                file.write(self._text)
            os.replace(temporary, self._path)
        except PermissionError:
            self._overwrite(self._text)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary)  # half written, if the disk is full
            raise

    def _remove(self) -> None:
        if read_regular(self._path, 100) == self._text.encode():
            try:
                os.unlink(self._path)
            except PermissionError:
                self._overwrite("")

    def _overwrite(self, text: str) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "w") as file:
            file.write(text)
