"""`pymosn profile`."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import click

from pymosn.kit.command_line import GoCommand
from pymosn.kit.commands import fail
from pymosn.kit.mosn_flags import running_config_option
from pymosn.server.run_options import ConfigSource

#: Seconds for the answer, longer than the profile takes.
_PATIENCE: Final = 30.0


@click.command(name="profile", cls=GoCommand)
@running_config_option()
@click.option("--worker", default="1", show_default=True, metavar="N|supervisor", help="Process to examine.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.0, max=60.0, min_open=True),
    default=10.0,
    show_default=True,
    metavar="S",
    help="Duration.",
)
@click.option("--heap", is_flag=True, help="Memory that is allocated meanwhile and kept, instead of CPU.")
@click.option("--flame", metavar="FILE", help="Write a flame graph (SVG).")
@click.option("--out", metavar="FILE", help="Write a profile for `go tool pprof`.")
def profile(path: str, worker: str, seconds: float, heap: bool, flame: str | None, out: str | None) -> None:
    """Show where a worker of a running pymosn uses CPU, or with --heap memory.

    Prints the functions with the largest shares, unless a file is to be written. The process is found by its admin socket.
    """
    loaded = ConfigSource(path).load()
    from pymosn.observe.flame import as_flame
    from pymosn.observe.profile import as_pprof, as_table
    from pymosn.server.admin_client import CallError, profile_of_running

    kind = "heap" if heap else "profile"
    query = urlencode({"worker": worker, "seconds": f"{seconds:g}", "format": "json"})
    try:
        made = profile_of_running(loaded.admin_socket, f"/debug/pprof/{kind}?{query}", seconds + _PATIENCE)
    except CallError as error:
        fail(str(error))
    name = "supervisor" if worker == "supervisor" else f"worker {worker}"
    what = "memory" if heap else "CPU"
    written = [(flame, as_flame(made, f"pymosn: {what} of {name}").encode())] if flame else []
    written += [(out, as_pprof(made))] if out else []
    for file, content in written:
        try:
            Path(file).write_bytes(content)
        except OSError as error:
            fail(f"cannot write {file}: {error.strerror}")
        click.echo(f"pymosn: {file} written")
    if not written:
        click.echo(as_table(made), nl=False)
