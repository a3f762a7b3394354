"""Frames of RPC protocols as taps show them: their header fields, and the frame with the secret ones replaced."""

from __future__ import annotations

from mypy_extensions import i64

from pymosn.api.protocol import ONE_WAY, REQUEST, RESPONSE
from pymosn.api.rpc import RpcDecoder, RpcHeaders, RpcSpec
from pymosn.core.errors import describe
from pymosn.core.frame_writer import FrameWriter
from pymosn.core.headers import to_text
from pymosn.core.redaction import hidden, redacted_text
from pymosn.core.secrets import is_credential


class ShownFrame:
    """What is shown of a frame."""

    def __init__(self) -> None:
        #: Names and values without secrets.
        self.fields: list[list[str]] = []
        #: The whole frame without secrets; empty if it cannot be made.
        self.frame: bytes = b""
        #: The HTTP status that corresponds to the frame's.
        self.status: i64 = 0
        #: What could not be shown.
        self.note = ""


def without_secrets(spec: RpcSpec, frame: bytes, is_response: bool) -> ShownFrame:
    """A frame as taps show it. One whose secrets cannot be replaced is not shown."""
    shown = ShownFrame()
    try:
        decoder = spec.decoder(len(frame) + 1)
        decoder.is_client = is_response
        decoder.feed(frame)
        kind: i64 = decoder.decode()
        if is_response and kind == RESPONSE:
            _response(decoder, shown, frame)
        elif not is_response and kind in (REQUEST, ONE_WAY):
            _request(decoder, shown, frame)
        else:
            shown.note = "the frame could not be decoded"
    except BaseException as error:  # of headers that cannot be read or encoded, and of installed protocols
        shown.frame = b""
        shown.note = f"secrets could not be removed from the frame: {describe(error)}"
    return shown


def _request(decoder: RpcDecoder, shown: ShownFrame, frame: bytes) -> None:
    request = decoder.request
    assert request is not None
    shown.frame = frame
    if _redact(request.headers, shown):
        out = FrameWriter()
        request.encode(request.request_id, request.payload, out)
        shown.frame = b"".join(out.take())


def _response(decoder: RpcDecoder, shown: ShownFrame, frame: bytes) -> None:
    response = decoder.response
    assert response is not None
    shown.frame = frame
    shown.status = response.status
    if _redact(response.headers, shown):
        out = FrameWriter()
        response.encode(decoder.request_id, response.payload, out)
        shown.frame = b"".join(out.take())


def _redact(headers: object, shown: ShownFrame) -> bool:
    """Notes the fields without secrets, and replaces these; returns whether there were any."""
    assert isinstance(headers, RpcHeaders)
    is_changed = False
    for raw_name, raw_value in list(headers.items_raw()):
        name, value = to_text(raw_name), to_text(raw_value)
        text = str(hidden(value)) if is_credential(name) else redacted_text(value)
        if text != value:
            is_changed = True
            headers.set(name, text)
        shown.fields.append([name.encode("utf-8", "replace").decode(), text.encode("utf-8", "replace").decode()])
    return is_changed
