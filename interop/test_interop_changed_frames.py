"""Frames that the proxy re-encodes, with changed headers, reach Java peers with the values that they had; and lost calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from interop.hops import Hops
from interop.peers import provider_ports, steps_of
from interop.worlds import SERIALIZATIONS, WORLDS

pytestmark = [pytest.mark.usefixtures("java"), pytest.mark.timeout(300)]

#: How Java peers name headers that are their own values.
BAGGAGE = {"bolt": ("rpc_req_baggage.", "rpc_resp_baggage.")}


#: Steps about headers, and those of each world: Dubbo 2.7 does not show the attachments of responses.
CHANGED = ("added", "removed", "kept", "returned")
CHANGES = {
    "dubbo 2.7": ["added", "removed", "kept"],
    "dubbo 3": ["added", "removed", "kept", "returned"],
    "dubbo 3 calls 2.7": ["added", "removed", "kept", "returned"],
    "dubbo 2.7 calls 3": ["added", "removed", "kept"],
    "sofarpc": ["added", "kept", "returned"],
}


def adding(name: str) -> list[dict[str, Any]]:
    return [{"header": {"key": name, "value": "by the proxy"}}]


@pytest.mark.parametrize("name", WORLDS)
def test_re_encoded_frames_have_their_values(name: str, tmp_path: Path) -> None:
    world = WORLDS[name]
    request, response = BAGGAGE.get(world.protocol, ("", ""))
    [port] = provider_ports(1)
    with world.provider(port), Hops(world.protocol, [port]) as hops:
        # The first hop adds to each frame, the second one also removes: the whole header is written again.
        hops.client_routes[0]["route"]["request_headers_to_add"] = adding(f"{request}added")
        hops.server_routes[0]["route"]["request_headers_to_remove"] = ["removed"]
        hops.server_routes[0]["route"]["request_headers_to_add"] = adding("another")
        hops.server_routes[0]["route"]["response_headers_to_add"] = adding(f"{response}returned")
        hops.start(tmp_path)
        with world.consumer(hops.port, "values") as consumer:
            steps = steps_of(consumer.finish())
    assert steps[0] == "echo"
    assert "bytes-1000000" in steps
    assert [step for step in steps if step in CHANGED] == CHANGES[name]


@pytest.mark.parametrize("name", SERIALIZATIONS)
def test_calls_in_other_serializations_are_routed_by_service(name: str, tmp_path: Path) -> None:
    world = SERIALIZATIONS[name]
    [port] = provider_ports(1)
    with world.provider(port), Hops(world.protocol, [port]) as hops:
        hops.start(tmp_path)
        hops.serve_only("interop.EchoService")
        with world.consumer(hops.port, "load", "500", "4") as consumer:
            assert consumer.expect("RESULT ").split()[1:] == ["500", "0", "0"]
            consumer.finish()
        hops.serve_only("interop.Other")
        with world.consumer(hops.port, "once", "0") as consumer:
            [failed] = [line for line in consumer.finish() if line.startswith(("FAILED ", "REPLY "))]
    assert failed.startswith("FAILED rpc1")
    assert "404|router unavailable" in failed


#: What a library makes of a request above the limit, and of a provider that dies.
KINDS = {
    "dubbo 2.7": ("rpc1", "413|frame_too_large", "502|frame_too_large", "rpc1", "502|reset_before_response"),
    "dubbo 3": ("rpc1", "413|frame_too_large", "502|frame_too_large", "rpc1", "502|reset_before_response"),
    "sofarpc": ("rpc", "CodecException", "CodecException", "rpc", "ConnectionClosedException"),
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("side", ["request", "response"])
def test_a_frame_above_the_limit_fails_its_own_call(name: str, side: str, tmp_path: Path) -> None:
    world = WORLDS[name]
    kind, request, response, _, _ = KINDS[name]
    [port] = provider_ports(1)
    with world.provider(port), Hops(world.protocol, [port]) as hops:
        if side == "request":
            hops.limit_requests(100_000)
        else:
            hops.limit_responses(100_000)
        hops.start(tmp_path)
        with world.consumer(hops.port, "large", "200000") as consumer:
            lines = consumer.finish()
    assert steps_of(lines) == ["before", "after"]
    [failed] = [line for line in lines if line.startswith(("FAILED ", "REPLY "))]
    print(failed)
    assert failed.startswith(f"FAILED {kind}")
    assert (request if side == "request" else response) in failed


@pytest.mark.parametrize("name", KINDS)
def test_a_call_in_flight_at_a_provider_that_dies(name: str, tmp_path: Path) -> None:
    world = WORLDS[name]
    _, _, _, kind, text = KINDS[name]
    [port] = provider_ports(1)
    with world.provider(port) as provider, Hops(world.protocol, [port]) as hops:
        hops.start(tmp_path)
        with world.consumer(hops.port, "once", "60000") as consumer:
            hops.wait_for_request()
            provider.kill()
            [failed] = [line for line in consumer.finish() if line.startswith(("FAILED ", "REPLY "))]
    print(failed)
    assert failed.startswith(f"FAILED {kind}")
    assert text in failed
