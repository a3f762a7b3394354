"""Java consumers call Java providers through two hops of pymosn."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from interop.hops import Config, Hops
from interop.peers import Peer, provider_ports, steps_of
from interop.worlds import WORLDS, World

pytestmark = [pytest.mark.usefixtures("java"), pytest.mark.timeout(600)]

CALLS = 100_000
THREADS = 64


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("downstream", ["own", "Auto"])
def test_every_kind_of_call(name: str, downstream: str, tmp_path: Path) -> None:
    world = WORLDS[name]
    [port] = provider_ports(1)
    protocol = world.protocol if downstream == "own" else "Auto"
    with world.provider(port), Hops(protocol, [port]) as hops:
        hops.start(tmp_path)
        with world.consumer(hops.port, "steps") as consumer:
            assert steps_of(consumer.finish())


#: The retry policy of a route, and the number of calls in flight that may fail when a provider dies. Without a policy a call
#: that has been sent is not retried, because its method may have run. With one it is retried, and no call may fail.
POLICIES: dict[str, tuple[Config | None, int]] = {
    "no policy": (None, THREADS),
    "retries": ({"retry_on": True, "num_retries": 2}, 0),
}


@pytest.mark.parametrize("name", ["dubbo 2.7", "dubbo 3", "sofarpc"])
@pytest.mark.parametrize("policy", POLICIES)
def test_many_calls_while_hosts_come_and_go(name: str, policy: str, tmp_path: Path) -> None:
    world = WORLDS[name]
    retries, may_fail = POLICIES[policy]
    ports = provider_ports(4)
    with ExitStack() as stack:
        providers = [stack.enter_context(world.provider(port)) for port in ports]
        hops = stack.enter_context(Hops(world.protocol, ports[:3]))
        if retries is not None:
            hops.server_routes[0]["route"]["retry_policy"] = retries
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
    print(*result)
    ok, wrong, failed = (int(word) for word in result[1:4])
    assert wrong == 0
    assert ok + failed == CALLS
    assert failed <= may_fail, result


@pytest.mark.parametrize("name", ["dubbo 2.7", "dubbo 3", "sofarpc"])
def test_a_provider_that_is_taken_out_and_then_stopped_loses_no_call(name: str, tmp_path: Path) -> None:
    world = WORLDS[name]
    ports = provider_ports(2)
    with ExitStack() as stack:
        providers = [stack.enter_context(world.provider(port)) for port in ports]
        hops = stack.enter_context(Hops(world.protocol, ports))
        hops.start(tmp_path)
        consumer = stack.enter_context(world.consumer(hops.port, "load", "20000", "16"))
        consumer.expect("CALLS 5000")
        hops.hosts("remove", ports[:1])
        providers[0].finish()
        result = consumer.expect("RESULT ", 300).split()
        consumer.finish()
    print(*result)
    assert result[1:4] == ["20000", "0", "0"]


def failure(world: World, hops: Hops, milliseconds: int, group: str = "blue") -> str:
    """The result of one call: the kind of the exception, and the proxy's message."""
    with world.consumer(hops.port, "once", str(milliseconds), group=group) as consumer:
        [result] = [line for line in consumer.finish() if line.startswith(("REPLY ", "FAILED "))]
        return result


#: The kind of exception that the libraries raise if there is no host or no route, and its texts. Dubbo's code 1 is a network
#: error, which its clusters retry.
KINDS = {
    "dubbo 2.7": ("rpc1", "502|no health upstream", "404|router unavailable"),
    "dubbo 3": ("rpc1", "502|no health upstream", "404|router unavailable"),
    "sofarpc": ("rpc299", "NO_PROCESSOR", "NO_PROCESSOR"),
}


@pytest.mark.parametrize("name", KINDS)
def test_the_caller_understands_the_replies_of_the_proxy(name: str, tmp_path: Path) -> None:
    world = WORLDS[name]
    [port] = provider_ports(1)
    with world.provider(port), Hops(world.protocol, [port]) as hops:
        routes = hops.server_routes
        routes[0]["route"]["timeout"] = "400ms"
        hops.start(tmp_path)
        ended = failure(world, hops, 3000)
        # Dubbo 3 and SOFARPC send their own timeout in the call, which takes precedence over the route's.
        if name == "dubbo 2.7":
            assert ended.startswith("FAILED rpc2")
            assert "504|timeout" in ended
        else:
            assert ended == "REPLY once"
        kind, no_host, no_route = KINDS[name]
        hops.hosts("set", provider_ports(1))
        ended = failure(world, hops, 0)
        assert ended.startswith(f"FAILED {kind}")
        assert no_host in ended
        hops.serve_only("nobody")
        ended = failure(world, hops, 0)
        assert ended.startswith(f"FAILED {kind}")
        assert no_route in ended


@pytest.mark.parametrize("name", ["dubbo 2.7", "dubbo 3"])
def test_groups_are_subsets(name: str, tmp_path: Path) -> None:
    world = WORLDS[name]
    module = "dubbo2" if name == "dubbo 2.7" else "dubbo3"
    groups = ["blue", "green"]
    ports = provider_ports(len(groups))
    extra = {"stream_filters": [{"type": "dubbo_stream", "config": {"subset": "group"}}]}
    with ExitStack() as stack:
        for group, port in zip(groups, ports, strict=True):
            peer = stack.enter_context(Peer(module, "dubbo.Provider", str(port), group, "1.0.1"))
            peer.expect("READY")
        hops = stack.enter_context(Hops("dubbo", ports, extra))
        cluster = hops.config["cluster_manager"]["clusters"][1]
        cluster["lb_subset_config"] = {"subset_selectors": [["group"]], "fall_back_policy": 0}
        for group, host in zip(groups, cluster["hosts"], strict=True):
            host["metadata"] = {"filter_metadata": {"mosn.lb": {"group": group}}}
        hops.start(tmp_path)
        for group in groups:
            for _ in range(2):
                assert failure(world, hops, 0, group) == "REPLY once"
        assert failure(world, hops, 0, "red").startswith("FAILED rpc1")
