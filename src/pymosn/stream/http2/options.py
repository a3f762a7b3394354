"""The options of HTTP/2: of one end of a connection, and of a listener."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mypy_extensions import i64

from pymosn.api.stream import ListenerFacts
from pymosn.protocol.http.limits import HttpLimits
from pymosn.protocol.http2 import frames
from pymosn.protocol.http2.frames import (
    DEFAULT_FRAME_SIZE,
    DEFAULT_TABLE_SIZE,
    DEFAULT_WINDOW,
    LARGEST_FRAME_SIZE,
)
from pymosn.protocol.http2.writer import settings_frame, window_update
from pymosn.stream.http.options import HttpOptions, read_http_options
from pymosn.stream.settings import number, seconds

#: Defaults of the keys: streams that a peer may have open at once, and windows in bytes.
MAX_CONCURRENT_STREAMS: Final[i64] = 100
STREAM_WINDOW: Final[i64] = 64 * 1024
CONNECTION_WINDOW: Final[i64] = 1024 * 1024
#: The largest window, and number of a stream: a Python int, because mypyc turns an i64 constant of that size into -1 here.
LARGEST: Final = 0x7FFFFFFF
#: The largest HPACK table that may be configured, in bytes: each connection may fill its own.
LARGEST_TABLE: Final = 1024 * 1024


class ConnectionOptions:
    """What both ends of a connection have. Immutable, shared by connections. Times in seconds; 0 disables them.

    `limits`: of heads that the peer sends. `max_concurrent_streams`: that the peer may have open at once. `stream_window`,
    `connection_window`: bytes of content that the peer may send before some were taken; a connection's cannot be less than
    65,535. `max_frame_size`: bytes of a frame that the peer may send, from 16,384 to 16,777,215. `header_table_size`: bytes
    of the HPACK table for the peer's heads. `keepalive_interval`: silence after which a PING is sent; `keepalive_timeout`:
    further silence after which the connection is dead. `max_connection_age`: after which the connection is ended by GOAWAY,
    up to a tenth later; `max_connection_age_grace`: in which its streams may finish, then they are cut.
    """

    def __init__(
        self,
        *,
        limits: HttpLimits,
        max_concurrent_streams: i64,
        stream_window: i64,
        connection_window: i64,
        max_frame_size: i64,
        header_table_size: i64,
        keepalive_interval: float,
        keepalive_timeout: float,
        max_connection_age: float,
        max_connection_age_grace: float,
    ) -> None:
        self.limits = limits
        self.max_concurrent_streams: i64 = max_concurrent_streams
        self.stream_window: i64 = stream_window
        self.connection_window: i64 = connection_window
        self.max_frame_size: i64 = max_frame_size
        self.header_table_size: i64 = header_table_size
        self.keepalive_interval = keepalive_interval
        self.keepalive_timeout = keepalive_timeout
        self.max_connection_age = max_connection_age
        self.max_connection_age_grace = max_connection_age_grace

    def preface(self, own: list[tuple[i64, i64]]) -> bytes:
        """The SETTINGS that a connection begins with, `own` first, and the WINDOW_UPDATE for its window."""
        settings = [*own, (frames.MAX_HEADER_LIST_SIZE, min(self.limits.head, 0xFFFFFFFF))]
        if self.stream_window != DEFAULT_WINDOW:
            settings.append((frames.INITIAL_WINDOW_SIZE, self.stream_window))
        if self.max_frame_size != DEFAULT_FRAME_SIZE:
            settings.append((frames.MAX_FRAME_SIZE, self.max_frame_size))
        if self.header_table_size != DEFAULT_TABLE_SIZE:
            settings.append((frames.HEADER_TABLE_SIZE, self.header_table_size))
        preface = settings_frame(settings)
        if self.connection_window > DEFAULT_WINDOW:
            preface += window_update(0, self.connection_window - DEFAULT_WINDOW)
        return preface


class Http2Options(ConnectionOptions):
    """Limits and times of HTTP/2 on a listener. Immutable, shared by its connections.

    `http`: those that HTTP/1 has too. The others: see ConnectionOptions.
    """

    def __init__(
        self,
        *,
        http: HttpOptions,
        max_concurrent_streams: i64 = MAX_CONCURRENT_STREAMS,
        stream_window: i64 = STREAM_WINDOW,
        connection_window: i64 = CONNECTION_WINDOW,
        max_frame_size: i64 = 16384,
        header_table_size: i64 = 4096,
        keepalive_interval: float = 0.0,
        keepalive_timeout: float = 20.0,
        max_connection_age: float = 0.0,
        max_connection_age_grace: float = 0.0,
    ) -> None:
        super().__init__(
            limits=http.limits,
            max_concurrent_streams=max_concurrent_streams,
            stream_window=stream_window,
            connection_window=connection_window,
            max_frame_size=max_frame_size,
            header_table_size=header_table_size,
            keepalive_interval=keepalive_interval,
            keepalive_timeout=keepalive_timeout,
            max_connection_age=max_connection_age,
            max_connection_age_grace=max_connection_age_grace,
        )
        self.http = http
        own = [(frames.MAX_CONCURRENT_STREAMS, max_concurrent_streams), (frames.NO_RFC7540_PRIORITIES, i64(1))]
        if http.upgrades:
            own.append((frames.ENABLE_CONNECT_PROTOCOL, i64(1)))
        #: What the server half of a connection begins with.
        self.server_preface = self.preface(own)


def read_http2_options(settings: Mapping[str, object], facts: ListenerFacts) -> Http2Options:
    """The options from `extend_config.Http2`, completed by `extend_config.Http1`. Raises ValueError naming the key."""
    return Http2Options(
        http=read_http_options(settings, facts),
        max_concurrent_streams=number(settings, "max_concurrent_streams", "streams", 1, LARGEST),
        stream_window=number(settings, "initial_stream_window_size", "bytes", 1, LARGEST),
        connection_window=number(settings, "initial_connection_window_size", "bytes", int(DEFAULT_WINDOW), LARGEST),
        max_frame_size=number(settings, "max_frame_size", "bytes", int(DEFAULT_FRAME_SIZE), int(LARGEST_FRAME_SIZE)),
        header_table_size=number(settings, "header_table_size", "bytes", 0, LARGEST_TABLE),
        keepalive_interval=seconds(settings, "keepalive_interval"),
        keepalive_timeout=seconds(settings, "keepalive_timeout"),
        max_connection_age=seconds(settings, "max_connection_age"),
        max_connection_age_grace=seconds(settings, "max_connection_age_grace"),
    )
