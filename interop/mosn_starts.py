"""Starts the real MOSN with rows of the differential tables `files` and `local_replies`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from tests.golden.mosn_table import Row, meets
from tests.system.mosn_files import EchoServer, World, effects, is_alone, is_open
from tests.system.pymosn_process import eventually

#: The program.
MOSN = os.environ.get("MOSN", "")


def found_by_mosn(rows: list[Row], folder: Path) -> dict[str, dict[str, Any]]:
    """What MOSN does with each row. Those that it does not start with, or that change what others share, start alone."""
    upstream = EchoServer()
    try:
        together = [row for row in rows if row.mosn["starts"] and not is_alone(row) and "alone" not in row.given]
        found = _run(together, folder / "together", upstream.port)
        for i, row in enumerate(row for row in rows if row not in together):
            found |= _run([row], folder / str(i), upstream.port)
        return found
    finally:
        upstream.close()


def _run(rows: list[Row], folder: Path, upstream: int) -> dict[str, dict[str, Any]]:
    (folder / "conf").mkdir(parents=True)
    world = World(rows, folder, upstream)
    path = folder / "conf" / "mosn.json"
    path.write_text(world.text)
    with (folder / "output").open("w") as output:
        process = subprocess.Popen([MOSN, "start", "-c", str(path)], cwd=folder, stdout=output, stderr=output)
    try:
        ports = list(world.ports.values())
        eventually(lambda: process.poll() is not None or all(map(is_open, ports)))
        if process.poll() is not None:
            return {row.case: {"starts": False} for row in rows}
        found = effects(rows, world)
        # What MOSN finds out about a host may take a moment.
        eventually(
            lambda: meets(found[rows[0].case], rows[0].mosn) or found.update(effects(rows[:1], world)) is not None, 5.0
        )
        return found
    finally:
        process.kill()
        process.wait()
