"""LAYER 2: bytes <-> frames. Interfaces of protocols and codecs. No I/O, no clock."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64, mypyc_attr

from pymosn.core.failure import Failure

#: Results of `ProtocolSpec.match`.
NO: Final[i64] = 0
YES: Final[i64] = 1
MORE: Final[i64] = 2

#: Results of `Decoder.decode`.
NEED_MORE: Final[i64] = 0
HEAD: Final[i64] = 1
DATA: Final[i64] = 2
# Complete messages, of multiplexed RPC protocols (`pymosn.api.rpc`).
REQUEST: Final[i64] = 3
ONE_WAY: Final[i64] = 4
RESPONSE: Final[i64] = 5
HEARTBEAT: Final[i64] = 6
HEARTBEAT_ACK: Final[i64] = 7
#: The peer accepts no new requests on this connection; requests in flight continue.
GOAWAY: Final[i64] = 8
#: A valid message that a proxy can ignore.
IGNORE: Final[i64] = 9
#: A request, possibly a one-way request, or a response, that is too large to be taken: what is known from its beginning.
LARGE_REQUEST: Final[i64] = 10
LARGE_RESPONSE: Final[i64] = 11
#: The result of `RpcDecoder.read_head` for a frame that cannot be skipped.
UNSKIPPABLE: Final[i64] = 12


@mypyc_attr(allow_interpreted_subclasses=True)
class ProtocolSpec:
    """Describes a protocol; needed before its codec runs."""

    def __init__(self, name: str, alpn: str, multiplexed: bool, family: str = "") -> None:
        """`name`: as in the configuration ("Http1"); `multiplexed`: several streams share a connection.

        `family`: protocols of one family have the same heads, so that a request of one can be sent in any other; empty for
        a protocol that is alone.
        """
        self.name = name
        self.family = family or name
        self.alpn = alpn
        self.multiplexed = multiplexed

    def match(self, data: bytes) -> i64:
        """Whether a connection starting with `data` speaks this protocol: YES, NO, or MORE (undecided, needs more bytes)."""
        raise NotImplementedError


class ProtocolError(Exception):
    """Bytes that violate the protocol. Raised only by codecs, and handled by the stream layer above them."""

    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(f"{failure.reason}: {detail}")
        self.failure = failure
        self.detail = detail


@mypyc_attr(allow_interpreted_subclasses=True)
class Decoder:
    """An incremental pull decoder. `decode` leaves its result in attributes, so that a frame costs no object."""

    def feed(self, data: bytes) -> None:
        """Appends received bytes."""
        raise NotImplementedError

    def decode(self) -> i64:
        """Returns NEED_MORE, or the kind of what was decoded. Raises ProtocolError; nothing can be decoded afterwards."""
        raise NotImplementedError
