"""The flags of MOSN's `start`, and options that several commands share."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import click

from pymosn.config.feature_gates import GateError, parse_gates
from pymosn.kit.command_line import GoInt
from pymosn.kit.commands import fail
from pymosn.observe.process_log import CEILINGS
from pymosn.server.run_options import BAD_CONFIGURATION

#: The configuration of a command that is given none, if the file exists.
DEFAULT_FILE: Final = "configs/mosn_config.json"
#: Flags of `mosn start` about the node of control planes, and others that are accepted without effect, for compatibility
#: (key reference section 16).
_NODE_FLAGS: Final = """
    --service-cluster,-s --service-node,-n --service-type,-p --service-meta,-sm --service-lables,-sl --cluster-domain,-domain
    --pod-namespace,-pns --pod-name,-pn --pod-ip,-pi
"""
_UNUSED_FLAGS: Final = """
    --log-format,-lf --component-log-level,-lc --local-address-ip-version --parent-shutdown-time-s --drain-strategy
"""
#: Those with an integer.
_UNUSED_INTEGERS: Final = """
    --restart-epoch --max-obj-name-len --concurrency --log-format-prefix-with-location --bootstrap-version
"""

Command = Callable[..., Any]

config_option = partial(click.option, "--config", "-c", "path", metavar="FILE")
#: Of the commands about a process that runs.
running_config_option = partial(
    config_option,
    envvar="MOSN_CONFIG",
    default=DEFAULT_FILE,
    show_default=True,
    help="Configuration file the running process was started with.",
)


class Seconds(click.FloatRange):
    """A positive number of seconds, at most `max`."""

    def __init__(self, most: float = 1e6) -> None:
        super().__init__(min=0, max=most, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if math.isnan(number):  # it is in every range
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


timeout_option = partial(click.option, "--timeout", type=Seconds(), default=60.0, show_default=True)


class Level(click.ParamType[str]):
    """A level of logs, or None for any other text, which MOSN ignores too."""

    name = "level"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return f"[{'|'.join(CEILINGS)}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        level = str(value).lower()
        if level in CEILINGS:
            return level
        warn(f"--log-level: expected one of {', '.join(CEILINGS)}, got {value!r}; it is ignored")
        return None


class Gates(click.ParamType[dict[str, bool]]):
    """Feature gates. The process exits with 1 if they are invalid, as MOSN does."""

    name = "gates"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, bool]:
        if isinstance(value, dict):
            return value
        try:
            return parse_gates(value)
        except GateError as error:
            fail(f"--feature-gates: {error}", BAD_CONFIGURATION)


def warn(text: str) -> None:
    """Prints a warning."""
    click.echo(f"pymosn: warning: {text}", err=True)


def mosn_flags(command: Command) -> Command:
    """Adds MOSN's flags, which are passed as keyword arguments."""
    for names in reversed([*_NODE_FLAGS.split(), *_UNUSED_FLAGS.split()]):
        command = click.option(*names.split(","), multiple=True, hidden=True, metavar="TEXT")(command)
    for name in reversed(_UNUSED_INTEGERS.split()):
        command = click.option(name, type=GoInt(), multiple=True, hidden=True, metavar="N")(command)
    return click.option("--disable-hot-restart", is_flag=True, hidden=True)(command)
