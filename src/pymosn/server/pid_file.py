"""The file with the process id, which `stop` and service managers read."""

import os
from types import TracebackType


class PidFile:
    """Holds the process id while the `with` block runs.

    OSError on entry when the file cannot be written. Mode 0644, the folder made when absent, as in MOSN.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._text = f"{os.getpid()}\n"

    def __enter__(self) -> "PidFile":
        os.makedirs(os.path.dirname(os.path.abspath(self.path)), exist_ok=True)
        # Written aside and renamed: a reader never sees half a number, and a symbolic link is replaced, not followed.
        aside = f"{self.path}.{os.getpid()}"
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
        with open(descriptor, "w") as file:
            file.write(self._text)
        os.replace(aside, self.path)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            with open(self.path) as file:
                is_ours = file.read() == self._text
            if is_ours:
                os.unlink(self.path)
        except OSError:
            pass  # already gone, or of a process that started since
