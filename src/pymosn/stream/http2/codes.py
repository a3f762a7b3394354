"""Error codes of HTTP/2 (RFC 9113 section 7) and failures: the one table between them."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.core.failure import (
    CLIENT_GONE,
    CLIENT_WRITE_TIMEOUT,
    CONTINUATION_FLOOD,
    DEADLINE_EXCEEDED,
    EMPTY_DATA_FLOOD,
    HEADER_BOMB,
    HEADS_FULL,
    HTTP1_HOST,
    HTTP2_COMPRESSION,
    HTTP2_ERROR,
    HTTP2_FLOW_ERROR,
    HTTP2_FRAME_SIZE,
    HTTP2_SETTINGS_TIMEOUT,
    HTTP2_STREAM_CLOSED,
    MALFORMED,
    PING_FLOOD,
    PRIORITY_FLOOD,
    REFUSED_STREAM,
    REQUEST_TIMEOUT,
    RESET_FLOOD,
    SETTINGS_FLOOD,
    TUNNEL_IDLE,
    UNREAD_REPLIES,
    WINDOW_UPDATE_FLOOD,
    Failure,
    reset_of,
)
from pymosn.protocol.http2 import frames

#: The code that reports a failure to the peer; INTERNAL_ERROR for all others, so that it notices a truncation.
_CODES: Final[dict[Failure, i64]] = {
    MALFORMED: frames.PROTOCOL_ERROR,
    HTTP2_ERROR: frames.PROTOCOL_ERROR,
    HTTP2_FLOW_ERROR: frames.FLOW_CONTROL_ERROR,
    HTTP2_FRAME_SIZE: frames.FRAME_SIZE_ERROR,
    HTTP2_COMPRESSION: frames.COMPRESSION_ERROR,
    HTTP2_STREAM_CLOSED: frames.STREAM_CLOSED,
    HTTP2_SETTINGS_TIMEOUT: frames.SETTINGS_TIMEOUT,
    REFUSED_STREAM: frames.REFUSED_STREAM,
    RESET_FLOOD: frames.ENHANCE_YOUR_CALM,
    CONTINUATION_FLOOD: frames.ENHANCE_YOUR_CALM,
    HEADER_BOMB: frames.ENHANCE_YOUR_CALM,
    SETTINGS_FLOOD: frames.ENHANCE_YOUR_CALM,
    PING_FLOOD: frames.ENHANCE_YOUR_CALM,
    PRIORITY_FLOOD: frames.ENHANCE_YOUR_CALM,
    WINDOW_UPDATE_FLOOD: frames.ENHANCE_YOUR_CALM,
    EMPTY_DATA_FLOOD: frames.ENHANCE_YOUR_CALM,
    UNREAD_REPLIES: frames.ENHANCE_YOUR_CALM,
    HEADS_FULL: frames.ENHANCE_YOUR_CALM,
    REQUEST_TIMEOUT: frames.ENHANCE_YOUR_CALM,  # a head that is never complete holds up the whole connection
    CLIENT_GONE: frames.CANCEL,
    CLIENT_WRITE_TIMEOUT: frames.CANCEL,
    TUNNEL_IDLE: frames.CANCEL,
    DEADLINE_EXCEEDED: frames.CANCEL,
}


def code_of(failure: Failure) -> i64:
    """The error code for RST_STREAM or GOAWAY that reports `failure` to the peer."""
    return _CODES.get(failure, frames.INTERNAL_ERROR)


def failure_of(code: i64, response_began: bool) -> Failure:
    """What a request has failed with when its host reset the stream with `code`."""
    if not response_began:
        if code == frames.REFUSED_STREAM:
            return REFUSED_STREAM
        if code == frames.HTTP_1_1_REQUIRED:
            return HTTP1_HOST
    return reset_of(REFUSED_STREAM, response_began)
