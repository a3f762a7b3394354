"""The `pymosn` command.

Exit codes: 0 success; 1 an invalid configuration, or a start that failed; 2 any other error; 4 a graceful stop that failed.
Those of a start are MOSN's.
"""

import os
import signal
import sys
from typing import Any, Final

import click
from msgspec import structs

from pymosn.assembly.extensions import check_extensions
from pymosn.assembly.filters import check_filters
from pymosn.config.feature_gates import AUTO_CONFIG, GATES
from pymosn.control.xds.node import VARIABLES, flags_of
from pymosn.kit.certs import certs
from pymosn.kit.command_line import GoGroup, GoInt
from pymosn.kit.commands import COMMANDS, fail, json_text
from pymosn.kit.foreground import print_faults, run_in_foreground, summary
from pymosn.kit.mosn_flags import DEFAULT_FILE, Gates, Level, config_option, mosn_flags, timeout_option, warn
from pymosn.kit.profile import profile
from pymosn.kit.replaying import replay
from pymosn.kit.running import RUNNING
from pymosn.kit.tapping import record, tap
from pymosn.server import standard_streams
from pymosn.server.envoy_flags import Flags, envoy_flags, warnings_of
from pymosn.server.envoy_source import OVERLAY, EnvoySource, discard_folder, own_folder
from pymosn.server.run_options import BAD_CONFIGURATION, OTHER_FAULT, ConfigSource
from pymosn.server.shutdown import LATER_SIGNALS
from pymosn.server.tls_files import check_tls_files
from pymosn.version import VERSION, build

#: The commands that serve until a signal ends them.
_SERVING: Final = ("start", "envoy")


@click.group(cls=GoGroup, context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True)
@click.version_option(VERSION, "--version", "-v", message=f"pymosn %(version)s ({build()})")
@click.pass_context
def main(ctx: click.Context) -> None:
    """A network proxy: MOSN's configuration and architecture, reimplemented in Python.

    Without a command, options are those of `start`.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
    if ctx.invoked_subcommand not in _SERVING:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, LATER_SIGNALS)  # see `__main__.py`


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
    if not code and any(output.is_lost for output in outputs) and main.command_of(sys.argv[1:]) not in _SERVING:
        code = OTHER_FAULT
    sys.exit(code)


for _command in (*COMMANDS, certs, *RUNNING, profile, tap, record, replay):
    main.add_command(_command)


@main.command()
def version() -> None:
    """Print the version and the kind of build."""
    click.echo(f"pymosn {VERSION} ({build()})")


@main.command()
@config_option(required=True, help="Configuration, JSON or YAML.")
@click.option("--strict", is_flag=True, help="Treat unknown keys, and mistakes that MOSN starts with, as errors.")
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
@config_option(envvar="MOSN_CONFIG", help=f"Configuration, JSON or YAML; default: {DEFAULT_FILE}, if it exists.")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Worker processes; default: key `processor`.")
@click.option("--strict", is_flag=True, help="Treat unknown keys, and mistakes that MOSN starts with, as errors.")
@click.option(
    "--log-level",
    "-l",
    type=Level(),
    envvar="LOG_LEVEL",
    help="Minimum level for the process log; overrides the configuration.",
)
@click.option(
    "--feature-gates",
    "-f",
    "gates",
    type=Gates(),
    default="",
    envvar="FEATURE_GATES",
    metavar="NAME=BOOL,...",
    help="auto_config=true: write changes back to the file.",
)
@click.option(
    "--drain-time-s",
    "drain_time",
    type=GoInt(),
    metavar="S",
    help="Seconds to drain after SIGTERM; default: `graceful_timeout`.",
)
@click.argument("extra", metavar="", nargs=-1)
@mosn_flags
def start(
    path: str | None,
    workers: int | None,
    strict: bool,
    log_level: str | None,
    gates: dict[str, bool],
    drain_time: int | None,
    extra: tuple[str, ...],
    **others: Any,
) -> None:
    """Run in the foreground until SIGTERM (drains first) or SIGINT (stops immediately).

    Without a configuration, runs MOSN's two-hop HTTP example with a small demo upstream.
    """
    _block_signals()
    if path is None and os.path.lexists(DEFAULT_FILE):
        path = DEFAULT_FILE
    for argument in extra:  # MOSN ignores them
        warn(f"the argument {argument!r} has no effect; options begin with a dash")
    for name, value in others.items():
        if value and name not in VARIABLES:
            warn(f"--{name.replace('_', '-')} has no effect in this version")
    for name, is_on in gates.items():
        if is_on and (why := GATES[name]) is not None:
            warn(f"the feature gate {name} has no effect: {why}")
    source = ConfigSource(path, strict, node=flags_of(others, os.environ))
    drain = None if drain_time is None else max(0.0, float(drain_time))
    run_in_foreground(source, workers, log_level, drain_time=drain, writes_back=gates.get(AUTO_CONFIG, False))


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


@main.command(name="explain")
@config_option(required=True, envvar="MOSN_CONFIG", help="JSON or YAML.")
@click.option("--header", "-H", "headers", multiple=True, metavar="'K: V'", help="Request header; repeatable.")
@click.option("--listener", default="", metavar="NAME", help="Listener to use when the URL's port is ambiguous.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--running", is_flag=True, help="Ask the running process, which also knows what xDS adds, and the hosts' health."
)
@timeout_option(help="Seconds to wait for the answer of the running process.")
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


@main.command(name="help")
@click.argument("name", metavar="[COMMAND]", required=False)
@click.pass_context
def show_help(ctx: click.Context, name: str | None) -> None:
    """Show the commands, or the options of one."""
    group = ctx.parent
    assert group is not None
    if name is None:
        click.echo(group.get_help())
        return
    command = main.get_command(group, name)
    if command is None:
        fail(f"there is no command {name!r}")
    click.echo(command.get_help(click.Context(command, group, name)))


main.add_command(show_help, "h")
