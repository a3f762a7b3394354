"""What is to be run, and how a start fails."""

from collections.abc import Callable
from typing import Final

import msgspec

from pymosn.config.diagnostics import Diagnostic, Places
from pymosn.config.load import Loaded
from pymosn.config.schema import MosnConfig

CLEAN: Final = 0
BAD_CONFIGURATION: Final = 1
OTHER_FAULT: Final = 2


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What to run.

    `name`: the configuration's name for messages. `config_dir`: its directory; `base_dir`: where `logs/` is.
    `workers`: the command line's wish. `log_ceiling`: the most talkative level allowed in the process log, as `--log-level`
    names it. `is_demo`: serve the demo upstream beside it. `reload` reads the configuration again, None when it comes from
    no file. `stream_filters`: those that installed packages offer. `places`: where the configuration's values stand.
    """

    config: MosnConfig
    name: str
    config_dir: str
    base_dir: str
    workers: int | None = None
    log_ceiling: str | None = None
    is_demo: bool = False
    reload: Callable[[], Loaded] | None = None
    stream_filters: list[str] = []
    places: Places = {}


class StartError(Exception):
    """The process cannot start. `faults`: what is wrong with the configuration, `lines`: anything else."""

    def __init__(self, *, faults: list[Diagnostic] | None = None, lines: list[str] | None = None) -> None:
        super().__init__("cannot start")
        self.faults = faults or []
        self.lines = lines or []

    @property
    def exit_code(self) -> int:
        """1 for a bad configuration, 2 for anything else."""
        return BAD_CONFIGURATION if self.faults else OTHER_FAULT
