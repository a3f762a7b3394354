"""Writes frames (RFC 9113 section 6) into the buffer of a connection."""

from __future__ import annotations

from mypy_extensions import i64

from pymosn.core.frame_writer import FrameWriter
from pymosn.protocol.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
)


def write_header(out: FrameWriter, size: i64, kind: i64, flags: i64, stream_id: i64) -> None:
    """The nine bytes before a payload of `size` bytes."""
    out.write_number((size << 40) | (kind << 32) | (flags << 24) | (stream_id >> 8), 8)
    out.write_number(stream_id & 0xFF, 1)


def write_data(out: FrameWriter, stream_id: i64, data: bytes, end: bool) -> None:
    """A DATA frame; the caller has checked size and windows."""
    write_header(out, len(data), DATA, END_STREAM if end else 0, stream_id)
    out.write(data)


def write_head(out: FrameWriter, stream_id: i64, block: bytes, end: bool, frame_size: i64) -> None:
    """A header block: HEADERS and, if it is longer than `frame_size`, CONTINUATION frames."""
    flags: i64 = END_STREAM if end else 0
    size: i64 = len(block)
    if size <= frame_size:
        write_header(out, size, HEADERS, flags | END_HEADERS, stream_id)
        out.write(block)
        return
    write_header(out, frame_size, HEADERS, flags, stream_id)
    out.write(block[:frame_size])
    at = frame_size
    while at < size:
        stop = min(at + frame_size, size)
        write_header(out, stop - at, CONTINUATION, END_HEADERS if stop == size else 0, stream_id)
        out.write(block[at:stop])
        at = stop


def write_reset(out: FrameWriter, stream_id: i64, code: i64) -> None:
    """A RST_STREAM frame."""
    write_header(out, 4, RST_STREAM, 0, stream_id)
    out.write_number(code, 4)


def write_window_update(out: FrameWriter, stream_id: i64, size: i64) -> None:
    """A WINDOW_UPDATE frame; `stream_id` is 0 for the connection's window."""
    write_header(out, 4, WINDOW_UPDATE, 0, stream_id)
    out.write_number(size, 4)


def write_settings_ack(out: FrameWriter) -> None:
    """The acknowledgement of the peer's SETTINGS."""
    write_header(out, 0, SETTINGS, ACK, 0)


def write_ping(out: FrameWriter, data: bytes, is_ack: bool) -> None:
    """A PING frame with its eight bytes."""
    write_header(out, 8, PING, ACK if is_ack else 0, 0)
    out.write(data)


def write_goaway(out: FrameWriter, last_id: i64, code: i64, debug: bytes) -> None:
    """A GOAWAY frame; `debug` is a word for the peer's log."""
    write_header(out, 8 + len(debug), GOAWAY, 0, 0)
    out.write_number(last_id, 4)
    out.write_number(code, 4)
    out.write(debug)


def settings_frame(settings: list[tuple[i64, i64]]) -> bytes:
    """A SETTINGS frame with identifiers and values."""
    out = FrameWriter()
    write_header(out, 6 * len(settings), SETTINGS, 0, 0)
    for identifier, value in settings:
        out.write_number(identifier, 2)
        out.write_number(value, 4)
    return b"".join(out.take())


def window_update(stream_id: i64, size: i64) -> bytes:
    """A WINDOW_UPDATE frame."""
    out = FrameWriter()
    write_window_update(out, stream_id, size)
    return b"".join(out.take())
