"""pymosn and Envoy beside each other, each with a control plane that sends the same resources but for the ports."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.kit.xds_server import XdsServer
from tests.system.process_fixtures import Start
from tests.system.pymosn_process import READY, Pymosn, eventually, free_ports

from interop.echo import EchoHosts
from interop.envoy import Envoy, bootstrap
from interop.xds_groups import HOSTS, Group
from interop.xds_world import resources


@contextlib.contextmanager
def pymosn(folder: Path, xds_port: int, **more: Any) -> Iterator[Pymosn]:
    """pymosn in dynamic mode, without a cache of what it has received. `more`: as for `bootstrap`.

    It has one worker, as Envoy has: with more, it is chance whether a request finds an idle connection to its host.
    """
    [admin] = free_ports(1)
    start = Start(folder)
    try:
        running = start({**bootstrap(xds_port, admin, **more), "xds_cache": "off"}, "--workers", "1")
        running.wait_for(READY)
        yield running
    finally:
        start.end()


def listens(port: int) -> bool:
    """Whether something listens on a port of the loopback interface."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 2):
        return True
    return False


class Pair:
    """Both proxies. `envoy`, `pymosn`: name of a group -> the port of its listener. `server`: pymosn's control plane."""

    def __init__(self, groups: Sequence[Group], hosts: EchoHosts, server: XdsServer) -> None:
        self.hosts = hosts
        self.server = server
        ports = free_ports(2 * len(groups))
        names = [group.name for group in groups]
        self.envoy = dict(zip(names, ports, strict=False))
        self.pymosn = dict(zip(names, ports[len(names) :], strict=True))


@contextlib.contextmanager
def both(folder: Path, envoy: str, groups: Sequence[Group], rejected: Sequence[Group] = ()) -> Iterator[Pair]:
    """Starts both with all groups, and waits until they serve. `rejected`: groups of which pymosn rejects something."""
    [refusing] = free_ports(1)
    every = [*groups, *rejected]
    with contextlib.ExitStack() as stack:
        hosts = stack.enter_context(EchoHosts(HOSTS))
        servers = [stack.enter_context(XdsServer()) for _ in range(2)]
        pair = Pair(every, hosts, servers[1])
        for server, ports in zip(servers, (pair.envoy, pair.pymosn), strict=True):
            server.set(*resources(every, ports, hosts, refusing))
        stack.enter_context(pymosn(folder, servers[1].port))
        theirs = stack.enter_context(Envoy(envoy, folder / "envoy", servers[0].port))
        theirs.wait()
        missing = lambda ports, some: [one.name for one in some if not listens(ports[one.name])]  # noqa: E731
        assert eventually(lambda: not missing(pair.envoy, every), 20), (missing(pair.envoy, every), theirs.output[-2000:])
        assert eventually(lambda: not missing(pair.pymosn, groups), 20), (
            missing(pair.pymosn, groups),
            [one.message.error_detail.message for one in pair.server.requests if one.is_nack],
        )
        yield pair
