"""What the supervisor checks in the files of filters before its workers import them."""

import os
from pathlib import Path
from typing import Final

from pymosn.config.diagnostics import Diagnostic, Severity
from pymosn.config.schema import MosnConfig
from pymosn.control.threads import off_loop
from pymosn.core.files import read_regular
from pymosn.filters.permissions import writable_fault
from pymosn.filters.stream.shipped import FROM_FILES

#: Seconds in which all files must have been read once.
TIME: Final = 10.0


class FilterFiles:
    """Checks the files of filters in a configuration, off the event loop."""

    def __init__(self, config_dir: str, trusted: int | None = None) -> None:
        """`config_dir`: for relative paths. `trusted`: the id of the user that the process will run as.

        Made as root, it makes a file that other users can change an error, also after the privileges have been dropped.
        """
        self._config_dir = config_dir
        self._severity: Severity = "error" if os.geteuid() == 0 else "warning"
        self._trusted = {0, os.geteuid(), os.geteuid() if trusted is None else trusted}

    async def faults(self, config: MosnConfig) -> list[Diagnostic]:
        """Files that do not answer, and those that any user could change. Workers report those that cannot be read."""
        current = [""]
        try:
            return await off_loop(TIME, self._faults, config, current)
        except TimeoutError:
            return [Diagnostic(message=f"the filter file {current[0]} cannot be read within {TIME:g} s")]

    def _faults(self, config: MosnConfig, current: list[str]) -> list[Diagnostic]:
        found: list[Diagnostic] = []
        for i, listener in enumerate(config.servers[0].listeners):
            for j, entry in enumerate(listener.stream_filters):
                if entry.type in FROM_FILES:
                    path = Path(self._config_dir, str(entry.config.get("path", "")))
                    current[0] = str(path)
                    fault = self._fault(path)
                    if fault:
                        where = f"servers[0].listeners[{i}].stream_filters[{j}].config.path"
                        found.append(Diagnostic(severity=self._severity, path=where, message=fault))
        return found

    def _fault(self, path: Path) -> str:
        try:
            read_regular(str(path))
        except OSError:
            return ""
        fault = writable_fault(path, self._trusted)
        return f"any user of this machine could change the filter: {fault}" if fault else ""
