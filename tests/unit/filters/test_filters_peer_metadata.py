"""`peer_metadata`: headers that sidecars exchange, which neither apps nor clients see."""

from typing import Any

import pytest
from istio_kit import CLUSTER, FakeCluster, Worker, exchange, node
from shipped_kit import shipped

from pymosn.api.exchange import Exchange
from pymosn.api.upstream import ServiceFacts
from pymosn.filters.istio.labels import DOWNSTREAM_PEER, UPSTREAM_PEER
from pymosn.filters.istio.workload import HEADER, ID_HEADER, header_of, metadata_of, workload_from, workload_of

SLEEP = workload_of(metadata_of(node("sleep")))
SERVER = {"downstream_discovery": True, "downstream_propagation": True}
CLIENT = {"upstream_discovery": True, "upstream_propagation": True}


def requested(*, said: str | None = None, name: str | None = None) -> Exchange:
    one = exchange()
    if said is not None:
        one.request.headers.add(HEADER, said)
    if name is not None:
        one.request.headers.add(ID_HEADER, name)
    return one


def sent(one: Exchange) -> dict[str, str]:
    """The headers of the exchange in the request."""
    return {name: value for name, value in one.request.headers.items() if name.lower().startswith("x-envoy-peer")}


def answered(one: Exchange) -> dict[str, str]:
    return {name: value for name, value in one.response_head.headers.items() if name.lower().startswith("x-envoy-peer")}


def test_a_server_reads_the_client_and_answers_as_it_was_asked() -> None:
    worker = Worker(node("echo"))
    made = worker.started(shipped("peer_metadata", SERVER))
    one = requested(said=header_of(SLEEP), name="sleep-id")
    made.on_request(one)
    assert one.state[DOWNSTREAM_PEER] == SLEEP
    assert sent(one) == {}
    made.on_response(one)
    assert answered(one)[ID_HEADER] == node("echo")["id"]
    assert workload_from(answered(one)[HEADER]) == workload_of(metadata_of(node("echo")))
    only_id = requested(name="x")
    made.on_request(only_id)
    made.on_response(only_id)
    assert set(answered(only_id)) == {ID_HEADER}
    stranger = requested()
    made.on_request(stranger)
    made.on_response(stranger)
    assert (answered(stranger), DOWNSTREAM_PEER in stranger.state) == ({}, False)


@pytest.mark.parametrize("said", ["%", "A" * 20000, "AAA"])
def test_what_cannot_be_read_is_removed_all_the_same(said: str) -> None:
    made = Worker(node("echo")).started(shipped("peer_metadata", SERVER))
    one = requested(said=said)
    made.on_request(one)
    assert (sent(one), DOWNSTREAM_PEER in one.state) == ({}, False)


def test_a_client_sends_its_own_metadata_and_reads_the_servers() -> None:
    made = Worker(node("echo")).started(shipped("peer_metadata", CLIENT))
    one = requested(said="of the app", name="of the app")
    made.on_route(one)
    assert set(sent(one)) == {ID_HEADER, HEADER}
    assert workload_from(sent(one)[HEADER]) == workload_of(metadata_of(node("echo")))
    one.response_head.headers.add(HEADER, header_of(SLEEP))
    one.response_head.headers.add(ID_HEADER, "id")
    made.on_response(one)
    assert (one.state[UPSTREAM_PEER], answered(one)) == (SLEEP, {})


@pytest.mark.parametrize(
    ("cluster", "facts", "skips", "is_sent"),
    [
        (CLUSTER, None, True, True),
        ("c", ServiceFacts(hides_metadata=True), False, False),
        ("c", ServiceFacts(is_external=True), True, False),
        ("c", ServiceFacts(is_external=True), False, True),
        ("PassthroughCluster", None, True, False),
        ("PassthroughCluster", None, False, True),
        ("unknown", None, True, True),
    ],
)
def test_hosts_that_must_not_get_them(cluster: str, facts: ServiceFacts | None, skips: bool, is_sent: bool) -> None:
    worker = Worker(node("echo"), c=FakeCluster(facts))
    made = worker.started(shipped("peer_metadata", {**CLIENT, "skip_external_clusters": skips}))
    one = exchange(cluster=cluster)
    made.on_route(one)
    assert bool(sent(one)) is is_sent


def test_only_what_is_configured_is_done() -> None:
    one = requested(said=header_of(SLEEP))
    one.response_head.headers.add(HEADER, header_of(SLEEP))
    made = Worker(node("echo")).started(shipped("peer_metadata", {}))
    for phase in (made.on_request, made.on_route, made.on_response):
        phase(one)
    assert (set(sent(one)), set(answered(one)), one.state) == ({HEADER}, {HEADER}, {})


def test_both_directions() -> None:
    both: Any = Worker(node("echo")).started(shipped("peer_metadata", {**SERVER, **CLIENT}))
    one = requested(said=header_of(SLEEP))
    both.on_request(one)
    both.on_route(one)
    both.on_response(one)
    assert (one.state[DOWNSTREAM_PEER], set(sent(one)), set(answered(one))) == (SLEEP, {HEADER, ID_HEADER}, {HEADER})


def test_an_id_that_cannot_be_a_header_is_not_sent() -> None:
    made = Worker({**node("echo"), "id": "a\r\nb"}).started(shipped("peer_metadata", CLIENT))
    one = exchange()
    made.on_route(one)
    assert set(sent(one)) == {HEADER}
