"""Fuzzing of `grpc_web` and `grpc_json_transcoder`: no call, and no response to one, makes them fail."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import strategies as st
from tests.fuzz.filter_examples import EXAMPLES, VALUES
from tests.fuzz.test_fuzz_http1 import SECONDS, fuzz
from tests.unit.filters.grpc_shop import FIELDS

from pymosn.api.grpc import framed
from pymosn.config.typed import typed
from pymosn.core.headers import HeaderError, headers_from
from pymosn.filters.stream.shipped import spec_of
from pymosn.testing import Request, Response, World

pytestmark = pytest.mark.timeout(SECONDS * 2 + 120)

CHAINS = [(name, config) for name in ("grpc_web", "grpc_json_transcoder") for config in EXAMPLES[name]]
FIELD_NAMES = st.sampled_from([*sorted({field for fields in FIELDS.values() for field in fields}), "bigNumber", "no_such"])
JSON = st.dictionaries(FIELD_NAMES, VALUES | st.dictionaries(FIELD_NAMES, VALUES, max_size=2), max_size=3)
#: The first bytes of a message: its flags and its length, which need not be right.
FRONTS = st.sampled_from([b"\0\0\0\0\0", b"\1\0\0\0\1", b"\x80\0\0\0\2", b"\0\xff\xff\xff\xff", b"\0\0\0"])
MESSAGES = st.lists(st.binary(max_size=12).map(framed) | FRONTS | st.binary(max_size=6), max_size=3).map(b"".join)
BODIES = (
    MESSAGES
    | st.sampled_from([b"AAAAAAA=", b"AAAAAAA=AAAAAAA=", b"A", b"====", b"[" * 3000, b'{"a":1,"a":2}', b"[{},1,null]"])
    | (JSON | st.lists(JSON, max_size=3)).map(lambda value: json.dumps(value).encode())
)
TYPES = st.sampled_from(
    [
        "",
        "application/json",
        "application/grpc-web",
        "application/grpc-web-text",
        "application/grpc-web+json",
        "a/b+json",
        "é",
    ]
)
TARGETS = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["/v1/shelves/", "/v1/books/", "/v1/titles", "/v1/watch", "/v1/files/", "/shop.Shop/", "/"]),
        st.sampled_from(["1/books", "a/books:add", "b/books/c", "%2f", "%ff", "GetBook", "WatchBooks", ":move", ""]),
        st.sampled_from(
            ["", "?", "?view=1", "?author.name=x", "?genres=NOVEL&genres=9", "?since=x", "?%ff=%ff", "?all&ids=-"]
        ),
    ),
)
STATUSES = st.sampled_from(["0", "5", "16", "99", "-1", "", "x", "1" * 400])
FIELDS_OF_RESPONSES = st.dictionaries(
    st.sampled_from(["grpc-message", "grpc-encoding", "grpc-status-details-bin", "content-encoding"]),
    st.sampled_from(["gzip", "%", "%ff", "AAAA", "CAUSBW5vdCE", "identity"]),
    max_size=2,
)


@st.composite
def responses(draw: st.DrawFn) -> Response:
    content_type = draw(st.sampled_from(["application/grpc", "application/grpc", "application/grpc+proto", "text/html", ""]))
    status = {"grpc-status": draw(STATUSES)} if draw(st.booleans()) else {}
    headers = {**({"content-type": content_type} if content_type else {}), **draw(FIELDS_OF_RESPONSES)}
    in_headers = draw(st.booleans())
    response = Response(
        draw(st.sampled_from([200, 200, 200, 204, 404, 503])),
        [part for part in (draw(MESSAGES), draw(MESSAGES)) if part],
        {**headers, **(status if in_headers else {})},
    )
    if not in_headers:
        response.trailers = headers_from({**status, **draw(FIELDS_OF_RESPONSES)})
    return response


@pytest.mark.parametrize(("name", "config"), CHAINS, ids=[f"{name}-{at}" for at, (name, _) in enumerate(CHAINS)])
def test_calls(name: str, config: dict[str, Any]) -> None:
    spec = spec_of(name)
    assert spec.make is not None
    made = spec.make(typed(config, spec.settings))

    def check(method: str, target: str, kind: str, body: bytes, response: Response) -> None:
        try:
            request = Request(method, target, {"content-type": kind} if kind else {}, body if method != "GET" else b"")
        except HeaderError:  # not one that a codec lets through
            return

        async def ask() -> None:
            world = World([made], response)
            await world.start()
            result = await world.send(request)
            await world.stop()
            assert result.reason != "filter_error", result.log

        asyncio.run(ask())

    fuzz(check, 150, st.sampled_from(["GET", "POST", "POST", "PUT", "PATCH", "PURGE"]), TARGETS, TYPES, BODIES, responses())
