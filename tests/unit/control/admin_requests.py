"""Requests to the admin API for property tests: every path and method, with parameters and bodies near the expected ones."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from hypothesis import strategies as st
from tests.unit.control.asgi_client import Answer, AsgiClient
from tests.unit.control.fake_plane import PATH, FakePlane

from pymosn.config.schema.top import Admin
from pymosn.control.access import TcpDoor
from pymosn.control.admin import create_app
from pymosn.core.log import Log

METHODS = ("GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT")
#: The answer of MOSN to an unknown parameter of config_dump is 500; kept for compatibility (key reference section 15).
DELIBERATE = b'{\n\t"error": "internal error"'
#: `/config_dump` and `/ready` have these as answers.
MEANT = (501, 503)


def _one_of(words: str) -> st.SearchStrategy[str]:
    return st.sampled_from(words.split())


_TEXTS = st.text(max_size=20) | st.sampled_from(
    ["", "*", "\0", "\ud800", "../..", "%00", "\r\n", "a" * 300, "é", "-1", "1e999"]
)
_NAMES = _one_of(
    """type config name url method headers listener client domain route router_config_name cluster hosts address weight
    log_path log_level filter_chains filters stream_filters access_logs virtual_hosts domains routers match prefix now
    direct_response status redirect path metadata timeout lb_type health_check format key router action regex"""
)
_WORDS = _one_of(
    f"""listener router cluster extend add remove set python proxy GET POST 127.0.0.1:80 1s http://127.0.0.1:2045/x / text
    all clientCluster clientListener client_router INFO DEBUG {PATH}"""
)
_NUMBERS = st.integers() | st.floats() | st.sampled_from([0, -1, 2**63, 2**64, 10**400, 1e308])
_SCALARS = st.none() | st.booleans() | _NUMBERS | _TEXTS | _WORDS


def _bodies(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(values, max_size=4) | st.dictionaries(_NAMES | _TEXTS, values, max_size=5)


_VALUES = st.recursive(_SCALARS, _bodies, max_leaves=25)
_QUESTIONS = st.fixed_dictionaries(
    {"url": _TEXTS | _WORDS},
    optional={
        "method": _TEXTS | _WORDS,
        "headers": st.lists(st.tuples(_TEXTS | st.just("host"), _TEXTS), max_size=4),
        "listener": _TEXTS | _WORDS,
        "client": _TEXTS | st.just("10.0.0.1"),
    },
)
_UPDATES = st.fixed_dictionaries({"type": _WORDS, "config": _VALUES, "name": _SCALARS})
_DEEP = st.builds(
    lambda opening, count: (opening * count).encode(),
    st.sampled_from(["[", '{"a":', '{"url":"/","x":', '{"type":"cluster","config":[', "[[],"]),
    st.sampled_from([50, 99, 101, 500, 2_000, 10_000]),
)
BODIES = (
    (_VALUES | _QUESTIONS | _UPDATES).map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass"))
    | _DEEP
    | st.binary(max_size=60)
    | _TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.just(PATH.encode())
)
_PARAMETERS = st.lists(
    st.tuples(_one_of("key name format listener router cluster mosnconfig allrouters enable status"), _WORDS), max_size=3
)
QUERIES = st.binary(max_size=30).map(lambda data: "".join(chr(byte) for byte in data if 0x20 < byte < 0x7F)) | (
    _PARAMETERS.map(lambda pairs: "&".join(f"{key}={value}" for key, value in pairs))
)
HEADERS = st.dictionaries(
    _one_of("host origin sec-fetch-site authorization content-length transfer-encoding expect accept content-type"),
    _one_of(f"127.0.0.1 evil.example Bearer 0 99999 {'9' * 30} -1 chunked 100-continue */* [ é"),
    max_size=3,
)


class Asked(NamedTuple):
    """One request."""

    method: str
    path: str
    query: str
    body: bytes
    headers: dict[str, str]


PATHS = sorted(line.removesuffix(" changes") for line in AsgiClient(create_app(FakePlane())).get("/").text.splitlines()[1:])
REQUESTS = st.builds(
    Asked,
    st.sampled_from(["GET", "POST"]) | st.sampled_from(METHODS),
    st.sampled_from(PATHS) | _TEXTS.map(lambda text: f"/api/v1/{text.encode('ascii', 'ignore').decode()}"),
    QUERIES,
    BODIES,
    HEADERS,
)


def check(asked: Asked) -> None:
    """No request is an error of the server, whatever door it comes through."""
    doors = [None, TcpDoor(Admin(), "/", lambda: True, Log()), TcpDoor(Admin(), "/", lambda: False, Log())]
    for door in doors:
        plane = FakePlane()
        app = create_app(plane, environment={}) if door is None else create_app(plane, environment={}, door=door)
        headers = asked.headers if door is None else {"host": "127.0.0.1", **asked.headers}
        answer = AsgiClient(app).request(asked.method, f"{asked.path}?{asked.query}", [asked.body], headers)
        assert is_meant(asked, answer), (asked, door, answer.status, answer.content)
        if asked.method == "HEAD":
            assert answer.content == b""
        if door is not None or asked.method != "POST":
            assert plane.last.source == "start", asked


def is_meant(asked: Asked, answer: Answer) -> bool:
    """Whether the server means an answer, and has not just failed."""
    if answer.status == 500:
        return asked.path == "/api/v1/config_dump" and answer.content.startswith(
            b"" if asked.method == "HEAD" else DELIBERATE
        )
    return answer.status < 500 or answer.status in MEANT
