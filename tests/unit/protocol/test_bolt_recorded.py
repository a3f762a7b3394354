"""Frames of real peers (SOFABolt and SOFARPC), replayed: read whole, known for what they are, written as they were."""

from pathlib import Path

import pytest
from tests.unit.protocol.rpc_frames import built, encoded

from pymosn.api.protocol import HEARTBEAT, HEARTBEAT_ACK, ONE_WAY, REQUEST, RESPONSE, YES
from pymosn.api.rpc import MAX_FRAME
from pymosn.protocol.bolt.codec import BoltDecoder, BoltSpec

FIXTURES = Path(__file__).parents[2] / "fixtures"
FRAMES = sorted(
    path for folder in ("bolt-v1", "bolt-v2.1", "bolt-v2.2", "sofarpc") for path in (FIXTURES / folder).glob("*.bin")
)
KINDS = {
    "heartbeat.request": HEARTBEAT,
    "heartbeat.reply": HEARTBEAT_ACK,
    "oneway.request": ONE_WAY,
    "note.request": ONE_WAY,
}


@pytest.mark.parametrize("path", FRAMES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_recorded_frame(path: Path) -> None:
    data = path.read_bytes()
    decoder = BoltDecoder(MAX_FRAME)
    decoder.feed(data)
    kind = decoder.decode()
    is_reply = path.stem.endswith(".reply")
    assert kind == KINDS.get(path.stem, RESPONSE if is_reply else REQUEST)
    assert not decoder.has_buffered()
    if not is_reply:
        assert BoltSpec(data[0]).match(data) == YES
    message = decoder.response if is_reply else decoder.request
    if message is not None:
        assert encoded(message, decoder.request_id, message.payload) == data
        assert built(message, decoder.request_id, message.payload) == data
    if kind == HEARTBEAT:
        assert decoder.answer == path.with_name("heartbeat.reply.bin").read_bytes()


def test_headers_that_routes_see_of_a_sofarpc_request() -> None:
    decoder = BoltDecoder(MAX_FRAME)
    decoder.feed((FIXTURES / "sofarpc" / "echo.request.bin").read_bytes())
    assert decoder.decode() == REQUEST
    assert decoder.request is not None
    assert decoder.request.headers["service"] == "interop.EchoService:1.0"
    assert decoder.request.headers["sofa_head_target_service"] == decoder.request.service() == "interop.EchoService:1.0"
    assert decoder.request.method == "echo"
    assert (decoder.request.has_timeout, decoder.request.timeout) == (True, 10.0)


def test_a_service_that_fails_is_an_error() -> None:
    for folder, name, status in (("bolt-v1", "fail", 500), ("bolt-v1", "unknown", 500), ("bolt-v1", "echo", 200)):
        decoder = BoltDecoder(MAX_FRAME)
        decoder.feed((FIXTURES / folder / f"{name}.reply.bin").read_bytes())
        assert decoder.decode() == RESPONSE
        assert decoder.response is not None
        assert decoder.response.status == status
