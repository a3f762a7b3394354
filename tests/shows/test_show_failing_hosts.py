"""Issue 3, shows 2: one of two hosts fails, in every way; with retries and without."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from plain_sockets import dead_sockets, port_of
from process_fixtures import Start
from pymosn_process import TwoHops, eventually
from showing import BlackHole, run, serving, sized, tell

from load_client import Load, bad, percentile, summary
from show_upstream import ShowUpstream

CLIENTS = 32
#: So many requests are few: they can wait in turn for hosts that do not answer.
FEW = 200
FORMAT = "%response_code% %reason% %upstream_local_address%"

#: What becomes of a request to the failing host: with `retry_on: true` and with `retry_on: false`, as status, reason word in
#: the access log, and the client's error. None: another host answers, and nobody sees anything.
POLICY: dict[str, tuple[tuple[str, str, str] | None, tuple[str, str, str]]] = {
    "refusing": (None, ("502", "connect_refused", "")),
    "black-holed": (None, ("502", "connect_timeout", "")),
    "drop": (None, ("502", "reset_before_response", "")),
    "silent": (None, ("504", "timeout", "")),
    "unavailable": (None, ("503", "-", "")),
    # Part of the reply is with the client already: it is broken off, so that nobody takes it for complete.
    "reset": (("200", "reset_after_response", "broken"), ("200", "reset_after_response", "broken")),
}


def patience(count: int) -> str:
    """What a host gets for a connection or an answer that never comes; enough for one that is only busy.

    `make shows` has the machine for itself; the few requests of `make test` have time, whatever else is at work.
    """
    return "2s" if count <= FEW else "250ms"


def one_hop(
    hosts: list[str], log: Path, retry: dict[str, Any], connect_timeout: str = "10s", timeout: str = "10s"
) -> TwoHops:
    """The second hop of the example alone, to `hosts`, with that retry policy."""
    hops = TwoHops(1)
    server, clusters = hops.server, hops.config["cluster_manager"]["clusters"]
    del server["listeners"][0], server["routers"][0], clusters[0]
    listener = server["listeners"][0]
    listener["access_logs"] = [{"log_path": str(log), "log_format": FORMAT}]
    listener["filter_chains"][0]["filters"][0]["config"]["extend_config"] = {"Http1": {"reason_header": True}}
    route = server["routers"][0]["virtual_hosts"][0]["routers"][0]["route"]
    route |= {"timeout": timeout, "retry_policy": retry}
    clusters[0] |= {"connect_timeout": connect_timeout, "hosts": [{"address": address} for address in hosts]}
    return hops


async def failing(kind: str, stack: AsyncExitStack) -> str:
    """The address of a host that fails in that way."""
    if kind == "refusing":
        (dead,) = stack.enter_context(dead_sockets(1))
        return f"127.0.0.1:{port_of(dead)}"
    if kind == "black-holed":
        return stack.enter_context(BlackHole()).address
    return (await stack.enter_async_context(ShowUpstream(mode=kind))).address


def logged(path: Path, count: int) -> Counter[str]:
    """How often which line is in the access log, once so many are there. At midnight a part of it is set aside."""

    def lines() -> list[str]:
        return [line for part in path.parent.glob(f"{path.name}*") for line in part.read_text().splitlines()]

    assert eventually(lambda: len(lines()) >= count)
    return Counter(lines())


@pytest.mark.parametrize("kind", POLICY)
@sized("count", 200, 10_000)
def test_with_retries_a_failing_host_is_not_seen(start: Start, tmp_path: Path, kind: str, count: int) -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            good = await stack.enter_async_context(ShowUpstream())
            address = await failing(kind, stack)
            log = tmp_path / "access.log"
            retry: dict[str, Any] = {"retry_on": True, "num_retries": 3}
            if kind == "silent":
                retry["retry_timeout"] = patience(count)
            hops = one_hop([good.address, address], log, retry, patience(count) if kind == "black-holed" else "10s")
            await serving(start, hops)
            asked = await Load(hops.server_port, CLIENTS, count).done()
            tell(f"{kind}, retried", outcomes=summary(asked), p50_ms=round(percentile(asked, 0.5), 1),
                 p99_ms=round(percentile(asked, 0.99), 1))  # fmt: skip
            assert len(asked) == count
            lines = await asyncio.to_thread(logged, log, count)
            policy = POLICY[kind][0]
            if policy is None:
                assert bad(asked) == []
                assert lines == {f"200 - {good.address}": count}
            else:
                check(asked, lines, good.address, address, policy)

    run(scenario())


@pytest.mark.parametrize("kind", POLICY)
@sized("count", 100, 2_000)
def test_without_retries_each_error_has_its_name(start: Start, tmp_path: Path, kind: str, count: int) -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            good = await stack.enter_async_context(ShowUpstream())
            address = await failing(kind, stack)
            log = tmp_path / "access.log"
            times = [patience(count) if kind == slow else "10s" for slow in ("black-holed", "silent")]
            hops = one_hop([good.address, address], log, {"retry_on": False}, *times)
            await serving(start, hops)
            asked = await Load(hops.server_port, CLIENTS, count).done()
            tell(f"{kind}, not retried", outcomes=summary(asked))
            lines = await asyncio.to_thread(logged, log, count)
            check(asked, lines, good.address, address, POLICY[kind][1])

    run(scenario())


def check(asked: list[Any], lines: Counter[str], good: str, failing: str, policy: tuple[str, str, str]) -> None:
    """The failing host's half ended as the policy says, in the log and for the client; the other half well."""
    status, reason, error = policy
    failed = bad(asked)
    half = len(asked) // 2
    assert lines == {f"200 - {good}": len(asked) - len(failed), f"{status} {reason} {failing}": len(failed)}
    assert abs(len(failed) - half) <= len(asked) // 20
    for one in failed:
        assert str(one.status) == status
        assert bool(error) == (one.error in ("reset", "closed")) == bool(one.error)
        assert one.reason == ("" if error or reason == "-" else reason)


@sized("count", 1_000, 10_000)
def test_a_host_that_dies_under_load_is_not_seen(start: Start, tmp_path: Path, count: int) -> None:
    async def scenario() -> None:
        async with ShowUpstream() as good, ShowUpstream() as mortal:
            retry = {"retry_on": True, "num_retries": 3}
            hops = one_hop([good.address, mortal.address], tmp_path / "access.log", retry)
            await serving(start, hops)
            load = Load(hops.server_port, CLIENTS, count)
            await load.reaches(count // 2)
            mortal.die()
            asked = await load.done()
            tell("dies under load", outcomes=summary(asked), of_the_dead=mortal.requests)
            assert mortal.requests > count // 5
            assert bad(asked) == []

    run(scenario())
