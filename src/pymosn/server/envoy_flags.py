"""The command line of Envoy, as far as it makes sense here, for programs that start Envoy, such as Istio's agent.

An unknown flag is an error. One that only tunes Envoy is accepted; it has a warning, unless Istio's agent always passes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import click

from pymosn.control.envoy.bootstrap_file import Flags
from pymosn.observe.process_log import CEILINGS

__all__ = ["Flags", "envoy_flags", "warnings_of"]

Command = Callable[..., Any]

#: Accepted without effect: whether with a value, and why. None: without a word.
_UNUSED: Final[dict[str, tuple[bool, str | None]]] = {
    "--disable-hot-restart": (False, None),
    "--skip-deprecated-logs": (False, None),
    "--ignore-unknown-dynamic-fields": (False, None),
    "--local-address-ip-version": (True, None),
    "--file-flush-interval-msec": (True, None),
    "--file-flush-min-size-kb": (True, None),
    "--parent-shutdown-time-s": (True, None),
    "--restart-epoch": (True, None),
    "--reject-unknown-dynamic-fields": (False, "fields that are not understood are always rejected where they matter"),
    "--component-log-level": (True, "there is one process log; use --log-level"),
    "--log-format": (True, "the process log has MOSN's format"),
    "--log-format-escaped": (False, "control characters in the process log are always escaped"),
    "--enable-fine-grain-logging": (False, "there is one process log; use --log-level"),
    "--enable-core-dump": (False, "use the limits of the system"),
    "--cpuset-threads": (False, "the limits of the container count always"),
    "--use-dynamic-base-id": (False, "there is no hot restart"),
    "--base-id-path": (True, "there is no hot restart"),
    "--socket-path": (True, "there is no hot restart"),
    "--socket-mode": (True, "there is no hot restart"),
    "--stats-tag": (True, "statistics have no further tags"),
}


def envoy_flags(command: Command) -> Command:
    """Adds the flags, which are passed as keyword arguments."""
    option = click.option
    options: list[Callable[[Command], Command]] = [
        option("--config-path", "-c", "path", metavar="FILE", help="Bootstrap, JSON or YAML."),
        option("--config-yaml", "overlay", default="", metavar="YAML", help="Merged over the file."),
        option("--mode", type=click.Choice(["serve", "validate"]), default="serve", show_default=True),
        option("--service-node", "node_id", default="", metavar="ID", help="Replaces node.id."),
        option("--service-cluster", "cluster", default="", metavar="NAME", help="Replaces node.cluster."),
        option("--service-zone", "zone", default="", metavar="NAME", help="Replaces node.locality.zone."),
        option("--concurrency", type=click.IntRange(min=0), metavar="N", help="Workers; default: one for each CPU."),
        option("--drain-time-s", "drain_time", type=click.FloatRange(min=0), metavar="S", help="Time for draining."),
        option("--drain-strategy", type=click.Choice(["immediate", "gradual"]), default="immediate", show_default=True),
        option("--log-level", "-l", type=click.Choice(list(CEILINGS)), default="info", show_default=True),
        option("--log-path", default="", metavar="FILE", help="Process log; default: standard error."),
        option("--base-id", type=click.IntRange(min=0), default=0, help="Distinguishes processes with the same file."),
        option("--bootstrap-version", type=click.IntRange(3, 3), hidden=True),
        option("--allow-unknown-static-fields", "allow_unknown", is_flag=True, help="Ignore them, with a warning."),
        option("--version", "show_version", is_flag=True, help="Print the version."),
        *(_unused(name, has_value) for name, (has_value, _) in _UNUSED.items()),
    ]
    for add in reversed(options):
        command = add(command)
    return command


def _unused(name: str, has_value: bool) -> Callable[[Command], Command]:
    return click.option(name, multiple=True, hidden=True) if has_value else click.option(name, is_flag=True, hidden=True)


def warnings_of(unused: dict[str, Any], drain_strategy: str) -> list[str]:
    """What has no effect of the flags that were given."""
    found = []
    for name, (_, why) in _UNUSED.items():
        if unused.get(name.removeprefix("--").replace("-", "_")) and why is not None:
            found.append(f"{name} has no effect: {why}")
    if drain_strategy == "gradual":
        found.append("--drain-strategy gradual has no effect: all connections are drained at once")
    return found
