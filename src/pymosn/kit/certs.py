"""`pymosn certs`: makes certificates for trying out, and lists those of a configuration."""

from __future__ import annotations

import time
from pathlib import Path

import click

from pymosn.kit.commands import fail, json_text

#: Days that new certificates are valid for.
DAYS = 365


@click.group()
def certs() -> None:
    """Make certificates for trying out TLS, or show those of a configuration."""


@certs.command(name="new")
@click.argument("folder", default="certs", type=click.Path(path_type=Path, file_okay=False))
@click.option("--name", "names", multiple=True, metavar="NAME", help="A further host name or IP address of the server.")
@click.option("--spiffe-id", "spiffe_id", default="", metavar="URI", help="A URI of the client, spiffe://DOMAIN/PATH.")
@click.option("--days", type=click.IntRange(min=1, max=3650), default=DAYS, show_default=True, help="Validity.")
@click.option("--force", is_flag=True, help="Overwrite existing files.")
def new_certificates(folder: Path, names: tuple[str, ...], spiffe_id: str, days: int, force: bool) -> None:
    """Make a CA, a server and a client certificate in FOLDER (default: certs), for trying out TLS.

    The keys are ECDSA P-256. The server certificate is valid for localhost, 127.0.0.1 and ::1.
    """
    from pymosn.kit.new_certs import CertsError, as_configuration, write_certificates

    if spiffe_id and not spiffe_id.startswith("spiffe://"):
        fail(f"a SPIFFE id begins with spiffe://: {spiffe_id!r}")
    try:
        write_certificates(folder, names, spiffe_id, days, force=force)
    except CertsError as error:
        fail(str(error))
    except OSError as error:
        fail(f"cannot write {error.filename}: {error.strerror}")
    click.echo(f"{folder}: ca.pem, server.pem and client.pem, each with its key, valid for {days} days\n")
    click.echo(as_configuration(folder), nl=False)


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
