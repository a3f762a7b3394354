"""A start of the proxy in the foreground: of its own, or to take over from another process or from MOSN."""

import atexit
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import click

from pymosn.config.diagnostics import Diagnostic
from pymosn.config.schema import MosnConfig
from pymosn.kit.commands import fail
from pymosn.server.run_options import BAD_CONFIGURATION, ConfigSource, RunOptions, StartError

if TYPE_CHECKING:
    from pymosn.server.upgrade.inheritance import Inheritance
    from pymosn.server.upgrade.mosn import OldMosn

_EXAMPLES: Final = """
  pymosn serves MOSN's two-hop HTTP example: client -> :2045 -> :2046 -> a demo upstream at :8080.  Try:

    curl http://127.0.0.1:2045/hello             through both listeners
    curl http://127.0.0.1:2046/hello             through the second one only
    http://127.0.0.1:34901/ui/                   the dashboard, in a browser; in a terminal: pymosn top
    curl http://127.0.0.1:34901/                 paths of the admin API
    curl http://127.0.0.1:34901/api/v1/stats     metrics

  Ctrl-C stops it.  Your own configuration: pymosn start -c FILE
"""


def _inherit() -> "Inheritance | None":
    """What the process sends that has started this one to take over from it; None if this is a start of its own."""
    if "PYMOSN_INHERIT" not in os.environ:
        return None
    # Few starts are upgrades.
    from pymosn.server.upgrade.inheritance import InheritanceError, inherit

    try:
        return inherit(os.environ)
    except InheritanceError as error:
        fail(str(error))


def _replaced_mosn(source: ConfigSource, config: MosnConfig) -> "OldMosn | None":
    """The running MOSN that this start replaces, which has sent its sockets; None if there is none."""
    from pymosn.server.upgrade.mosn import TakeoverError
    from pymosn.server.upgrade.mosn_start import old_mosn

    try:
        old = old_mosn(source, config)
    except TakeoverError as error:
        fail(f"taking over from MOSN: {error}", BAD_CONFIGURATION)
    if old is not None:
        atexit.register(old.close)
    return old


def run_in_foreground(
    source: ConfigSource,
    workers: int | None,
    log_level: str | None,
    *,
    drain_time: float | None = None,
    writes_back: bool = False,
) -> None:
    """Runs the proxy until it ends, and then exits with its code. Prints the faults of the configuration.

    The arguments are those of `RunOptions`.
    """
    inheritance = _inherit()
    config_files: frozenset[str] = frozenset()
    if inheritance is not None and inheritance.estate.keeps_config:
        from pymosn.server.upgrade.kept_config import CONFIG, load_kept

        loaded, config_files = load_kept(source, inheritance.state(CONFIG))
    else:
        loaded = source.load()
    print_faults(loaded.faults)
    if loaded.config is None:
        if inheritance is not None:
            inheritance.refuse([fault.text() for fault in loaded.errors], is_config_fault=True)
        click.echo(f"pymosn: {source.name}: {summary(loaded.faults)}; not started", err=True)
        sys.exit(BAD_CONFIGURATION)
    config = loaded.config
    old = None if inheritance is not None else _replaced_mosn(source, config)
    if old is not None and old.config:
        from pymosn.server.upgrade.mosn_start import with_inherited

        loaded = with_inherited(source, old.config)
        print_faults(loaded.faults)
        if loaded.config is None:
            fail(f"{source.name}: {summary(loaded.faults)}; not started", BAD_CONFIGURATION)
        config = loaded.config
    if loaded.faults:
        click.echo(f"pymosn: {source.name}: {summary(loaded.faults)}", err=True)
    options = RunOptions(
        source=source,
        mosn=old,
        config=config,
        config_dir=loaded.config_dir,
        base_dir=loaded.base_dir,
        places=loaded.places,
        config_files=config_files,
        workers=workers,
        log_ceiling=log_level,
        drain_time=drain_time,
        writes_back=writes_back,
    )
    # The admin server's libraries take most of the start-up time; `check` and `version` do not need them.
    from pymosn.server.run import run

    try:
        code = run(options, lambda: click.echo(_EXAMPLES) if options.is_demo else None, inheritance)
    except StartError as error:
        if inheritance is not None:
            lines = [fault.text() for fault in error.faults] + error.lines
            inheritance.refuse(lines, is_config_fault=bool(error.faults))
        print_faults(error.faults)
        for line in error.lines:
            click.echo(f"pymosn: error: {line}", err=True)
        click.echo("pymosn: not started", err=True)
        sys.exit(error.code)
    sys.exit(code)


def print_faults(faults: Iterable[Diagnostic]) -> None:
    """Prints one line per fault to standard error, like a compiler; in colour on a terminal."""
    faults = list(faults)
    if not faults:
        return
    # Its import takes a tenth of the start-up time.
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    for fault in faults:
        text = Text(fault.text())
        text.highlight_regex(r": error: ", "bold red")
        text.highlight_regex(r": warning: ", "yellow")
        console.print(text)


def summary(faults: list[Diagnostic]) -> str:
    """`2 errors, 1 warning`, or `no faults`."""
    numbers = {severity: sum(fault.severity == severity for fault in faults) for severity in ("error", "warning")}
    counts = [f"{count} {severity}{'s' if count > 1 else ''}" for severity, count in numbers.items() if count]
    return ", ".join(counts) or "no faults"
