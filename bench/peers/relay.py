"""The lower bound: uvloop copies bytes without parsing them."""

import sys
from importlib.metadata import version

from bench.peers.base import Peer, Plan


class Relay(Peer):
    """`bench.relay`. It dials the upstream for each client connection and has no connection pool."""

    name = "relay"
    http = False
    takes_tls = False

    def version(self) -> str:
        return f"uvloop {version('uvloop')} byte relay"

    def command(self, plan: Plan) -> list[str]:
        return [sys.executable, "-m", "bench.relay", str(plan.port), str(plan.upstream_port)]
