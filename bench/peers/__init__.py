"""The proxies, configured to do the same work with the same settings.

One worker on one core; keep-alive to the upstream with up to 128 idle connections; no access log, no compression,
TCP_NODELAY; the client's Host is forwarded, X-Forwarded-For and -Proto are added, X-Request-Id is created if absent.
`verify` checks this on the wire. Everything else is left at the peer's defaults.
"""

from pathlib import Path

from bench.peers.base import Peer, Plan, Running
from bench.peers.envoy import Envoy
from bench.peers.ext_proc import EnvoyExtProc
from bench.peers.haproxy import Haproxy
from bench.peers.mosn import Mosn
from bench.peers.nginx import Nginx
from bench.peers.pymosn import Baseline, Interpreted, Pymosn
from bench.peers.relay import Relay

__all__ = ["DEFAULT_PEERS", "PEER_NAMES", "Peer", "Plan", "Running", "make_peer"]

DEFAULT_PEERS = ("pymosn", "nginx", "haproxy", "envoy", "envoy-ext-proc", "relay")
PEER_NAMES = (*DEFAULT_PEERS, "pymosn-interpreted", "pymosn-baseline", "mosn")


def make_peer(name: str, python: str, baseline: Path | None, mosn: Path | None = None) -> Peer:
    """The peer called `name`. Raises Unavailable if it cannot be used on this machine.

    `python`: the interpreter that has pymosn installed. `baseline`: a source tree to compare with. `mosn`: the program.
    """
    if name == "nginx":
        return Nginx()
    if name == "haproxy":
        return Haproxy()
    if name == "envoy":
        return Envoy()
    if name == "envoy-ext-proc":
        return EnvoyExtProc()
    if name == "relay":
        return Relay()
    if name == "pymosn-interpreted":
        return Interpreted(python)
    if name == "pymosn-baseline":
        return Baseline(python, baseline)
    if name == "mosn":
        return Mosn(mosn)
    return Pymosn(python)
