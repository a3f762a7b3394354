"""One recorded exchange: what the client sent and what it got, with its story. Bodies are Base64 in JSON."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec

#: Names and values; a value that is not UTF-8 is empty, and Base64 in a third item.
Fields = list[list[str]]


class Body(msgspec.Struct, kw_only=True):
    """A body, or its beginning. `size`: bytes that were sent; `complete`: `data` has all of them, and they ended well.

    `kept`: if secrets were removed from `data`, the bytes that it had before; `decoded`: it has no content codings any more.
    """

    size: int
    data: bytes
    complete: bool
    kept: int = 0
    decoded: bool = False


class RecordedRequest(msgspec.Struct, kw_only=True):
    """What the client sent. `target`: path and query. `service`: of an RPC protocol, whose `frame` is the whole message.

    `accepts_trailers`: the client has sent `TE: trailers`. That is not among the fields.
    """

    method: str
    target: str
    host: str = ""
    scheme: str = "http"
    service: str = ""
    one_way: bool = False
    accepts_trailers: bool = False
    headers: Fields = []
    trailers: Fields | None = None
    size: int = msgspec.field(name="bytes", default=0)
    body: Body | None = None
    frame: bytes | None = None
    note: str = ""

    def raw_target(self) -> bytes:
        """The target as it was sent: a tap shows its bytes as characters of Latin-1."""
        return raw_text(self.target)

    def raw_host(self) -> bytes:
        """The host, as `raw_target`."""
        return raw_text(self.host)


class RecordedResponse(msgspec.Struct, kw_only=True):
    """What the client got. `status`: 0 without a response. `reset`: the reason word, if it was broken off."""

    status: int
    reset: str = ""
    headers: Fields = []
    trailers: Fields | None = None
    size: int = msgspec.field(name="bytes", default=0)
    body: Body | None = None
    frame: bytes | None = None
    frame_status: int = 0
    note: str = ""


class Recorded(msgspec.Struct, kw_only=True):
    """A recorded exchange. `story`: as `/api/v1/exchanges` has it, with `time`, `protocol`, `duration`, `attempts`."""

    number: int
    story: dict[str, Any]
    request: RecordedRequest
    response: RecordedResponse
    worker: int = 0
    rpc: bool = False
    tunnel: bool = False
    note: str = ""

    @property
    def protocol(self) -> str:
        """The protocol that the client spoke."""
        return str(self.story.get("protocol", ""))

    @property
    def time(self) -> float:
        """When it started, in seconds since 1970."""
        value = self.story.get("time", 0.0)
        return float(value) if isinstance(value, (int, float)) else 0.0

    @property
    def duration(self) -> float:
        """Seconds until it ended."""
        value = self.story.get("duration", 0.0)
        return float(value) if isinstance(value, (int, float)) else 0.0

    def name(self) -> str:
        """The exchange in a report: method and target, or service."""
        if self.rpc:
            return f"{self.protocol} {self.request.service} {self.request.method}"
        return f"{self.request.method} {self.request.host}{self.request.target}"


def raw_text(text: str) -> bytes:
    """The bytes of a text that stands for them; of one with other characters, from another program, UTF-8."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode()


def raw_value(field: list[str]) -> bytes:
    """The bytes of a field's value."""
    if len(field) > 2:
        try:
            return base64.b64decode(field[2], validate=True)
        except binascii.Error as error:
            raise ValueError(f"the field {field[0]!r} is not Base64: {error}") from None
    return field[1].encode()
