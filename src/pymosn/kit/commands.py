"""`pymosn new-filter`, `pymosn filters` and `pymosn bench-filter`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final, NoReturn

import click
import msgspec

from pymosn.core.errors import reason
from pymosn.server.run_options import OTHER_FAULT


def fail(text: str, code: int = OTHER_FAULT) -> NoReturn:
    """Reports an error and exits."""
    click.echo(f"pymosn: error: {text}", err=True)
    sys.exit(code)


def json_text(value: object) -> str:
    """A value as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(value)).decode()


@click.command(name="new-filter")
@click.option(
    "--directory", "-d", default=".", metavar="D", help="Parent of the package's folder; default: the current directory."
)
@click.argument("name")
def new_filter(directory: str, name: str) -> None:
    """Create an installable package with a stream filter called NAME, including types and tests.

    Existing files are never overwritten.
    """
    from pymosn.kit.new_filter import NewFilterError, write_package

    try:
        folder = write_package(name, Path(directory))
    except NewFilterError as error:
        fail(str(error))
    except OSError as error:
        fail(f"cannot write {error.filename}: {error.strerror}")
    click.echo(f"{folder} created. Next steps:")
    click.echo(f"  cd {folder}")
    click.echo("  pip install -e '.[dev]' && python -m pytest && mypy")


@click.command(name="filters")
@click.option("--config", "-c", "path", metavar="FILE", help="Also list the filters configured in this file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with each configuration as JSON Schema.")
def list_filters(path: str | None, as_json: bool) -> None:
    """List the filters that come with pymosn, those of installed packages, and those of a configuration.

    Like `check`, this imports their code, and creates (but does not start) the configured ones.
    """
    from pymosn.kit.listing import as_text, configured, installed, shipped

    found = [*shipped(), *installed()]
    if path is not None:
        from pymosn.server.run_options import ConfigSource

        loaded = ConfigSource(path, pipe=True).load()
        if loaded.config is None:
            for fault in loaded.errors:
                click.echo(fault.text(), err=True)
            fail(f"{path} has errors; run `pymosn check -c {path}` for details", 1)
        found += configured(loaded.config, loaded.config_dir)
    click.echo(json_text(found) if as_json else as_text(found))


@click.command(name="bench-filter")
@click.option(
    "--config",
    "configs",
    multiple=True,
    metavar="JSON",
    help="Filter configuration as JSON; repeat once per filter, in order.",
)
@click.option(
    "--requests", type=click.IntRange(min=1), default=1000, show_default=True, metavar="N", help="Requests per round."
)
@click.option("--path", default="/", show_default=True, metavar="PATH", help="Request target (path and query).")
@click.option("--header", "-H", "headers", multiple=True, metavar="'K: V'", help="Request header; repeatable.")
@click.option("--data", default="", metavar="TEXT", help="Request body; the method is then POST.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.argument("names", metavar="FILE:CLASS|NAME...", nargs=-1, required=True)
def bench_filter(
    configs: tuple[str, ...],
    requests: int,
    path: str,
    headers: tuple[str, ...],
    data: str,
    as_json: bool,
    names: tuple[str, ...],
) -> None:
    """Measure the microseconds that stream filters add to a request on this machine.

    A filter is a class in a file, or the name of an installed filter; several filters form a chain.
    """
    from pymosn.filters.errors import FilterLoadError
    from pymosn.kit.bench import Benchmark, as_text, measure
    from pymosn.kit.bench_rig import BenchError

    benchmark = Benchmark(
        filters=names,
        configs=[_json_object(text) for text in configs],
        requests=requests,
        path=path,
        headers=[(key.strip(), value.strip()) for key, _, value in (header.partition(":") for header in headers)],
        body=data.encode(),
    )
    try:
        result = measure(benchmark)
    except (FilterLoadError, BenchError) as error:
        fail(reason(error))
    click.echo(json_text(result) if as_json else as_text(result))


def _json_object(text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise click.BadParameter(f"not a JSON object: {error}", param_hint="--config") from error


COMMANDS: Final = (new_filter, list_filters, bench_filter)
