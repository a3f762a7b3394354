"""Recorded frames (see `interop/`), and what a decoder makes of bytes: for the tests of the RPC codecs."""

from __future__ import annotations

from pathlib import Path

from pymosn.api.protocol import NEED_MORE, ProtocolError
from pymosn.api.rpc import RpcDecoder, RpcRequest, RpcResponse, RpcSpec
from pymosn.core.frame_writer import FrameWriter
from pymosn.core.headers import Headers
from pymosn.core.message import UnreadableHeaders

FIXTURES = Path(__file__).parent.parent.parent / "fixtures"


def recorded(folder: str) -> dict[str, bytes]:
    """The frames of one recording by name, such as `echo.request`."""
    frames = {path.stem: path.read_bytes() for path in sorted((FIXTURES / folder).glob("*.bin"))}
    assert frames, folder
    return frames


def encoded(message: RpcRequest | RpcResponse, number: int, payload: bytes) -> bytes:
    """The frame that is sent of a message."""
    out = FrameWriter()
    message.encode(number, payload, out)
    return b"".join(out.take())


def built(message: RpcRequest | RpcResponse, number: int, payload: bytes) -> bytes:
    """The re-encoded frame."""
    out = FrameWriter()
    message.build(number, payload, out)
    return b"".join(out.take())


def facts(message: RpcRequest | RpcResponse) -> tuple[object, ...]:
    """The facts of a message."""
    return (message.frame, message.payload, items_or_why_not(message.headers))


def items_or_why_not(headers: Headers) -> object:
    """The header fields, or why they cannot be read."""
    try:
        return headers.items()
    except UnreadableHeaders as error:
        return (error.failure.reason, str(error))


class Found:
    """One frame as the decoder saw it."""

    def __init__(self, kind: int, decoder: RpcDecoder) -> None:
        self.kind = kind
        self.request_id = decoder.request_id
        self.answer = decoder.answer
        self.request = decoder.request
        self.response = decoder.response

    @property
    def message(self) -> RpcRequest | RpcResponse:
        found = self.request or self.response
        assert found is not None
        return found

    def key(self) -> tuple[object, ...]:
        """What must not depend on how the bytes were cut."""
        message = self.request or self.response
        return (self.kind, self.request_id, self.answer, None if message is None else facts(message))


class Outcome:
    """All frames of an input, and the reason why there are no more."""

    def __init__(self) -> None:
        self.found: list[Found] = []
        self.reason = ""
        self.detail = ""


def decoded(spec: RpcSpec, feeds: list[bytes], max_frame: int = 1 << 24) -> Outcome:
    """What a new decoder of `spec` makes of `feeds`."""
    decoder = spec.decoder(max_frame)
    outcome = Outcome()
    for feed in feeds:
        decoder.feed(feed)
        while True:
            decoder.request = decoder.response = None
            decoder.answer = b""
            try:
                kind = decoder.decode()
            except ProtocolError as error:
                outcome.reason, outcome.detail = error.failure.reason, error.detail
                return outcome
            if kind == NEED_MORE:
                break
            outcome.found.append(Found(kind, decoder))
    return outcome


def only(spec: RpcSpec, frame: bytes) -> Found:
    """The one frame in `frame`."""
    outcome = decoded(spec, [frame])
    assert outcome.reason == "", outcome.detail
    assert len(outcome.found) == 1
    return outcome.found[0]
