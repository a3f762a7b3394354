"""Whether, and when, a request is tried again. Decisions only: the exchange acts on them.

Without a `retry_policy` a request goes to another host when none could be connected to, as in MOSN: nothing of it was sent.
`retry_on: false` switches that off too. `retry_on: true` adds resets, per-try timeouts and the policy's status codes. A
connection that its host had closed while it was idle is replaced in any case: that says nothing about host or request.
"""

from __future__ import annotations

import random
from typing import Final

from mypy_extensions import i64

from pymosn.api.exchange import Exchange
from pymosn.core.failure import BAD_RESPONSE, RESET_BEFORE_RESPONSE, UPSTREAM_TIMEOUT, Failure
from pymosn.routing.actions import RetryPolicy

#: The variable with which a filter forbids retries.
DISABLE_RETRY: Final = "proxy_disable_retry"

#: Further tries of a policy that gives no number (MOSN's least).
DEFAULT_RETRIES: Final[i64] = 3
#: Hosts that are asked for a connection without a policy, as in MOSN.
UNASKED_TRIES: Final[i64] = 3
#: Seconds before the second further try; doubled for each one after it, up to the longest.
FIRST_PAUSE: Final = 0.025
LONGEST_PAUSE: Final = 0.25


def is_disabled(exchange: Exchange) -> bool:
    """Whether a filter has forbidden retries, with MOSN's variable for that."""
    own = exchange.own_variables
    return own is not None and own.get(DISABLE_RETRY, "").lower() == "true"


def retries_left(policy: RetryPolicy | None, attempts: i64, hosts: i64) -> bool:
    """Whether one more try is within the number; without a policy each host is tried at most once."""
    if policy is None:
        return attempts < hosts and attempts < UNASKED_TRIES
    if not policy.retry_on:
        return False
    return attempts <= (policy.num_retries if policy.num_retries > 0 else DEFAULT_RETRIES)


def is_retriable(policy: RetryPolicy | None, failure: Failure) -> bool:
    """Whether the failure is one that another try may mend."""
    if policy is None:
        return failure.may_retry
    if not policy.retry_on:
        return False
    return failure.may_retry or failure in (RESET_BEFORE_RESPONSE, BAD_RESPONSE, UPSTREAM_TIMEOUT)


def is_retriable_status(policy: RetryPolicy | None, status: i64) -> bool:
    """Whether the policy wants another try for a reply with that status."""
    if policy is None or not policy.retry_on:
        return False
    return int(status) in policy.status_codes if policy.status_codes else status >= 500


def pause_before(failure: Failure, attempts: i64, hosts: i64) -> float:
    """Seconds to wait after `attempts` tries at `hosts` hosts, with full jitter.

    None before the first further try, nor while hosts that could not be connected to leave others to ask; then growing.
    """
    at_once: i64 = hosts if failure.may_retry and hosts > 2 else 2
    if attempts < at_once:
        return 0.0
    longest: float = FIRST_PAUSE * float(1 << int(attempts - at_once)) if attempts - at_once < 4 else LONGEST_PAUSE
    return random.random() * longest
