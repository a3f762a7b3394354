"""Cache-Control and the freshness of responses, for a shared cache (RFC 9111). Whatever cannot be read is not cached.

Our own code and not a library: those for Python serve clients, and skip directives that they cannot read. Then `no-store=1`,
an unclosed `private="a` or one of two values of `max-age` would be ignored, and the response served to others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate
from typing import Final, NamedTuple

from pymosn.core.headers import Headers

#: Larger numbers of seconds are taken for this one (RFC 9111 section 1.2.2).
MOST_SECONDS: Final = 2**31
UNLIMITED: Final = float("inf")

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED: Final = r'"((?:[^\x00-\x08\x0a-\x1f\x7f"\\]|\\[^\x00-\x08\x0a-\x1f\x7f])*)"'
_DIRECTIVE: Final = re.compile(f"({_TOKEN})(?:=(?:({_TOKEN})|{_QUOTED}))?[ \t]*(?:,|\\Z)")
_EMPTY: Final = re.compile(r"[ \t,]*")
_ESCAPED: Final = re.compile(r"\\(.)")
#: The three forms of RFC 9110 section 5.6.7, all of them GMT.
_DATE: Final = re.compile(
    r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT"
    r"|[A-Z][a-z]{5,8}, [0-9]{2}-[A-Z][a-z]{2}-[0-9]{2} [0-9:]{8} GMT"
    r"|[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8} [0-9]{4}"
)
#: With one of these a response to a request with credentials may be used for other requests (RFC 9111 section 3.5).
_FOR_EVERYONE: Final = ("public", "s-maxage", "must-revalidate")
#: With one of these a stale response is never used without the upstream (RFC 9111 section 4.2.4).
_NEVER_STALE: Final = ("must-revalidate", "proxy-revalidate", "s-maxage", "no-cache")


def parse_directives(lines: Iterable[str]) -> dict[str, str | None] | None:
    """The directives by lower-case name, with their values; None if the syntax is invalid or a directive is repeated."""
    found: dict[str, str | None] = {}
    for line in lines:
        at = _end(_EMPTY.match(line))
        while at < len(line):
            match = _DIRECTIVE.match(line, at)
            name = match.group(1).lower() if match is not None else ""
            if match is None or name in found:
                return None
            token, quoted = match.group(2), match.group(3)
            found[name] = token if quoted is None else _ESCAPED.sub(r"\1", quoted)
            at = _end(_EMPTY.match(line, match.end()))
    return found


def _end(match: re.Match[str] | None) -> int:
    assert match is not None  # the pattern matches the empty text too
    return match.end()


def delta_seconds(text: str | None) -> float:
    """A number of seconds, at most MOST_SECONDS; -1.0 for anything but digits."""
    if text is None or not text.isascii() or not text.isdigit():
        return -1.0
    return float(min(int(text[:20]), MOST_SECONDS))


def http_date(text: str | None) -> float | None:
    """Seconds since 1970 of an HTTP date; None if it is invalid."""
    if text is None or _DATE.fullmatch(text) is None:
        return None
    parts = parsedate(text)
    try:
        return None if parts is None else datetime(*parts[:6], tzinfo=UTC).timestamp()
    except (ValueError, OverflowError):
        return None


class Policy(NamedTuple):
    """How long a response may be used. `age`: its age in seconds when it was received. `lifetime`: of the same clock.

    `for_everyone`: may also answer requests with credentials. `never_stale`: never used when stale. `while_revalidate`,
    `if_error`: seconds after the lifetime (RFC 5861).
    """

    age: float
    lifetime: float
    for_everyone: bool
    never_stale: bool
    while_revalidate: float
    if_error: float


def policy_of(headers: Headers, received: float, delay: float, max_ttl: float) -> Policy | None:
    """The policy of a response; None if it must not be stored, or says nothing about its lifetime.

    `received`: seconds since 1970. `delay`: seconds since the request was sent. `max_ttl`: limits the lifetime.
    """
    directives = parse_directives(headers.get_all("cache-control"))
    if directives is None or "no-store" in directives or "private" in directives:
        return None
    if not directives and "no-cache" in (headers.joined("pragma") or "").lower():
        return None
    numbers: dict[str, float] = {name: delta_seconds(directives[name]) for name in _NUMBERS if name in directives}
    date = _date_of(headers, received)
    age = _age_of(headers)
    if date is None or age < 0.0 or any(number < 0.0 for number in numbers.values()):
        return None
    lifetime = 0.0 if "no-cache" in directives else _lifetime(headers, numbers, date)
    if lifetime is None:
        return None
    return Policy(
        max(0.0, received - date, age + delay),
        min(lifetime, max_ttl),
        any(name in directives for name in _FOR_EVERYONE),
        any(name in directives for name in _NEVER_STALE),
        numbers.get("stale-while-revalidate", 0.0),
        numbers.get("stale-if-error", 0.0),
    )


_NUMBERS: Final = ("s-maxage", "max-age", "stale-while-revalidate", "stale-if-error")


def _date_of(headers: Headers, received: float) -> float | None:
    """The date of a response, `received` if it has none; None if it is invalid."""
    dates = headers.get_all("date")
    return received if not dates else http_date(dates[0]) if len(dates) == 1 else None


def _age_of(headers: Headers) -> float:
    """The value of Age; -1.0 if it is invalid."""
    ages = headers.get_all("age")
    return 0.0 if not ages else delta_seconds(ages[0]) if len(ages) == 1 else -1.0


def _lifetime(headers: Headers, numbers: dict[str, float], date: float) -> float | None:
    """The explicit freshness lifetime (RFC 9111 section 4.2.1), or None. There is no heuristic one."""
    if "s-maxage" in numbers:
        return numbers["s-maxage"]
    if "max-age" in numbers:
        return numbers["max-age"]
    expires = headers.get_all("expires")
    if not expires:
        return None
    until = http_date(expires[0]) if len(expires) == 1 else None
    return 0.0 if until is None else max(0.0, until - date)


class Wishes(NamedTuple):
    """What a request says about cached responses (RFC 9111 section 5.2.1). Times in seconds."""

    no_store: bool
    no_cache: bool
    only_if_cached: bool
    max_age: float
    min_fresh: float
    max_stale: float


NO_WISHES: Final = Wishes(False, False, False, UNLIMITED, 0.0, 0.0)


def wishes_of(headers: Headers) -> Wishes:
    """The directives of a request; those that cannot be read mean `no-cache`."""
    lines = headers.get_all("cache-control")
    if not lines:
        asks_origin = "no-cache" in (headers.joined("pragma") or "").lower()
        return NO_WISHES._replace(no_cache=True) if asks_origin else NO_WISHES
    directives = parse_directives(lines)
    if directives is None:
        return NO_WISHES._replace(no_cache=True)
    max_age = delta_seconds(directives["max-age"]) if "max-age" in directives else UNLIMITED
    min_fresh = delta_seconds(directives["min-fresh"]) if "min-fresh" in directives else 0.0
    max_stale = 0.0
    if "max-stale" in directives:
        asked = directives["max-stale"]
        max_stale = UNLIMITED if asked is None else delta_seconds(asked)
    return Wishes(
        "no-store" in directives,
        "no-cache" in directives or min(max_age, min_fresh, max_stale) < 0.0,
        "only-if-cached" in directives,
        max_age,
        min_fresh,
        max_stale,
    )


# ---- preconditions (RFC 9110 section 13)

_ETAG: Final = re.compile(r'(?:W/)?("[^"\x00-\x20\x7f]*")')


def is_unmodified(headers: Headers, none_match: str | None, modified_since: str | None) -> bool:
    """Whether a response with `headers` answers a conditional GET with 304; If-None-Match takes precedence."""
    if none_match is not None:
        if none_match.strip() == "*":
            return True
        etag = _ETAG.fullmatch(headers.get("etag") or "")
        return etag is not None and etag.group(1) in _ETAG.findall(none_match)
    since, changed = http_date(modified_since), http_date(headers.get("last-modified"))
    return since is not None and changed is not None and changed <= since


def same_etag(one: str, other: str) -> bool:
    """Weak comparison of two entity tags."""
    return one.removeprefix("W/") == other.removeprefix("W/")
