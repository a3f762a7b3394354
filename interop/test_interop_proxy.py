"""Java consumers call Java providers through two hops of pymosn."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from interop.hops import Hops
from interop.peers import LOOPBACK, Peer, free_port, steps_of

pytestmark = [pytest.mark.usefixtures("java"), pytest.mark.timeout(600)]

CALLS = 100_000
THREADS = 64


class World:
    """The peers of one protocol."""

    def __init__(self, protocol: str, provider: str, consumer: str) -> None:
        """Peers by module: dubbo2, dubbo3 or sofa."""
        self.protocol = protocol
        self._provider = provider
        self._consumer = consumer

    def provider(self, port: int) -> Peer:
        """A provider that serves."""
        if self._provider == "sofa":
            peer = Peer("sofa", "sofa.Provider", str(port))
        else:
            peer = Peer(self._provider, "dubbo.Provider", str(port), "blue", "1.0.1")
        peer.expect("READY")
        return peer

    def consumer(self, port: int, *what: str, group: str = "blue") -> Peer:
        """A consumer that does `what`."""
        if self._consumer == "sofa":
            return Peer("sofa", "sofa.Consumer", f"bolt://127.0.0.1:{port}", *what)
        return Peer(self._consumer, "dubbo.Consumer", f"dubbo://{LOOPBACK}:{port}", group, "1.0.1", *what)


WORLDS = {
    "dubbo 2.7": World("dubbo", "dubbo2", "dubbo2"),
    "dubbo 3": World("dubbo", "dubbo3", "dubbo3"),
    "dubbo 3 calls 2.7": World("dubbo", "dubbo2", "dubbo3"),
    "dubbo 2.7 calls 3": World("dubbo", "dubbo3", "dubbo2"),
    "sofarpc": World("bolt", "sofa", "sofa"),
}


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("downstream", ["own", "Auto"])
def test_every_kind_of_call(name: str, downstream: str, tmp_path: Path) -> None:
    world = WORLDS[name]
    port = free_port()
    protocol = world.protocol if downstream == "own" else "Auto"
    with world.provider(port), Hops(protocol, [port]) as hops:
        hops.start(tmp_path)
        with world.consumer(hops.port, "steps") as consumer:
            assert steps_of(consumer.finish())


@pytest.mark.parametrize("name", ["dubbo 2.7", "dubbo 3", "sofarpc"])
def test_many_calls_while_hosts_come_and_go(name: str, tmp_path: Path) -> None:
    world = WORLDS[name]
    ports = [free_port() for _ in range(4)]
    with ExitStack() as stack:
        providers = [stack.enter_context(world.provider(port)) for port in ports]
        hops = stack.enter_context(Hops(world.protocol, ports[:3]))
        hops.start(tmp_path)
        consumer = stack.enter_context(world.consumer(hops.port, "load", str(CALLS), str(THREADS)))
        consumer.expect("CALLS 10000")
        hops.hosts("add", ports[3:])
        consumer.expect("CALLS 30000")
        hops.hosts("remove", ports[:1])
        consumer.expect("CALLS 50000")
        providers[1].kill()
        consumer.expect("CALLS 70000")
        hops.hosts("remove", ports[1:2])
        hops.hosts("add", ports[:1])
        result = consumer.expect("RESULT ", 300).split()
        consumer.finish()
    ok, wrong, failed = (int(word) for word in result[1:4])
    assert wrong == 0
    assert ok + failed == CALLS
    # Only what was in flight at the provider that died can fail, and with the error of a broken connection.
    assert failed <= THREADS, result
