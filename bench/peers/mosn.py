"""MOSN, whose configuration format pymosn reads."""

import json
import os
import subprocess
from pathlib import Path

from bench.cases import HTTP1, HTTP2, Case
from bench.machine import free_port
from bench.peers.base import Peer, Plan
from bench.peers.pymosn import configuration
from bench.void import Unavailable


class Mosn(Peer):
    """A MOSN that was built elsewhere. It adds no header fields, and its TLS ends at version 1.2."""

    name = "mosn"
    takes_hosts = True
    takes_tls = False
    #: It answers a request over HTTP/2 with status 500 if the upstream speaks HTTP/1.1.
    ways = ((HTTP1, HTTP1), (HTTP2, HTTP2))
    adds_fields = False

    def __init__(self, program: Path | None) -> None:
        if program is None or not os.access(program, os.X_OK):
            raise Unavailable("mosn: --mosn must be the program MOSN")
        self.program = str(program.resolve())

    def version(self) -> str:
        # A MOSN that was built without its Makefile prints no number, and a line of its log first.
        lines = subprocess.run([self.program, "--version"], capture_output=True, timeout=30, text=True).stdout.splitlines()
        return next((line.strip() for line in reversed(lines) if line.startswith("mosn version")), "mosn")

    def takes(self, case: Case) -> bool:
        return super().takes(case) and not case.filters

    def command(self, plan: Plan) -> list[str]:
        path = plan.directory / "mosn.json"
        document = configuration(plan, free_port())
        del document["admin"]["socket"]
        proxy = document["servers"][0]["listeners"][0]["filter_chains"][0]["filters"][0]["config"]
        proxy["upstream_protocol"] = plan.back
        path.write_text(json.dumps(document, indent=1))
        return [self.program, "start", "-c", str(path)]
