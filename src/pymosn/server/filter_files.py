"""The files of filters: the supervisor reads and checks them before its workers import what it has read."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from pymosn.assembly.extensions import code_files
from pymosn.config.diagnostics import Diagnostic, Severity
from pymosn.config.schema import MosnConfig
from pymosn.control.threads import off_loop
from pymosn.filters.permissions import writable_fault
from pymosn.filters.sources import Sources, folder_and_name, read_sources

#: Seconds in which all files must have been read once.
TIME: Final = 10.0


class FilterFiles:
    """Reads the files of filters in a configuration, off the event loop."""

    def __init__(self, config_dir: str, trusted: int | None = None) -> None:
        """`config_dir`: for relative paths. `trusted`: the id of the user that the process will run as.

        Made as root, it makes a file that other users can change an error, also after the privileges have been dropped.
        """
        self._config_dir = config_dir
        self._severity: Severity = "error" if os.geteuid() == 0 else "warning"
        self._trusted = {0, os.geteuid(), os.geteuid() if trusted is None else trusted}

    def folders(self, config: MosnConfig) -> set[str]:
        """The folders that a configuration has filters in."""
        return {folder_and_name(file)[0] for file in self._files(config).values()}

    async def read(self, config: MosnConfig, kept: Sources) -> tuple[Sources, list[Diagnostic]]:
        """Reads the folders of filters, except those of which `kept` has all files that the configuration names.

        Returns what was read, and the faults: files that cannot be read or do not answer, and those that any user could
        change.
        """
        files = self._files(config)
        missing = {folder_and_name(file)[0] for file in files.values() if not kept.has(file)}
        files = {path: file for path, file in files.items() if folder_and_name(file)[0] in missing}
        current = [""]
        try:
            return await off_loop(TIME, self._read, files, current)
        except TimeoutError:
            return Sources(), [Diagnostic(message=f"the filter file {current[0]} cannot be read within {TIME:g} s")]

    def _files(self, config: MosnConfig) -> dict[str, str]:
        return code_files(config, self._config_dir)

    def _read(self, files: dict[str, str], current: list[str]) -> tuple[Sources, list[Diagnostic]]:
        def note(path: str) -> None:
            current[0] = path

        sources = read_sources(files.values(), note)
        found: list[Diagnostic] = []
        for path, file in files.items():
            fault = sources.faults.get(os.path.abspath(file), "")
            if fault:
                found.append(Diagnostic(path=path, message=fault))
                continue
            note(file)
            fault = writable_fault(Path(file), self._trusted)
            if fault:
                text = f"any user of this machine could change the filter: {fault}"
                found.append(Diagnostic(severity=self._severity, path=path, message=text))
        keys = {folder_and_name(file)[0]: path for path, file in files.items()}
        configured = {os.path.abspath(file) for file in files.values()}
        for file, fault in sources.faults.items():
            if file not in configured:  # an import of it fails with `No module named`, which does not tell why
                found.append(Diagnostic(severity="warning", path=keys[_folder_of(file, keys)], message=fault))
        return sources, found


def _folder_of(file: str, folders: Iterable[str]) -> str:
    """The innermost of the folders that a file is in."""
    return max((folder for folder in folders if file.startswith(f"{folder.rstrip(os.sep)}{os.sep}")), key=len)
