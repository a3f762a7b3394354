"""The stories of failed and of slow exchanges: what happened to them, for people who ask a little later.

An exchange that ends is compared with one number (`Stories.threshold`), and only one that has failed, or took longer than
the slowest ones kept, becomes a `Story`. The newest that failed are kept, and the slowest of the last minutes. Both are
bounded in number and per second, so that a flood of failures costs little. Secrets are removed when a story is shown.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.exchange import Exchange
from pymosn.api.rpc import RpcRequest
from pymosn.core.clock import Clock
from pymosn.core.errors import describe
from pymosn.core.redaction import redacted_text
from pymosn.core.uri import target_of
from pymosn.proxy.options import ProxyOptions

#: Failed and slow exchanges of which a worker begins to keep the story, per second.
RATE: Final = 100.0
SLOW_RATE: Final = 10.0
#: Seconds below which no exchange is slow.
SHORTEST: Final = 0.001
#: A threshold above the duration of any exchange.
NEVER_SLOW: Final = 1e18
#: Characters that are shown of a path, and of the detail of a failure.
LONGEST_TEXT: Final = 1024
#: Bytes of path and query above which the query is not kept.
LONGEST_TARGET: Final = 8192
#: Outcomes of a call that are the host's fault: in gRPC UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE
#: and DATA_LOSS (https://grpc.io/docs/guides/status-codes/).
FAULTY_CALLS: Final = frozenset((2, 4, 12, 13, 14, 15))


class StoryAttempt:
    """One attempt at a host. Times are those of `Clock.now`."""

    def __init__(self, address: str, started: float, ended: float, status: i64, reason: str) -> None:
        """`status`: of the host's response; 0 without one. `reason`: the word of its failure."""
        self.address = address
        self.started = started
        self.ended = ended
        self.status = status
        self.reason = reason

    def shown(self, start: float) -> dict[str, object]:
        """The attempt as JSON-like values; times in seconds, `offset` since `start`."""
        return {
            "address": self.address,
            "offset": _seconds(self.started - start),
            "duration": _seconds(self.ended - self.started),
            "status": int(self.status),
            "reason": self.reason,
        }


def attempts_of(exchange: Exchange) -> list[StoryAttempt]:
    """The attempts of a finished exchange, in order."""
    found: list[StoryAttempt] = []
    earlier = exchange.earlier_attempts
    if earlier is not None:
        for one in earlier:
            reason = "" if one.failure is None else one.failure.reason
            found.append(StoryAttempt(one.address, one.started, one.ended, one.status, reason))
    if exchange.attempts > 0:
        failure = exchange.failure
        response = exchange.response
        status: i64 = 0 if response is None or exchange.is_local else response.status
        reason = "" if failure is None else failure.reason
        ended = exchange.response_completed if exchange.response_completed > 0.0 else exchange.finished
        found.append(StoryAttempt(exchange.upstream_address, exchange.attempt_started, ended, status, reason))
    return found


class Story:
    """What happened to one exchange: plain values that refer to nothing of it."""

    def __init__(self, exchange: Exchange, options: ProxyOptions, wall: float) -> None:
        """`wall`: when it started, in seconds since 1970."""
        request = exchange.request
        response = exchange.response
        failure = exchange.failure
        route = exchange.route
        made_ids = exchange.made_ids
        self.time = wall
        self.listener = options.listener_name
        self.protocol = exchange.protocol
        self.spoken_upstream = exchange.spoken_upstream
        self.client = exchange.remote_ip
        self.method = ""
        self.raw_host = exchange.original_host or request.raw_host
        self.raw_path = exchange.original_path or request.raw_path
        self.raw_query = request.raw_query
        if len(self.raw_path) > LONGEST_TARGET or len(self.raw_query or b"") > LONGEST_TARGET:
            self.raw_path = self.raw_path[:LONGEST_TARGET]
            self.raw_query = None
        self.service = ""
        try:
            if isinstance(request, RpcRequest):
                self.service = request.service()
            self.method = request.method_name()
        except BaseException as error:  # headers that cannot be read, and heads of installed protocols
            self.service = f"({describe(error)})"
        self.route = "" if route is None else route.name
        self.route_label = "" if route is None else route.label
        self.cluster = exchange.cluster_name
        self.upstream = exchange.upstream_address
        self.status: i64 = 0 if response is None else response.status
        self.call_status: i64 = -1
        if request.has_call_status:
            self.call_status = exchange.call_status
        self.reason = "" if failure is None else failure.reason
        self.detail = exchange.failure_detail
        self.is_local = exchange.is_local
        self.started = exchange.started
        self.request_received = exchange.request_received
        self.attempt_started = exchange.attempt_started
        self.request_sent = exchange.request_sent
        self.response_received = exchange.response_received
        self.response_completed = exchange.response_completed
        self.finished = exchange.finished
        self.bytes_received = exchange.bytes_received
        self.bytes_sent = exchange.bytes_sent
        trace = exchange.trace
        self.trace_id = "" if made_ids is None else made_ids.get("trace_id", "")
        if trace is not None:
            self.trace_id = trace.shown_id()
        self.connection_id: i64 = exchange.connection.id
        self.upstream_connection_id = exchange.upstream_connection_id
        self.stream_number = exchange.stream_number
        self.attempts = attempts_of(exchange)
        #: The listener's filters that its route did not turn off.
        self.filters = [handle.name for handle in options.filters.all if not handle.switch or not handle.is_off(exchange)]
        self.replied_by = exchange.replied_by

    def duration(self) -> float:
        """Seconds from the request's first byte to the end."""
        return self.finished - self.started

    def path(self) -> str:
        """The path and query without secrets; of an RPC request its service."""
        if not self.raw_path:
            return cut(redacted_text(self.service))
        return cut(redacted_text(target_of(self.raw_path, self.raw_query).decode("latin-1")))

    def shown(self) -> dict[str, object]:
        """The story as JSON-like values, without secrets. Times in seconds; those not reached are None.

        Of the `timings`, `attempt` is that of the last attempt, and `sent` when the whole request was first sent to a host.
        """
        return {
            "time": round(self.time, 6),
            "listener": self.listener,
            "protocol": self.protocol,
            "upstream_protocol": self.spoken_upstream,
            "client": self.client,
            "method": cut(self.method),
            "host": cut(redacted_text(self.raw_host.decode("latin-1"))),
            "path": self.path(),
            "route": self.route,
            "route_label": self.route_label,
            "cluster": self.cluster,
            "upstream": self.upstream,
            "status": int(self.status),
            "call_status": int(self.call_status) if self.call_status >= 0 else None,
            "reason": self.reason,
            "detail": cut(redacted_text(self.detail)),
            "is_local": self.is_local,
            "duration": _seconds(self.duration()),
            "request_bytes": int(self.bytes_received),
            "response_bytes": int(self.bytes_sent),
            "trace_id": cut(self.trace_id),
            "connection_id": int(self.connection_id),
            "upstream_connection_id": int(self.upstream_connection_id),
            "stream": int(self.stream_number) if self.stream_number >= 0 else None,
            "attempts": [attempt.shown(self.started) for attempt in self.attempts],
            "timings": {
                "received": self._offset(self.request_received),
                "attempt": self._offset(self.attempt_started),
                "sent": self._offset(self.request_sent),
                "response": self._offset(self.response_received),
                "completed": self._offset(self.response_completed),
                "finished": self._offset(self.finished),
            },
            "filters": list(self.filters),
            "replied_by": self.replied_by,
        }

    def _offset(self, at: float) -> float | None:
        return _seconds(at - self.started) if at > 0.0 else None


class Stories:
    """The stories that one worker keeps. Nothing is kept until `set_limits`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        #: An exchange that takes longer than this many seconds is among the slowest.
        self.threshold: float = NEVER_SLOW
        self.failed: list[Story] = []
        self.slow: list[Story] = []
        #: Stories that were not kept because there were too many in a second.
        self.missed: i64 = 0
        self._failed_limit: i64 = 0
        self._slow_limit: i64 = 0
        self._window: float = 0.0
        self._failed_credit: float = RATE
        self._slow_credit: float = SLOW_RATE
        self._credited: float = 0.0

    def set_limits(self, failed: i64, slow: i64, window: float) -> None:
        """`failed`, `slow`: the most stories of each kind; 0 for none. `window`: seconds for which slow ones are kept."""
        self._failed_limit = failed
        self._slow_limit = slow
        self._window = window
        if len(self.failed) > failed:
            del self.failed[: len(self.failed) - failed]
        if len(self.slow) > slow:
            self.slow.sort(key=_duration)
            del self.slow[: len(self.slow) - slow]
        self._set_threshold()

    def consider(self, exchange: Exchange, options: ProxyOptions, was_tunnel: bool) -> None:
        """Keeps a finished exchange if it has failed, or is one of the slowest. A tunnel is not slow: clients end it."""
        is_failed = self._failed_limit > 0 and has_failed(exchange)
        is_slow = exchange.finished - exchange.started > self.threshold and not was_tunnel
        if not is_failed and not is_slow:
            return
        now = self._clock.now
        self._credit(now)
        if is_failed and self._failed_credit < 1.0:
            self.missed += 1
            is_failed = False
        # One that takes twice as long as any is always kept: that cannot happen often.
        if is_slow and self._slow_credit < 1.0 and exchange.finished - exchange.started < 2.0 * self._longest():
            self.missed += 1
            is_slow = False
        if not is_failed and not is_slow:
            return
        story = Story(exchange, options, self._clock.wall() - (now - exchange.started))
        if is_failed:
            self._failed_credit -= 1.0
            if len(self.failed) >= self._failed_limit:
                del self.failed[0]
            self.failed.append(story)
        if is_slow:
            self._slow_credit -= 1.0
            self._keep_slow(story)

    def _credit(self, now: float) -> None:
        passed = max(0.0, now - self._credited)
        self._credited = now
        self._failed_credit = min(RATE, self._failed_credit + passed * RATE)
        self._slow_credit = min(SLOW_RATE, self._slow_credit + passed * SLOW_RATE)

    def _keep_slow(self, story: Story) -> None:
        if len(self.slow) >= self._slow_limit:
            fastest = 0
            for index, one in enumerate(self.slow):
                if one.duration() < self.slow[fastest].duration():
                    fastest = index
            del self.slow[fastest]
        self.slow.append(story)
        self._set_threshold()

    def _set_threshold(self) -> None:
        if self._slow_limit == 0:
            self.threshold = NEVER_SLOW
        elif len(self.slow) < self._slow_limit:
            self.threshold = SHORTEST
        else:
            self.threshold = max(SHORTEST, min([story.duration() for story in self.slow]))

    def _longest(self) -> float:
        return max([story.duration() for story in self.slow]) if self.slow else 0.0

    def expire(self) -> None:
        """Forgets slow exchanges that are too long ago; called about once a second."""
        oldest = self._clock.now - self._window
        if any([story.finished < oldest for story in self.slow]):  # noqa: C419
            self.slow = [story for story in self.slow if story.finished >= oldest]
            self._set_threshold()

    def report(self, limit: int) -> tuple[list[dict[str, object]], list[dict[str, object]], int]:
        """At most `limit` stories of each kind, and how many exchanges were not kept."""
        self.expire()
        return self.newest_failed(limit), self.slowest(limit), int(self.missed)

    def newest_failed(self, limit: int) -> list[dict[str, object]]:
        """The last failed exchanges, the newest first."""
        return [story.shown() for story in self.failed[::-1][:limit]]

    def slowest(self, limit: int) -> list[dict[str, object]]:
        """The slowest exchanges, the slowest first."""
        return [story.shown() for story in sorted(self.slow, key=_duration, reverse=True)[:limit]]


def has_failed(exchange: Exchange) -> bool:
    """Whether an exchange failed, or got a response that reports an error of the server."""
    if exchange.failure is not None:
        return True
    response = exchange.response
    if response is not None and response.status >= 500:
        return True
    return exchange.request.has_call_status and exchange.call_status in FAULTY_CALLS


def cut(text: str) -> str:
    """A text of a bounded length, and valid Unicode: names in RPC may be any bytes."""
    return valid(text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}...")


def valid(text: str) -> str:
    """A text without lone surrogates, which no encoder takes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _duration(story: Story) -> float:
    return story.duration()


def _seconds(value: float) -> float:
    return round(value, 6)
