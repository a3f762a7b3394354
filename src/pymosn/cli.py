"""The `pymosn` command. Exit codes: 0 success, 1 invalid configuration, 2 any other error."""

import math
import os
import shlex
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import click
from msgspec import structs

from pymosn.assembly.extensions import check_extensions
from pymosn.assembly.filters import check_filters
from pymosn.control.plane import LONGEST_UPGRADE
from pymosn.control.xds.node import VARIABLES, flags_of
from pymosn.kit.certs import certs
from pymosn.kit.commands import COMMANDS, fail, json_text
from pymosn.kit.foreground import print_faults, run_in_foreground, summary
from pymosn.observe.process_log import CEILINGS
from pymosn.server import standard_streams
from pymosn.server.envoy_flags import Flags, envoy_flags, warnings_of
from pymosn.server.envoy_source import OVERLAY, EnvoySource, discard_folder, own_folder
from pymosn.server.run_options import BAD_CONFIGURATION, OTHER_FAULT, ConfigSource
from pymosn.server.shutdown import LATER_SIGNALS
from pymosn.server.tls_files import check_tls_files
from pymosn.version import VERSION, build

#: Flags of `mosn start` about the node of control planes, and others that are accepted without effect, for compatibility
#: (key reference section 16).
_NODE_FLAGS: Final = """
    --service-cluster,-s --service-node,-n --service-type,-p --service-meta,-sm --service-lables,-sl --cluster-domain,-domain
    --pod-namespace,-pns --pod-name,-pn --pod-ip,-pi
"""
_UNUSED_FLAGS: Final = """
    --feature-gates,-f --drain-time-s --log-format,-lf --component-log-level,-lc --local-address-ip-version --restart-epoch
    --parent-shutdown-time-s --max-obj-name-len --concurrency --log-format-prefix-with-location --bootstrap-version
    --drain-strategy
"""

Command = Callable[..., Any]

_config_option = partial(click.option, "--config", "-c", "path", metavar="FILE")


class _Seconds(click.FloatRange):
    """A positive number of seconds, at most `max`."""

    def __init__(self, most: float = 1e6) -> None:
        super().__init__(min=0, max=most, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if math.isnan(number):  # it is in every range
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


_timeout_option = partial(click.option, "--timeout", type=_Seconds(), default=60.0, show_default=True)


def _mosn_flags(command: Command) -> Command:
    """Adds MOSN's flags, which are passed as keyword arguments."""
    for names in reversed([*_NODE_FLAGS.split(), *_UNUSED_FLAGS.split()]):
        command = click.option(*names.split(","), multiple=True, hidden=True, metavar="TEXT")(command)
    return click.option("--disable-hot-restart", is_flag=True, hidden=True)(command)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, "--version", message=f"pymosn %(version)s ({build()})")
def main() -> None:
    """A network proxy: MOSN's configuration and architecture, reimplemented in Python."""


def run_command() -> None:
    """The `pymosn` program. If its output cannot be written, all commands but those that serve fail."""
    outputs = standard_streams.secure()
    code: int | str | None = 0
    try:
        main()
    except SystemExit as end:
        code = end.code
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    if not code and sys.argv[1:2] not in (["start"], ["envoy"]) and any(output.is_lost for output in outputs):
        code = OTHER_FAULT
    sys.exit(code)


for _command in (*COMMANDS, certs):
    main.add_command(_command)


@main.command()
def version() -> None:
    """Print the version and the kind of build."""
    click.echo(f"pymosn {VERSION} ({build()})")


@main.command()
@_config_option(required=True, help="Configuration, JSON or YAML.")
@click.option("--strict", is_flag=True, help="Treat unknown keys as errors.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON on standard output.")
def check(path: str, strict: bool, as_json: bool) -> None:
    """Check a configuration and report every fault.

    Filters and extensions in Python are imported and created, but not started. The files of TLS contexts are read.
    """
    loaded = ConfigSource(path, strict, pipe=True).load()
    if loaded.config is not None:
        faults = check_filters(loaded.config.servers[0].listeners, loaded.config_dir)
        faults += check_extensions(loaded.config, loaded.config_dir)
        faults += check_tls_files(loaded.config, loaded.config_dir)
        loaded = structs.replace(loaded, faults=[*loaded.faults, *(fault.placed(loaded.places, path) for fault in faults)])
    if as_json:
        report = {
            "file": path,
            "errors": len(loaded.errors),
            "warnings": len(loaded.warnings),
            "faults": [fault.as_dict() for fault in loaded.faults],
        }
        click.echo(json_text(report))
    else:
        print_faults(loaded.faults)
        click.echo(f"{path}: {summary(loaded.faults)}", err=bool(loaded.errors))
    sys.exit(BAD_CONFIGURATION if loaded.errors else 0)


@main.command()
@_config_option(envvar="MOSN_CONFIG", help="Configuration, JSON or YAML.")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Worker processes; default: key `processor`.")
@click.option("--strict", is_flag=True, help="Treat unknown keys as errors.")
@click.option(
    "--log-level",
    "-l",
    type=click.Choice(list(CEILINGS), case_sensitive=False),
    envvar="LOG_LEVEL",
    help="Minimum level for the process log; overrides the configuration.",
)
@_mosn_flags
def start(path: str | None, workers: int | None, strict: bool, log_level: str | None, **mosn_flags: Any) -> None:
    """Run in the foreground until SIGTERM (drains first) or SIGINT (stops immediately).

    Without a configuration, runs MOSN's two-hop HTTP example with a small demo upstream.
    """
    _block_signals()
    for name, value in mosn_flags.items():
        if value and name not in VARIABLES:
            click.echo(f"pymosn: warning: --{name.replace('_', '-')} has no effect in this version", err=True)
    run_in_foreground(ConfigSource(path, strict, node=flags_of(mosn_flags, os.environ)), workers, log_level)


@main.command(name="envoy")
@envoy_flags
def run_bootstrap(
    path: str | None,
    overlay: str,
    mode: str,
    concurrency: int | None,
    drain_strategy: str,
    show_version: bool,
    **flags: Any,
) -> None:
    """Run a bootstrap of Envoy, with Envoy's flags, for Istio's agent and other programs that start Envoy.

    The command `pymosn-envoy` is the same, for those that pass nothing but flags.
    """
    if show_version:
        click.echo(f"pymosn-envoy  version: {VERSION} ({build()})")
        return
    if path is None and not overlay:
        raise click.UsageError("at least one of --config-path and --config-yaml is required")
    names = Flags._fields
    for text in warnings_of({key: value for key, value in flags.items() if key not in names}, drain_strategy):
        click.echo(f"pymosn: warning: {text}", err=True)
    given = Flags(workers=concurrency, **{key: value for key, value in flags.items() if key in names})
    folder = own_folder(path)
    try:
        source = EnvoySource(path=path or OVERLAY, overlay=overlay, flags=given, folder=folder)
        if mode == "serve":
            _block_signals()
            run_in_foreground(source, None, "off" if given.log_level == "off" else None)
            return
        loaded = source.load()
        print_faults(loaded.faults)
        if loaded.config is None:
            sys.exit(BAD_CONFIGURATION)
        click.echo(f"configuration '{source.name}' OK")
    finally:
        discard_folder(folder)


def _block_signals() -> None:
    """Log rotation and reloads may come at any time; the supervisor unblocks them when it can handle them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, LATER_SIGNALS)


@main.command()
@_config_option(required=True, envvar="MOSN_CONFIG", help="Configuration file the running process was started with.")
@_timeout_option(help="Seconds to wait for the result.")
def reload(path: str, timeout: float) -> None:
    """Make a running pymosn reload its configuration file, and report the result.

    The file is validated first; an invalid file is not applied. The process is found by its admin socket.
    """
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


@main.command()
@_config_option(required=True, envvar="MOSN_CONFIG", help="Configuration file the running process was started with.")
@click.option("--keep-config", is_flag=True, default=None, help="Use the active configuration instead of the file.")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Another number of worker processes.")
@click.option(
    "--command", metavar="COMMAND", callback=_words, help="Program to start; default: that of the running process."
)
@_timeout_option(type=_Seconds(LONGEST_UPGRADE), help="Seconds in which the new process must be ready.")
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


@main.command()
@_config_option(required=True, envvar="MOSN_CONFIG", help="Configuration file the running process was started with.")
@click.option("--now", is_flag=True, help="Stop without letting requests in flight finish.")
@_timeout_option(help="Seconds to wait for the end of the process.")
def stop(path: str, now: bool, timeout: float) -> None:
    """Stop a running pymosn: drain it like SIGTERM, or with --now stop it immediately like SIGINT; wait until it has ended.

    The process is found by its admin socket.
    """
    # Faults of the file do not matter: it may have changed since the start.
    loaded = ConfigSource(path).load()
    from pymosn.server.admin_client import CallError, stop_running

    try:
        pid = stop_running(loaded.admin_socket, path, now, timeout)
    except CallError as error:
        fail(str(error))
    click.echo(f"pymosn: process {pid} has ended")


@main.command(name="xds")
@_config_option(required=True, envvar="MOSN_CONFIG", help="Configuration file the running process was started with.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_timeout_option(help="Seconds to wait for the answer.")
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


@main.command(name="explain")
@_config_option(required=True, envvar="MOSN_CONFIG", help="JSON or YAML.")
@click.option("--header", "-H", "headers", multiple=True, metavar="'K: V'", help="Request header; repeatable.")
@click.option("--listener", default="", metavar="NAME", help="Listener to use when the URL's port is ambiguous.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--running", is_flag=True, help="Ask the running process, which also knows what xDS adds, and the hosts' health."
)
@_timeout_option(help="Seconds to wait for the answer of the running process.")
@click.argument("method")
@click.argument("url")
def explain_request(
    path: str,
    headers: tuple[str, ...],
    listener: str,
    as_json: bool,
    running: bool,
    timeout: float,
    method: str,
    url: str,
) -> None:
    """Show which listener, virtual host and route a request would match, and the request that would be sent upstream.

    Also where each of them comes from: a line of the file or, with --running, a resource of a control plane and its version.
    Filters are not run.
    """
    if running:
        answer = _explained_by_running(path, headers, listener, method, url, timeout)
        from pymosn.control.explain_text import as_text

        click.echo(json_text(answer) if as_json else as_text(answer))
        return
    loaded = ConfigSource(path, pipe=True).load()
    print_faults(loaded.errors)
    if loaded.config is None:
        sys.exit(BAD_CONFIGURATION)
    from pymosn.control.explain import Question, QuestionError, explain
    from pymosn.control.explain_text import as_text
    from pymosn.control.origins import Origins

    question = Question(method=method, url=url, headers=[_header(text) for text in headers], listener=listener)
    try:
        answer = explain(loaded.config, question, origins=Origins(loaded.places, path))
    except QuestionError as error:
        fail(str(error))
    click.echo(json_text(answer) if as_json else as_text(answer))


def _explained_by_running(
    path: str, headers: tuple[str, ...], listener: str, method: str, url: str, timeout: float
) -> dict[str, Any]:
    """The answer of the running process."""
    loaded = ConfigSource(path).load()
    from pymosn.server.admin_client import CallError, explain_in_running

    question = {"method": method, "url": url, "listener": listener, "headers": [_header(text) for text in headers]}
    try:
        return explain_in_running(loaded.admin_socket, question, timeout)
    except CallError as error:
        fail(str(error))


def _header(text: str) -> tuple[str, str]:
    """Splits `Name: value`."""
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.BadParameter(f"{text!r} must have the form 'Name: value'", param_hint="'--header' / '-H'")
    return name.strip(), value.strip()
