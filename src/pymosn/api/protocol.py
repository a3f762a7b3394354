"""LAYER 2: bytes <-> frames. What a protocol says of itself, and what every codec looks like. No I/O, no clock."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64, mypyc_attr

from pymosn.core.failure import Failure

#: Answers of `ProtocolSpec.match`.
NO: Final[i64] = 0
YES: Final[i64] = 1
MORE: Final[i64] = 2

#: Answers of `Decoder.decode`.
NEED_MORE: Final[i64] = 0
HEAD: Final[i64] = 1
DATA: Final[i64] = 2
# Decoders of multiplexed RPC protocols (`pymosn.api.rpc`) find whole messages instead.
REQUEST: Final[i64] = 3
ONE_WAY: Final[i64] = 4
RESPONSE: Final[i64] = 5
HEARTBEAT: Final[i64] = 6
HEARTBEAT_ACK: Final[i64] = 7
#: The peer wants no further request on this connection; what is in flight goes on.
GOAWAY: Final[i64] = 8
#: A message that is well formed and of no concern to a proxy.
IGNORE: Final[i64] = 9


@mypyc_attr(allow_interpreted_subclasses=True)
class ProtocolSpec:
    """What must be known of a protocol before its codec runs."""

    def __init__(self, name: str, alpn: str, multiplexed: bool) -> None:
        """`name` as in the configuration ("Http1"); `multiplexed`: several streams share a connection."""
        self.name = name
        self.alpn = alpn
        self.multiplexed = multiplexed

    def match(self, data: bytes) -> i64:
        """Whether the first bytes of a connection are of this protocol: YES, NO, or MORE are needed to tell."""
        raise NotImplementedError


class ProtocolError(Exception):
    """Bytes that break the protocol. Raised by codecs only, and caught by the stream layer right above."""

    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(f"{failure.reason}: {detail}")
        self.failure = failure
        self.detail = detail


@mypyc_attr(allow_interpreted_subclasses=True)
class Decoder:
    """A pulled, incremental decoder: feed bytes, then take frames until more bytes are needed.

    `decode` returns a small number and leaves what it found in attributes, so that a frame costs no object of its own.
    """

    def feed(self, data: bytes) -> None:
        """Appends what was read."""
        raise NotImplementedError

    def decode(self) -> i64:
        """NEED_MORE, or what was found. Raises ProtocolError; nothing can be decoded after that."""
        raise NotImplementedError
