"""Options of one run of the proxy, and how a start fails."""

import os
from typing import Final

import msgspec

from pymosn.config.diagnostics import Diagnostic, Places
from pymosn.config.schema import MosnConfig
from pymosn.server.config_source import ConfigSource

#: The exit codes of all commands.
CLEAN: Final = 0
BAD_CONFIGURATION: Final = 1
OTHER_FAULT: Final = 2


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of `pymosn start`, with the configuration already loaded.

    `source`: where the configuration comes from; `places`: positions of its values there. `config_dir`: its directory;
    `base_dir`: the directory that contains `logs/`. `workers`: value of --workers. `log_ceiling`: value of --log-level.
    """

    source: ConfigSource
    config: MosnConfig
    config_dir: str
    base_dir: str
    places: Places = {}
    workers: int | None = None
    log_ceiling: str | None = None

    @property
    def is_demo(self) -> bool:
        """Whether to run the built-in example, with its demo upstream."""
        return self.source.path is None

    @property
    def pid_path(self) -> str:
        """The file for the process id."""
        return self.config.pid or os.path.join(self.base_dir, "logs", "mosn.pid")


class StartError(Exception):
    """The process cannot start. `faults`: errors in the configuration, `lines`: all other reasons."""

    def __init__(self, *, faults: list[Diagnostic] | None = None, lines: list[str] | None = None) -> None:
        super().__init__("cannot start")
        self.faults = faults or []
        self.lines = lines or []

    @property
    def exit_code(self) -> int:
        """1 for an invalid configuration, 2 for anything else."""
        return BAD_CONFIGURATION if self.faults else OTHER_FAULT
