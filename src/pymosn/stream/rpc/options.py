"""The options of a multiplexed RPC protocol on a listener, and the fixed limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mypy_extensions import i64

from pymosn.api.rpc import MAX_FRAME
from pymosn.api.stream import ListenerFacts
from pymosn.stream.settings import flag, number, seconds

#: Maximum requests of one client connection that may be in flight at once, and the bytes of their frames. A client that
#: exceeds them is not read until some of them are done.
MAX_STREAMS: Final[i64] = 4096
MAX_STREAM_BYTES: Final[i64] = 32 * 1024 * 1024
#: Maximum bytes of responses buffered for a client that does not read, or two of the last response; beyond them its
#: connection is aborted. Pausing instead would stop the upstream connection, which other clients share.
MAX_UNSENT: Final[i64] = 32 * 1024 * 1024
#: Bytes of one read after which other connections get their turn. The event loop would keep reading from a busy
#: connection, and this many bytes may be thousands of frames.
YIELD_SIZE: Final[i64] = 128 * 1024
#: Seconds for the responses after the client has closed its side, by default.
HALF_CLOSE: Final = 1.0

#: Bounds of `max_frame_size`, and the longest silence inside a frame, in seconds.
LEAST_FRAME: Final = 64
MOST_FRAME: Final = 0x7FFFFFFF
FRAME_TIMEOUT: Final = 60.0


class RpcOptions:
    """Limits of a listener, in bytes and seconds (0 disables a time). Immutable, shared by its connections.

    `idle_timeout`: without a byte and without a request in flight. `frame_timeout`: the longest silence inside a frame.
    `goaway`: send a GOAWAY to clients when the worker drains, if the protocol has one. `half_close_timeout`: for the
    responses after the client has closed its side.
    """

    def __init__(
        self,
        *,
        max_frame: i64,
        idle_timeout: float,
        frame_timeout: float,
        goaway: bool,
        half_close_timeout: float = HALF_CLOSE,
    ) -> None:
        self.max_frame: i64 = max_frame
        self.idle_timeout = idle_timeout
        self.frame_timeout = frame_timeout
        self.goaway = goaway
        self.half_close_timeout = half_close_timeout


def read_rpc_options(settings: Mapping[str, object], facts: ListenerFacts) -> RpcOptions:
    """The options of `extend_config.<protocol>`, in which all keys are optional. Raises ValueError naming the key."""
    complete: dict[str, object] = {
        "max_frame_size": int(MAX_FRAME),
        "enable_goaway": False,
        "half_close_timeout": HALF_CLOSE,
        **settings,
    }
    return RpcOptions(
        max_frame=number(complete, "max_frame_size", "bytes", LEAST_FRAME, MOST_FRAME),
        idle_timeout=facts.idle_timeout,
        frame_timeout=FRAME_TIMEOUT,
        goaway=flag(complete, "enable_goaway"),
        half_close_timeout=seconds(complete, "half_close_timeout"),
    )
