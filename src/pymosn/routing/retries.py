"""The conditions of a retry policy: which outcomes of an attempt lead to another one."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.grpc import STATUS_NAMES

#: Conditions on the status of HTTP responses; the names are Envoy's.
_SERVER_ERRORS: Final = "5xx"
STATUS_CODES: Final = "retriable-status-codes"
_STATUSES: Final[dict[str, frozenset[int]]] = {
    "gateway-error": frozenset((502, 503, 504)),
    "retriable-4xx": frozenset((409,)),
    STATUS_CODES: frozenset(),
}
#: Conditions on an attempt without a response.
_RESETS: Final = ("reset", _SERVER_ERRORS, "gateway-error")
#: What is always retried, because the host cannot have processed anything.
_ALWAYS: Final = ("connect-failure", "refused-stream", "reset-before-request", "http3-post-connect-failure")
#: gRPC statuses that may pass; the others are final.
_CALLS: Final = ("cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable")

#: All conditions by name.
CONDITIONS: Final = (_SERVER_ERRORS, *_STATUSES, "reset", *_ALWAYS, *_CALLS)


class RetryConditions:
    """Which outcomes of an attempt lead to another one, in addition to connections that could not be established.

    `statuses`: of responses; `server_errors`: also 500 and above. `resets`: no response came, or a timeout per attempt ended
    the wait for it. `call_statuses`: statuses of gRPC calls, in headers or trailers before the first message; where no
    response came, that which the caller would get counts.
    """

    def __init__(
        self,
        statuses: frozenset[int] = frozenset(),
        *,
        server_errors: bool = False,
        resets: bool = False,
        call_statuses: frozenset[int] = frozenset(),
    ) -> None:
        self.statuses = statuses
        self.server_errors = server_errors
        self.resets = resets
        self.call_statuses = call_statuses

    def has_status(self, status: i64) -> bool:
        """Whether a response with that HTTP status is retried."""
        return (self.server_errors and status >= 500) or int(status) in self.statuses

    def has_call_status(self, status: i64) -> bool:
        """Whether a call with that status is retried; -1: it has none."""
        return status >= 0 and int(status) in self.call_statuses


def by_default(statuses: frozenset[int]) -> RetryConditions:
    """The conditions of `retry_on: true`: resets, and `statuses`, without which 500 and above."""
    return RetryConditions(statuses, server_errors=not statuses, resets=True)


def condition_names(text: str | list[str]) -> list[str]:
    """The names in `retry_on`: a list, or a text with commas."""
    names = text.split(",") if isinstance(text, str) else text
    return [name.strip().lower() for name in names if name.strip()]


def conditions_of(names: list[str], statuses: frozenset[int]) -> RetryConditions:
    """The conditions with these names, and responses with one of `statuses`. Raises ValueError for an unknown name."""
    found = set(statuses)
    calls: set[int] = set()
    for name in names:
        if name not in CONDITIONS:
            raise ValueError(f"unknown condition {name!r}")
        found |= _STATUSES.get(name, frozenset())
        if name in _CALLS:
            calls.add(STATUS_NAMES.index(name))
    return RetryConditions(
        frozenset(found),
        server_errors=_SERVER_ERRORS in names,
        resets=not set(_RESETS).isdisjoint(names),
        call_statuses=frozenset(calls),
    )
