"""The conditions of `retry_on`."""

import pytest

from pymosn.core.failure import CONNECT_REFUSED, OVERFLOW, REFUSED_STREAM, RESET_BEFORE_RESPONSE, UPSTREAM_TIMEOUT
from pymosn.proxy.attempts import RETRY, STOP, after_failure, after_response
from pymosn.routing.actions import RetryPolicy
from pymosn.routing.retries import condition_names, conditions_of


def policy(names: str, *statuses: int) -> RetryPolicy:
    return RetryPolicy(True, 1, conditions=conditions_of(condition_names(names), frozenset(statuses)))


def test_names() -> None:
    assert condition_names("5xx, Unavailable,,") == ["5xx", "unavailable"]
    assert condition_names(["5xx", " reset "]) == ["5xx", "reset"]
    with pytest.raises(ValueError, match="not-found"):
        conditions_of(["not-found"], frozenset())


@pytest.mark.parametrize(
    ("names", "retried", "stopped"),
    [
        ("5xx", (500, 503, 599), (200, 404, 409)),
        ("gateway-error", (502, 503, 504), (500, 501, 505)),
        ("retriable-4xx", (409,), (400, 500)),
        ("reset", (), (409, 500, 503)),
        ("unavailable", (), (500, 503)),
        ("gateway-error,retriable-4xx", (409, 502), (500,)),
    ],
)
def test_statuses(names: str, retried: tuple[int, ...], stopped: tuple[int, ...]) -> None:
    made = policy(names)
    assert [after_response(made, status) for status in retried] == [RETRY] * len(retried)
    assert [after_response(made, status) for status in stopped] == [STOP] * len(stopped)


def test_status_codes_count_too() -> None:
    assert after_response(policy("reset", 418), 418) == RETRY
    assert after_response(policy("retriable-status-codes", 418), 418) == RETRY
    assert after_response(policy("retriable-status-codes", 418), 500) == STOP


@pytest.mark.parametrize("names", ["5xx", "gateway-error", "reset", "retriable-4xx", "unavailable"])
def test_failures(names: str) -> None:
    made = policy(names)
    has_resets = names in ("5xx", "gateway-error", "reset")
    assert after_failure(made, CONNECT_REFUSED, -1, False, False, 0) == RETRY
    assert after_failure(made, REFUSED_STREAM, -1, False, False, 0) == RETRY
    assert (after_failure(made, RESET_BEFORE_RESPONSE, -1, False, False, 0) == RETRY) is has_resets
    assert (after_failure(made, UPSTREAM_TIMEOUT, -1, False, False, 0) == RETRY) is has_resets
    assert after_failure(made, OVERFLOW, 14, False, False, 0) == STOP


def test_the_status_of_a_call() -> None:
    made = policy("unavailable,deadline-exceeded")
    assert made.judges_calls
    assert [made.conditions.has_call_status(status) for status in (-1, 0, 4, 14, 13)] == [False, False, True, True, False]
    assert after_failure(made, RESET_BEFORE_RESPONSE, 14, False, False, 0) == RETRY
    assert not policy("5xx").judges_calls
