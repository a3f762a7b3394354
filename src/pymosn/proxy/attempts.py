"""Whether and when a request is retried: pure functions, called by the forwarder.

Without a `retry_policy` a request is sent to another host only if no connection could be established, as in MOSN: no byte
of it was sent. `retry_on: false` disables that too. `retry_on: true` adds resets, per-try timeouts and the policy's status
codes; a list of conditions adds the outcomes that it names. A repeatable attempt on a reused connection that the host had
already closed is replaced whatever the policy, and does not count against the host. So is an attempt, of any request, that
the host reports as not processed.
"""

from __future__ import annotations

import random
from typing import Final

from mypy_extensions import i64

from pymosn.api.exchange import Exchange
from pymosn.core.failure import (
    BAD_RESPONSE,
    GOAWAY_UNPROCESSED,
    HTTP1_HOST,
    KEEPALIVE_TIMEOUT,
    REFUSED_STREAM,
    RESET_BEFORE_RESPONSE,
    UPSTREAM_TIMEOUT,
    Failure,
)
from pymosn.routing.actions import RetryPolicy

#: Results of `after_failure` and `after_response`.
STOP: Final[i64] = 0
#: Retry, if possible at another host.
RETRY: Final[i64] = 1
#: Replace the attempt with one on a fresh connection; it does not count against the retry limit.
REPLACE: Final[i64] = 2

#: What the host has not processed, as it reports itself.
UNPROCESSED: Final = (REFUSED_STREAM, GOAWAY_UNPROCESSED, HTTP1_HOST)
#: Failures after which a policy with `retry_on` retries, besides those with `may_retry`.
RETRIED: Final = (RESET_BEFORE_RESPONSE, BAD_RESPONSE, UPSTREAM_TIMEOUT, KEEPALIVE_TIMEOUT)

#: The variable with which a filter disables retries.
DISABLE_RETRY: Final = "proxy_disable_retry"

#: Retries of a policy without `num_retries` (MOSN's minimum).
DEFAULT_RETRIES: Final[i64] = 3
#: Maximum number of hosts dialed without a policy, as in MOSN, and of replaced attempts.
UNASKED_ATTEMPTS: Final[i64] = 3
#: Maximum seconds before the second retry; doubled for each further retry, up to LONGEST_PAUSE.
FIRST_PAUSE: Final = 0.025
LONGEST_PAUSE: Final = 0.25


def after_failure(
    policy: RetryPolicy | None, failure: Failure, call_status: i64, is_stale: bool, is_unused: bool, replaced: i64
) -> i64:
    """What to do after an attempt that failed before its response.

    `call_status`: that which the caller would get, -1 for none. `is_stale`: it was repeatable and on a reused connection.
    `is_unused`: its `failure` is one of UNPROCESSED, and all of it can be sent again. `replaced`: attempts that have been
    replaced so far.
    """
    if replaced < UNASKED_ATTEMPTS and (is_unused or (is_stale and failure is RESET_BEFORE_RESPONSE)):
        return REPLACE
    if policy is None:
        return RETRY if failure.may_retry else STOP
    if not policy.retry_on:
        return STOP
    if failure.may_retry:
        return RETRY
    conditions = policy.conditions
    is_wanted = conditions.resets or conditions.has_call_status(call_status)
    return RETRY if is_wanted and failure in RETRIED else STOP


def after_response(policy: RetryPolicy | None, status: i64) -> i64:
    """What to do after a response with `status`: RETRY if the policy rejects it."""
    return RETRY if policy is not None and policy.retry_on and policy.conditions.has_status(status) else STOP


def has_retries_left(exchange: Exchange, policy: RetryPolicy | None, attempts: i64, hosts: i64) -> bool:
    """Whether one more attempt is within the limits; without a policy each host is tried at most once."""
    own = exchange.own_variables
    if exchange.request.is_one_way or (own is not None and own.get(DISABLE_RETRY, "").lower() == "true"):
        return False
    if policy is None:
        return attempts < hosts and attempts < UNASKED_ATTEMPTS
    if not policy.retry_on:
        return False
    return attempts <= (policy.num_retries if policy.num_retries > 0 else DEFAULT_RETRIES)


def pause_before(policy: RetryPolicy | None, failure: Failure, attempts: i64, hosts: i64) -> float:
    """Seconds to wait after `attempts` attempts in a cluster of `hosts` hosts, with full jitter.

    Without pauses of the policy: 0.0 before the first retry, and after connection failures while there are untried hosts;
    then increasing.
    """
    if policy is not None and policy.first_pause > 0.0:
        doubled = policy.first_pause * float(1 << int(min(attempts - 1, 20)))
        return random.random() * min(doubled, policy.longest_pause)
    immediate: i64 = hosts if failure.may_retry and hosts > 2 else 2
    if attempts < immediate:
        return 0.0
    longest: float = FIRST_PAUSE * float(1 << int(attempts - immediate)) if attempts - immediate < 4 else LONGEST_PAUSE
    return random.random() * longest
