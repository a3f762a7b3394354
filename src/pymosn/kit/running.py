"""The commands about a process that runs: `reload`, `upgrade`, `stop`, `xds` and `top`."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from typing import Final

import click
from click.core import ParameterSource

from pymosn.control.plane import LONGEST_UPGRADE
from pymosn.kit.command_line import GoCommand
from pymosn.kit.commands import fail, json_text
from pymosn.kit.foreground import print_faults, summary
from pymosn.kit.mosn_flags import Seconds, running_config_option, timeout_option, warn
from pymosn.kit.top import show_top
from pymosn.server.run_options import BAD_CONFIGURATION, OTHER_FAULT, ConfigSource


@click.command(cls=GoCommand)
@running_config_option()
@timeout_option(help="Seconds to wait for the result.")
@click.pass_context
def reload(ctx: click.Context, path: str, timeout: float) -> None:
    """Make a running pymosn reload its configuration file, and report the result.

    The file is validated first; an invalid file is not applied. The process is found by its admin socket.
    """
    if ctx.get_parameter_source("path") is ParameterSource.DEFAULT and not os.path.lexists(path):
        # MOSN's command does nothing at all, and its users may call it.
        warn(f"nothing is reloaded: no configuration is given, and there is no {path}")
        return
    loaded = ConfigSource(path).load()
    print_faults(loaded.errors)
    if loaded.config is None:
        click.echo(f"pymosn: {path}: {summary(loaded.faults)}; not reloaded", err=True)
        sys.exit(BAD_CONFIGURATION)
    from pymosn.server.admin_client import CallError, reload_running

    try:
        result = reload_running(loaded.admin_socket, path, timeout)
    except CallError as error:
        fail(str(error))
    print_faults(result.faults)
    click.echo(f"pymosn: {result.message}", err=not result.applied)
    sys.exit(0 if result.applied else BAD_CONFIGURATION)


def _words(ctx: click.Context, param: click.Parameter, value: str | None) -> list[str]:
    """The words of a command, by the rules of a shell."""
    if value is None:
        return []
    try:
        words = shlex.split(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r}: {error}.") from error
    if not words or not words[0]:
        raise click.BadParameter("it names no program.")
    return words


@click.command(cls=GoCommand)
@running_config_option()
@click.option("--keep-config", is_flag=True, default=None, help="Use the active configuration instead of the file.")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Another number of worker processes.")
@click.option(
    "--command", metavar="COMMAND", callback=_words, help="Program to start; default: that of the running process."
)
@timeout_option(type=Seconds(LONGEST_UPGRADE), help="Seconds in which the new process must be ready.")
def upgrade(path: str, keep_config: bool | None, workers: int | None, command: list[str], timeout: float) -> None:
    """Start a new process that takes over the sockets and connections of a running pymosn: no request is lost.

    It runs the program that is installed now, with the same arguments. If it cannot start, nothing changes.
    The process is found by its admin socket.
    """
    # Faults of the file do not matter here: the new process reports them.
    loaded = ConfigSource(path).load()
    from pymosn.server.admin_client import CallError, upgrade_running

    asked = {
        "config": os.path.abspath(path),
        "keep_config": keep_config,
        "timeout": timeout,
        "workers": workers,
        "command": command,
    }
    try:
        result = upgrade_running(loaded.admin_socket, asked, timeout + 60.0, lambda text: click.echo(f"pymosn: {text}"))
    except CallError as error:
        fail(str(error))
    done = result.get("done") is True
    for line in result.get("lines", []):
        click.echo(f"pymosn: {line}" if done else f"pymosn: error: {line}", err=not done)
    if not done:
        click.echo("pymosn: not upgraded; the old process serves as before", err=True)
        sys.exit(BAD_CONFIGURATION if result.get("is_config_fault") else OTHER_FAULT)


@click.command(cls=GoCommand)
@running_config_option()
@click.option("--drain", is_flag=True, help="Let requests in flight finish first, like SIGTERM.")
@click.option("--now", is_flag=True, hidden=True)
@timeout_option(help="Seconds to wait for the end of the process.")
def stop(path: str, drain: bool, now: bool, timeout: float) -> None:
    """Stop a running pymosn at once, like SIGINT, and wait until it has ended.

    The process is found by its admin socket, or, if there is none, by its pid file. If none is running, that is a success.
    """
    if drain and now:
        raise click.UsageError("--drain and --now exclude each other")
    # Faults of the file do not matter: it may have changed since the start.
    loaded = ConfigSource(path).load()
    from pymosn.server.admin_client import CallError, NotRunningError, stop_running
    from pymosn.server.pid_file import pid_path
    from pymosn.server.stop_by_pid import PidError, stop_by_pid

    try:
        try:
            pid = stop_running(loaded.admin_socket, path, not drain, timeout)
        except NotRunningError as error:
            if not os.path.exists(path):
                fail(f"{path}: cannot be read; and there is {error}", BAD_CONFIGURATION)
            if loaded.config is None:
                fail(f"{error}; its pid file is not known, because {path} has errors", BAD_CONFIGURATION)
            number = signal.SIGTERM if drain else signal.SIGINT
            pid = stop_by_pid(pid_path(loaded.config, loaded.base_dir), number, timeout)
    except (CallError, PidError) as error:
        fail(str(error))
    click.echo(f"pymosn: process {pid} has ended" if pid else f"pymosn: no process is running with {path}", err=not pid)


@click.command(name="xds", cls=GoCommand)
@running_config_option()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@timeout_option(help="Seconds to wait for the answer.")
@click.argument("resource", required=False)
def show_xds(path: str, as_json: bool, timeout: float, resource: str | None) -> None:
    """Show what a running pymosn has from its control planes: versions, rejected resources, and what waits.

    With RESOURCE, show the resources of this name: version, control plane, state, and who uses them.
    The process is found by its admin socket.
    """
    loaded = ConfigSource(path).load()
    from urllib.parse import quote

    from pymosn.control.xds.table import as_table, resource_lines
    from pymosn.server.admin_client import CallError, view_of_running

    try:
        if resource is None:
            view = view_of_running(loaded.admin_socket, "/api/v1/xds", timeout)
            click.echo(json_text(view) if as_json else as_table(view))
            return
        target = f"/api/v1/xds?resource={quote(resource, safe='')}"
        found = view_of_running(loaded.admin_socket, target, timeout)["resources"]
    except CallError as error:
        fail(str(error))
    if not found:
        fail(f"there is no resource {resource!r}")
    click.echo(json_text(found) if as_json else resource_lines(found))


RUNNING: Final = (reload, upgrade, stop, show_xds, show_top)
