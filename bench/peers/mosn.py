"""MOSN, whose configuration format pymosn reads."""

import json
import os
from pathlib import Path

from bench.cases import Case
from bench.machine import free_port
from bench.peers.base import Peer, Plan, first_line
from bench.peers.pymosn import configuration
from bench.void import Unavailable


class Mosn(Peer):
    """A MOSN that was built elsewhere. It adds no header fields, and its TLS ends at version 1.2."""

    name = "mosn"
    takes_hosts = True
    takes_tls = False
    adds_fields = False

    def __init__(self, program: Path | None) -> None:
        if program is None or not os.access(program, os.X_OK):
            raise Unavailable("mosn: --mosn must be the program MOSN")
        self.program = str(program.resolve())

    def version(self) -> str:
        return first_line([self.program, "--version"])

    def takes(self, case: Case) -> bool:
        return super().takes(case) and not case.filters

    def command(self, plan: Plan) -> list[str]:
        path = plan.directory / "mosn.json"
        document = configuration(plan, free_port())
        del document["admin"]["socket"]
        path.write_text(json.dumps(document, indent=1))
        return [self.program, "start", "-c", str(path)]
