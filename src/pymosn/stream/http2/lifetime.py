"""The life of an HTTP/2 connection: its beginning, its times, and its two ways to end.

It ends gracefully (`shut_down`) when the worker drains, after its maximum of requests, or at its maximum age. Two GOAWAY
frames announce it: the first one names no stream, so that nothing is lost that is already on its way; the second one names
the last stream that is served, and is sent when the PING after the first one has been answered, or after DRAIN_GRACE. The
connection closes when no stream is left. Or it ends with an error (`break_off`): one GOAWAY with the code, and the reason
word as debug data.

All times are moments by `Clock.now`, NEVER if there is none. The connection's one alarm is set for the earliest, and when
it fires `watch` acts on those that have passed. A moment that moves away is not set again until then: that costs nothing.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64, mypyc_attr

from pymosn.api.network import DRAIN_GRACE, Connection
from pymosn.core.failure import (
    CLOSED_LOCALLY,
    HTTP2_SETTINGS_TIMEOUT,
    KEEPALIVE_TIMEOUT,
    MAX_AGE,
    UNREAD_REPLIES,
    Failure,
)
from pymosn.core.timers import NEVER
from pymosn.protocol.http2.encoder import HeadEncoder
from pymosn.protocol.http2.frames import CANCEL, LARGEST_STREAM_ID, NO_ERROR
from pymosn.protocol.http2.writer import write_goaway, write_ping
from pymosn.stream.http2.codes import code_of
from pymosn.stream.http2.options import ConnectionOptions
from pymosn.stream.http2.sending import SendingConnection
from pymosn.stream.http2.stream import Http2Stream

#: Seconds in which the peer must acknowledge our SETTINGS (RFC 9113 section 6.5.3).
SETTINGS_TIMEOUT: Final = 10.0
#: When an exchange is over, the peer must take this many of the stream's unsent bytes in this many seconds, or all of
#: them: the default of `write_min_rate`. Otherwise it could hold them for ever by windows of one byte.
STALL_TIME: Final = 60.0
STALL_SIZE: Final[i64] = 6000
#: The payloads of our PING frames.
DRAIN_PING: Final = b"goodbye\n"
KEEPALIVE_PING: Final = b"are you?"
#: The least delay of an alarm, in seconds.
_SOON: Final = 0.001


@mypyc_attr(allow_interpreted_subclasses=True)
class LivingConnection(SendingConnection):
    """Beginning, times and end. The module's docstring describes them."""

    def __init__(self, options: ConnectionOptions, encoder: HeadEncoder) -> None:
        super().__init__(encoder)
        self.options = options
        #: Nothing more is read: a GOAWAY with an error was sent.
        self.is_broken = False
        #: A first GOAWAY was sent, and the one that names the last stream.
        self.is_draining = False
        self.is_ending = False
        #: The peer has closed its side of the connection.
        self.has_eof = False
        # The last stream if all had ended when the first GOAWAY was sent, else -1; whether the peer has everything.
        self._idle_id: i64 = -1
        self._has_all = False
        # The last stream that a GOAWAY has named; the next one must not name a later one.
        self._named_id: i64 = LARGEST_STREAM_ID
        self._has_aged = False
        #: Why it will be closed when it is done.
        self.end_reason: Failure = CLOSED_LOCALLY
        #: The highest stream id that was used.
        self.last_id: i64 = 0
        self._alarm_at: float = NEVER
        #: When something was read last, and when our unanswered PING was sent.
        self.read_at: float = 0.0
        self._pinged_at: float = NEVER
        #: When the connection has been idle for too long; for subclasses.
        self.idle_at: float = NEVER
        self._settings_at: float = NEVER
        self._keepalive_at: float = NEVER
        self._drained_at: float = NEVER
        self._aged_at: float = NEVER
        self._stalled_at: float = NEVER

    # ---- supplied by subclasses

    def on_broken(self, failure: Failure, detail: str) -> None:
        """The connection ends because of an error; its streams are reset by `on_close`."""

    def on_quiet(self) -> None:
        """The last stream has ended."""

    # ---- its beginning

    def begin(self, connection: Connection, preface: bytes) -> None:
        """The connection is open: sends what it begins with."""
        self.connection = connection
        connection.batch_writer().write(preface)
        now = connection.now()
        options = self.options
        self.read_at = now
        self._settings_at = now + SETTINGS_TIMEOUT
        if options.keepalive_interval > 0.0:
            self._keepalive_at = now + options.keepalive_interval
        if options.max_connection_age > 0.0:
            # Up to a tenth later, by the connection's number: connections that began together do not end together.
            spread = float(((connection.id * 2654435761) >> 7) & 0xFFFF) / 65536.0
            self._aged_at = now + options.max_connection_age * (1.0 + 0.1 * spread)
        self.wake_at(self._next_time())

    # ---- times

    def wake_at(self, moment: float) -> None:
        """Makes sure that `watch` is called at `moment`."""
        if moment < self._alarm_at:
            self._alarm_at = moment
            self.connection.set_idle(max(moment - self.connection.now(), _SOON))

    def on_alarm(self) -> None:
        """The connection's alarm has fired."""
        self._alarm_at = NEVER
        if not self.is_broken and not self.connection.is_closed:
            now = self.connection.now()
            self.watch(now)
            if not self.connection.is_closed:
                self.wake_at(max(self._next_time(), now))

    def next_time(self) -> float:
        """The earliest of a subclass's own times."""
        return NEVER

    def _next_time(self) -> float:
        first = min(self._settings_at, self._keepalive_at)
        first = min(min(first, self._stalled_at), min(self._drained_at, self._aged_at))
        return min(first, min(self.idle_at, self.next_time()))

    def watch(self, now: float) -> None:
        """Acts on the times that have passed."""
        if now >= self._settings_at:
            self._settings_at = NEVER
            self.break_off(HTTP2_SETTINGS_TIMEOUT, "the peer has not acknowledged our SETTINGS")
        if now >= self._keepalive_at:
            self._keep_alive(now)
        if now >= self._drained_at:
            self._end_drain()
        if now >= self._aged_at:
            self._age(now)
        if now >= self._stalled_at:
            self._stalled_at = NEVER
            self._check_stalled(now)

    def _keep_alive(self, now: float) -> None:
        """Sends a PING after silence; ends the connection if even that was not answered. Any bytes are an answer."""
        options = self.options
        if self.read_at >= self._pinged_at:
            self._pinged_at = NEVER
        if self._pinged_at < NEVER:
            if now >= self._pinged_at + options.keepalive_timeout:
                self._keepalive_at = NEVER
                self.connection.abort(KEEPALIVE_TIMEOUT)
                return
            self._keepalive_at = self._pinged_at + options.keepalive_timeout
        elif now >= self.read_at + options.keepalive_interval:
            self._pinged_at = now
            write_ping(self.writer(), KEEPALIVE_PING, False)
            self._keepalive_at = now + options.keepalive_timeout
        else:
            self._keepalive_at = self.read_at + options.keepalive_interval

    def release(self, stream: Http2Stream, code: i64 = CANCEL) -> None:
        super().release(stream, code)
        if not stream.is_closed:
            self._begin_slice(stream, self.connection.now())

    def _begin_slice(self, stream: Http2Stream, now: float) -> None:
        rarities = stream.rare()
        rarities.slice_end = now + STALL_TIME
        rarities.slice_goal = stream.unsent - STALL_SIZE
        self._await_unsent(rarities.slice_end)

    def _await_unsent(self, moment: float) -> None:
        if moment < self._stalled_at:
            self._stalled_at = moment
            self.wake_at(moment)

    def _check_stalled(self, now: float) -> None:
        """Resets streams whose exchange is over, and whose content does not leave. A full socket has its own time."""
        for stream in list(self.streams.values()):
            if not stream.is_released:
                continue
            rarities = stream.rare()
            if now < rarities.slice_end:
                self._await_unsent(rarities.slice_end)
            elif stream.unsent > max(rarities.slice_goal, 0) and not self.is_full:
                self.reset_stream(stream, CANCEL)
            else:
                self._begin_slice(stream, now)

    def on_settings_ack(self) -> None:
        """The peer has acknowledged our SETTINGS."""
        self._settings_at = NEVER

    def is_settled(self) -> bool:
        """Whether the peer has acknowledged our SETTINGS."""
        return self._settings_at == NEVER

    def on_pong(self, data: bytes) -> None:
        """The peer has answered a PING."""
        if data == DRAIN_PING and self.is_draining and not self.is_ending:
            self._has_all = self._idle_id == self.last_id
            self._end_drain()

    def _age(self, now: float) -> None:
        grace = self.options.max_connection_age_grace
        if self._has_aged:
            self._aged_at = NEVER
            self.connection.close(MAX_AGE)
            return
        self._has_aged = True
        self._aged_at = now + grace if grace > 0.0 else NEVER
        self.shut_down()

    # ---- its end

    def shut_down(self) -> None:
        """Ends the connection gracefully; see the module's docstring."""
        if self.is_draining or self.is_broken or self.connection.is_closed:
            return
        self.is_draining = True
        self._idle_id = -1 if self.streams else self.last_id
        out = self.connection.batch_writer()
        write_goaway(out, LARGEST_STREAM_ID, NO_ERROR, b"")
        write_ping(out, DRAIN_PING, False)
        self._drained_at = self.connection.now() + DRAIN_GRACE
        self.wake_at(self._drained_at)

    def _end_drain(self) -> None:
        """Names the last stream that is served."""
        self._drained_at = NEVER
        if self.is_ending or self.is_broken:
            return
        self.is_ending = True
        self._named_id = self.last_peer_id()
        write_goaway(self.connection.batch_writer(), self._named_id, NO_ERROR, b"")
        self.close_if_done()

    def close_if_done(self) -> None:
        """Closes a connection that is ending and has no stream."""
        if self.streams or self.connection.is_closed:
            return
        if self.has_eof or self._has_all:
            self.connection.close(self.end_reason)
        elif self.is_ending:
            # The peer still sends WINDOW_UPDATE frames, or a request: a reset of TCP would destroy the last responses.
            self.connection.close_lingering(self.end_reason)

    def break_off(self, failure: Failure, detail: str) -> None:
        """Ends the connection because of an error."""
        if self.is_broken or self.connection.is_closed:
            return
        self.is_broken = True
        last_id = min(self.last_peer_id(), self._named_id)
        write_goaway(self.connection.batch_writer(), last_id, code_of(failure), failure.reason.encode())
        self.on_broken(failure, detail)
        self.connection.close_lingering(failure)

    def last_peer_id(self) -> i64:
        """The last stream of the peer's that was or may be processed."""
        return self.last_id

    def on_stream_end(self, stream: Http2Stream) -> None:
        if not self.streams and not self.is_broken:
            if self.has_eof or self.is_ending:
                self.close_if_done()
            else:
                self.on_quiet()

    def on_unread(self) -> None:
        self.break_off(UNREAD_REPLIES, "the peer does not read")
