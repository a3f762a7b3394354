"""Fuzzing of the shipped filters: any settings give a clear error or work, and no request makes a filter fail.

An error of a filter is a 500, or with `on_error: skip` a request that passes; both are faults of the filter.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import jwt
import pytest
from hypothesis import strategies as st
from tests.fuzz.filter_examples import EXAMPLES, PICKS, ROUTES, SECRET, VALUES, mutated
from tests.fuzz.test_fuzz_http1 import SECONDS, fuzz

from pymosn.api import StreamFilter
from pymosn.assembly.filters import FilterBuilder
from pymosn.config.load import load_text
from pymosn.config.typed import typed
from pymosn.core.counters import Metrics
from pymosn.core.headers import HeaderError
from pymosn.core.log import Log
from pymosn.filters.stream.shipped import FROM_FILES, SHIPPED, spec_of
from pymosn.testing import Down, Request, Response, World

pytestmark = pytest.mark.timeout(SECONDS * 2 + 240)

NAMES = sorted(set(SHIPPED) - FROM_FILES)
#: An example takes about 20 ms.
EXAMPLES_EACH = 20
CHAINS = [(name, example) for name in NAMES for example in EXAMPLES[name]]


def test_every_filter_has_examples() -> None:
    assert set(EXAMPLES) == set(NAMES)


# ---- settings


def configuration(name: str, config: object, **entry: object) -> dict[str, Any]:
    chain = {"filters": [{"type": "proxy", "config": {"downstream_protocol": "Http1", "router_config_name": "r"}}]}
    listener = {
        "name": "l",
        "address": "127.0.0.1:1",
        "bind_port": True,
        "filter_chains": [chain],
        "stream_filters": [{"type": name, "config": config, **entry}],
    }
    route = {"match": {"prefix": "/"}, "route": {"cluster_name": "service"}}
    table = {"router_config_name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routers": [route]}]}
    clusters = [
        {"name": cluster, "type": "SIMPLE", "lb_type": "LB_RANDOM", "hosts": [{"address": "127.0.0.1:2"}]}
        for cluster in ("service", "auth", "keys")
    ]
    servers = [{"default_log_path": "stdout", "listeners": [listener], "routers": [table]}]
    return {"servers": servers, "cluster_manager": {"clusters": clusters}}


def built(whole: dict[str, Any], yaml: bool = False) -> tuple[StreamFilter | None, list[str]]:
    """The filter of a configuration, and the errors. Whatever else is raised is a fault."""
    text = json.dumps(whole)
    if yaml:  # which has numbers that JSON has not
        text = text.replace("NaN", ".nan").replace("Infinity", ".inf")
    loaded = load_text(text, "c.yaml" if yaml else "c.json", yaml=yaml, config_dir="/")
    errors = [str(fault) for fault in loaded.errors]
    if loaded.config is None:
        return None, errors
    builder = FilterBuilder("/", Metrics(), Log(), {}, {})
    chain = builder.chain(loaded.config.servers[0].listeners[0], "servers[0].listeners[0]")
    errors += [fault.message for fault in builder.faults]
    return (chain.all[0].filter if chain.all else None), errors


def check_settings(name: str, config: Any, yaml: bool = False) -> None:
    made, errors = built(configuration(name, config), yaml)
    assert (made is None) == bool(errors)
    for error in errors:
        error.encode()  # it can be printed
        assert "Traceback" not in error
        assert "does not start" not in error
    if made is not None and speaks_http(made):
        check_exchange([made], Request("GET", "/a?token=x", [("x-a", "b"), ("origin", "https://a")]))


@pytest.mark.parametrize("name", NAMES)
def test_settings(name: str) -> None:
    def check(picks: list[tuple[int, int, Any, str]], which: int, yaml: bool) -> None:
        check_settings(name, mutated(EXAMPLES[name][which % len(EXAMPLES[name])], picks), yaml)

    fuzz(check, EXAMPLES_EACH, PICKS, st.integers(0, 1), st.booleans())


def test_settings_of_any_shape() -> None:
    def check(name: str, config: Any) -> None:
        check_settings(name, config)

    fuzz(check, 2 * EXAMPLES_EACH, st.sampled_from(NAMES), VALUES)


@pytest.mark.parametrize("name", [name for name in NAMES if spec_of(name).route is not None])
def test_settings_of_a_route(name: str) -> None:
    def check(picks: list[tuple[int, int, Any, str]]) -> None:
        whole = configuration(name, EXAMPLES[name][0])
        routes = whole["servers"][0]["routers"][0]["virtual_hosts"][0]["routers"]
        routes[0]["per_filter_config"] = {name: mutated(ROUTES.get(name, EXAMPLES[name][0]), picks)}
        built(whole)

    fuzz(check, EXAMPLES_EACH, PICKS)


# ---- requests


def speaks_http(made: StreamFilter) -> bool:
    return not made.protocols or "Http1" in made.protocols


#: Lets long headers, and what clients say about themselves, reach the filters.
LENIENT = {"max_header_size": 1 << 20, "trust_forwarded": True}


def check_exchange(filters: list[StreamFilter], request: Request) -> None:
    def auth(asked: Request) -> Response:
        if "down" in asked.headers.get("x-a", ""):
            raise Down("reset_before_response")
        return Response(204 if len(asked.headers) % 2 else 401, b"no", [("x-user", "ann"), ("location", "/in")])

    served = Response(200, "x" * 100, {"content-type": "text/plain"})
    world = World(filters, served, {"auth": auth, "keys": Response(404)}, http1=LENIENT)

    async def ask() -> None:
        await world.start()
        with suppress(TimeoutError):  # of a delay that the settings ask for
            async with asyncio.timeout(0.1):
                result = await world.send(request)
                assert result.reason != "filter_error" or "CancelledError" in result.log[0], result.log
        await world.stop()

    asyncio.run(ask())


NAMES_OF_FIELDS = st.sampled_from(
    [
        *("x-a", "X-A", "authorization", "cookie", "origin", "access-control-request-method", "accept-encoding"),
        *("x-forwarded-for", "x-claims", "x-user", "x-b", "content-type", "x-mosn-global-timeout"),
    ]
)
BYTES = st.binary(max_size=12).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
TOKENS = st.sampled_from(["Bearer ", "bearer\t", "Bearer", "", "Basic "])
LITERALS = st.sampled_from(
    ["", ",", "b", "a, b", "10.0.0.1", "[::1]:5", "1" * 30, "é", "\udcff", "K", "https://app.example", "null"]
)
LONG = st.sampled_from(["a" * 65536, "," * 20000, "a.b.c" * 5000, ". " * 9000])


@st.composite
def tokens(draw: st.DrawFn) -> str:
    """A JWT, or something similar."""
    segments = []
    for _ in range(draw(st.sampled_from([3, 3, 3, 1, 2, 5]))):
        value = draw(CLAIMS | VALUES)
        try:
            text = json.dumps(value)
        except ValueError:
            text = "{}"
        text = draw(st.sampled_from([text, text, text[:-1], "[" * 3000, '{"alg":"HS256","alg":"none"}']))
        segments.append(base64.urlsafe_b64encode(text.encode("utf-8", "surrogatepass")).decode().rstrip("="))
    if draw(st.booleans()):
        payload = json.dumps(draw(CLAIMS)).encode("utf-8", "surrogatepass")
        return jwt.api_jws.encode(payload, base64.urlsafe_b64decode(SECRET + "=="), "HS256")
    return ".".join(segments)


TIMES = VALUES | st.just(time.time() + 1e6)
CLAIMS = st.fixed_dictionaries(
    {}, optional={"iss": st.just("i") | VALUES, "aud": st.just("a") | VALUES, "exp": TIMES, "nbf": TIMES, "iat": TIMES}
)
FIELD_VALUES = st.builds(lambda scheme, token: scheme + token, TOKENS, tokens()) | BYTES | LITERALS | LONG
FIELDS = st.lists(st.tuples(NAMES_OF_FIELDS, FIELD_VALUES), max_size=6)
QUERIES = st.lists(
    st.tuples(
        st.sampled_from(["token", "access_token", "tok%65n", "", "%", "%zz", "%ff"]),
        (tokens() | BYTES).map(lambda text: quote(text.encode("utf-8", "surrogateescape")))
        | st.sampled_from(["%", "%e", "%ff%fe", "+", ";token=x"]),
    ),
    max_size=3,
).map(lambda pairs: "&".join(f"{name}={value}" for name, value in pairs))
PATHS = st.sampled_from(["/", "/a", "/free", "/r%ff", "/%2e%2e", "/" + "a" * 5000, "/r;x=1"])


def request_of(method: str, path: str, query: str, fields: list[tuple[str, str]]) -> Request | None:
    try:
        return Request(method, f"{path}?{query}" if query else path, fields, b"body" if method == "POST" else b"")
    except HeaderError:  # not one that a codec lets through
        return None


@pytest.mark.parametrize(("name", "config"), CHAINS, ids=[name for name, _ in CHAINS])
def test_requests(name: str, config: dict[str, Any]) -> None:
    spec = spec_of(name)
    assert spec.make is not None
    made = spec.make(typed(config, spec.settings))
    if not speaks_http(made):
        return

    def check(method: str, path: str, query: str, fields: list[tuple[str, str]]) -> None:
        request = request_of(method, path, query, fields)
        if request is not None:
            check_exchange([made], request)

    fuzz(check, 2 * EXAMPLES_EACH, st.sampled_from(["GET", "POST", "OPTIONS", "HEAD", "x!"]), PATHS, QUERIES, FIELDS)


#: Filters that decide on no access.
UNGUARDED = (
    "fault_tolerance",
    "fault",
    "gzip",
    "mirror",
    "header_to_metadata",
    "health_check",
    "dubbo_stream",
    "grpc_metric",
    "istio.stats",
    "peer_metadata",
)


def test_no_guard_can_be_skipped() -> None:
    for name in NAMES:
        _, errors = built(configuration(name, EXAMPLES[name][0], on_error="skip"))
        guards = name not in UNGUARDED
        assert bool(errors) is guards, (name, errors)
        if guards:
            assert "on_error" in errors[0]


def test_a_working_chain_of_all() -> None:
    """The examples are valid: otherwise the fuzzers above would only see errors."""
    for name, config in CHAINS:
        made, errors = built(configuration(name, config))
        assert made is not None, (name, errors)
        assert built(configuration(name, config), yaml=True)[1] == []
