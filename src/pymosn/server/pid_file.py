"""The file with the process id, which `pymosn reload` and service managers read."""

import os

from pymosn.control.service import Service
from pymosn.core.log import WARN, Log


class PidFile(Service):
    """Contains the process id while the process runs. Mode 0644, the folder is created if absent, as in MOSN.

    A file that cannot be written is only logged.
    """

    name = "pid file"

    def __init__(self, path: str, log: Log) -> None:
        self._path = path
        self._log = log
        self._text = f"{os.getpid()}\n"

    async def start(self) -> None:
        try:
            self._write()
        except OSError as error:
            self._log.write(WARN, f"no pid file: {self._path}: {error.strerror}")

    def _write(self) -> None:
        os.makedirs(os.path.dirname(os.path.abspath(self._path)), exist_ok=True)
        # Written under another name and renamed: a reader never sees half a number, and a symbolic link is replaced, not
        # followed.
        temporary = f"{self._path}.{os.getpid()}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
        with open(descriptor, "w") as file:
            file.write(self._text)
        os.replace(temporary, self._path)

    async def stop(self) -> None:
        try:
            with open(self._path) as file:
                is_ours = file.read() == self._text
            if is_ours:
                os.unlink(self._path)
        except OSError:
            pass  # already removed
