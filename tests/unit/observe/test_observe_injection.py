"""Nothing that a client or a server chooses can break out of its log line, or command a terminal that shows it."""

import re
from collections.abc import Callable

import pytest
from test_observe_access_log import Lines, exchange, line

from pymosn.api.exchange import Exchange
from pymosn.api.variables import FOREIGN, OWN, PREFIXES, SETTABLE
from pymosn.core.clock import Clock
from pymosn.core.headers import HttpHeaders
from pymosn.core.log import INFO, TRACE
from pymosn.observe.process_log import ProcessLog

#: What might end a line, a quoted field or a JSON string, begin a terminal's command, or be no text at all.
NASTY = {
    "lf": b"a\nb",
    "cr": b"a\rb",
    "crlf": b"a\r\nb",
    "nul": b"a\0b",
    "esc": b"a\x1b[2Jb",
    "csi": b"a\xc2\x9b2Jb",
    "del": b"a\x7fb",
    "bel": b"a\x07b",
    "tab": b"a\tb",
    "quote": b'a"b',
    "backslash": b"a\\b",
    "not utf-8": b"a\xff\xfeb",
    "half utf-8": b"a\xe2\x80",
    "surrogate": b"a\xed\xa0\x80b",
    "line separator": "a\u2028b".encode(),
    "next line": "a\u0085b".encode(),
    "right to left": "a\u202eb".encode(),
    "percent": b"a%s%(x)s%n%b",
    "long": b"\n" * 5000,
}

NAMES = [*OWN, *FOREIGN, *SETTABLE, *(f"{prefix}x" for prefix in PREFIXES)]


def poisoned(nasty: bytes) -> Exchange:
    """Everything that a peer can choose holds `nasty`, also what a codec would never let through."""
    text = nasty.decode("utf-8", "surrogateescape")
    made = exchange(query=b"x=" + nasty + b"&y=1")
    request = made.request
    request.raw_method, request.raw_path, request.raw_host = nasty, b"/" + nasty, nasty
    made.original_path, made.original_host = b"/" + nasty, nasty
    lines = b"x: " + nasty.replace(b"\n", b"\x0b") + b"\r\ncookie: x=" + nasty.replace(b"\n", b"\x0b") + b"\r\n"
    request.headers = HttpHeaders(lines)
    assert made.response is not None
    made.response.headers = HttpHeaders(lines)
    made.upstream_hostname = made.cluster_name = text
    made.own_variables = {name: text for name in NAMES if name not in OWN}
    return made


def is_safe(text: str) -> bool:
    return text.isascii() and text.isprintable() and re.search(r'(?<!\\)(?:\\\\)*"', text) is None


@pytest.mark.parametrize("nasty", NASTY.values(), ids=NASTY)
@pytest.mark.parametrize("sets_variables", [True, False])
def test_every_variable_stays_within_its_field(nasty: bytes, sets_variables: bool) -> None:
    made = poisoned(nasty)
    if not sets_variables:
        made.own_variables = None
    for name in NAMES:
        text = line(f"%{name}%", made)
        assert text, name
        assert is_safe(text), f"%{name}% became {text[:100]!r}"


def test_poisoned_values_are_really_shown() -> None:
    made = poisoned(NASTY["crlf"])
    made.own_variables = None
    shown = {name for name in NAMES if "\\n" in line(f"%{name}%", made) or "\\u000b" in line(f"%{name}%", made)}
    for name in ("request_path", "request_method", "request_host", "request_header_x", "response_header_x", "cookie_x"):
        assert name in shown


PLACES: dict[str, Callable[[bytes], str]] = {
    "latin-1": lambda nasty: nasty.decode("latin-1"),
    "utf-8": lambda nasty: nasty.decode("utf-8", "surrogateescape"),
    "repr": lambda nasty: repr(nasty),
}


@pytest.mark.parametrize("nasty", NASTY.values(), ids=NASTY)
@pytest.mark.parametrize("place", PLACES)
def test_the_process_log_stays_on_its_line(nasty: bytes, place: str) -> None:
    lines = Lines()
    ProcessLog(lines, Clock(), TRACE).write(INFO, "before " + PLACES[place](nasty) + " after", "mosn.proxy.codec_error")
    (text,) = lines.lines
    assert text.isprintable()
    assert "before " in text
    assert text.endswith(" after")
    text.encode()
