"""`pymosn certs`: lists the certificates of a configuration."""

from __future__ import annotations

import time

import click

from pymosn.kit.commands import fail, json_text


@click.group()
def certs() -> None:
    """Show the certificates of a configuration."""


@certs.command(name="list")
@click.option(
    "--config", "-c", "path", required=True, envvar="MOSN_CONFIG", metavar="FILE", help="Configuration, JSON or YAML."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, in the form of /api/v1/certs.")
def list_certificates(path: str, as_json: bool) -> None:
    """List the certificates that a configuration uses, as its files are now; those that expire first at the beginning.

    What a running process uses is at /api/v1/certs.
    """
    from pymosn.control.certificates import as_text, used_certificates
    from pymosn.server.run_options import BAD_CONFIGURATION, ConfigSource
    from pymosn.server.tls_files import TlsFiles

    loaded = ConfigSource(path, pipe=True).load()
    if loaded.config is None:
        for fault in loaded.errors:
            click.echo(fault.text(), err=True)
        fail(f"{path} has errors; run `pymosn check -c {path}` for details", BAD_CONFIGURATION)
    files = TlsFiles(loaded.config, loaded.config_dir)
    material, faults = files.read_now(loaded.config)
    for fault in faults:
        click.echo(fault.placed(loaded.places, path).text(), err=True)
    now = time.time()
    views = [used.view(now) for used in used_certificates(loaded.config, material, files.absolute)]
    click.echo(json_text(views) if as_json else as_text(views), nl=as_json)
    if any(fault.severity == "error" for fault in faults):
        raise SystemExit(BAD_CONFIGURATION)
