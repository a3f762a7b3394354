"""What may be set for a multiplexed protocol on a listener, and the bounds that may not."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.rpc import MAX_FRAME

#: Requests of one client connection that may be at work at once, and the bytes of their frames. A client that has more
#: is not read until some of them are done.
MAX_STREAMS: Final[i64] = 4096
MAX_STREAM_BYTES: Final[i64] = 32 * 1024 * 1024
#: Bytes of replies that are kept for a client that does not read; beyond them it is cut off. To pause instead would mean
#: not to read the upstream, whose connection other clients share.
MAX_UNSENT: Final[i64] = 32 * 1024 * 1024
#: Requests that wait for a connection to one host, in one worker.
MAX_WAITING: Final[i64] = 4096
#: Bytes of one read after which other connections have their turn. The event loop would go on with one that keeps sending,
#: and this much may be thousands of frames.
MUCH: Final[i64] = 128 * 1024
#: Seconds that a client which closed its sending half has to get its replies.
EOF_GRACE: Final = 1.0


class RpcOptions:
    """Limits of a listener: bytes, and seconds (0 is never).

    `idle_timeout`: without a byte and without a request at work. `frame_timeout`: the longest silence inside a frame.
    `goaway`: a client is asked to go when the worker drains, where the protocol has a frame for that.
    """

    def __init__(
        self,
        max_frame: i64 = MAX_FRAME,
        idle_timeout: float = 90.0,
        frame_timeout: float = 60.0,
        goaway: bool = False,
    ) -> None:
        self.max_frame: i64 = max_frame
        self.idle_timeout = idle_timeout
        self.frame_timeout = frame_timeout
        self.goaway = goaway
