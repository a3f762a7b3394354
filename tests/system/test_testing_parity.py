"""`pymosn.testing` and the server do the same: filters, requests and responses, each in the kit and in the real program."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from parity_peers import Case, Outcome, Progress, Received, Upstreams, ask, is_chunked, masked, shown
from process_fixtures import Start
from pymosn_process import READY, Pymosn, eventually, free_ports, get

from pymosn.api import HttpHeaders, StreamFilter
from pymosn.filters.loading import load_filter
from pymosn.testing import Down, Request, Response, World

FILE = Path(__file__).parent / "parity_filters.py"
DEEP = b"[" * 10_000 + b"]" * 10_000
ONE_UPSTREAM_MORE = "in the kit a host gets the complete request before it is down"
NO_TUNNELS = "in the kit there are no tunnels, so that an upgrade is ignored"

CASES: dict[str, Case] = {
    # ---- what clients send
    "a plain request": Case("Passes", headers=[("X-A", "1"), ("x-a", "2"), ("accept", "*/*")]),
    "a query": Case("Passes", target="/a/b?x=1&y=%2F"),
    "an empty query": Case("Passes", target="/a?"),
    "a path that is normalized": Case("Passes", target="/a/./b/../%63//d%2fe"),
    "a path that escapes the root": Case("Passes", target="/../etc/passwd"),
    "a path with a bad escape": Case("Passes", target="/%zz"),
    "an encoded control character": Case("Passes", target="/a%00b"),
    "a path that hides dots": Case("Passes", target="/a/..;x/b"),
    "no path": Case("Passes", target="nowhere"),
    "a space in the target": Case("Passes", target="/a b"),
    "bytes beyond ASCII in the target": Case("Passes", target="/\u00e9"),
    "an absolute target": Case("Passes", target="http://other.example/a//b?c", headers=[("host", "ignored.example")]),
    "OPTIONS of the server": Case("Passes", method="OPTIONS", target="*"),
    "CONNECT": Case("Passes", method="CONNECT", target="inner.example:443"),
    "a method in lower case": Case("Passes", method="get"),
    "an unknown method": Case("Passes", method="BREW"),
    "a host with a port": Case("Passes", headers=[("host", "Shop.Example:8080")]),
    "a bad host": Case("Passes", headers=[("host", "a b")]),
    "a head that is too large": Case("Passes", headers=[("x-a", "a" * 9000)]),
    "too many fields": Case("Passes", headers=[(f"x-{number}", "1") for number in range(120)]),
    "hop-by-hop fields": Case(
        "Passes", headers=[("connection", "x-hop"), ("x-hop", "1"), ("keep-alive", "timeout=5"), ("proxy-connection", "x")]
    ),
    "claims about the client": Case(
        "Passes",
        headers=[
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-real-ip", "10.0.0.1"),
            ("x_real_ip", "1"),
        ],
    ),
    "a request id": Case("Passes", headers=[("x-request-id", "own")]),
    "an unknown expectation": Case("Passes", method="POST", headers=[("expect", "more")], body=b"hello"),
    "an expectation": Case("Passes", method="POST", headers=[("expect", "100-continue")], body=b"hello"),
    "an expectation, and a filter that reads": Case(
        "Reads", method="POST", headers=[("expect", "100-continue")], body=b"hello"
    ),
    "an upgrade": Case(
        "Passes", headers=[("connection", "upgrade"), ("upgrade", "websocket")], differs=("upstream",), reason=NO_TUNNELS
    ),
    "a body": Case("Passes", method="POST", body=b"hello"),
    "a body in chunks": Case("Passes", method="POST", body=[b"hel", b"lo"], chunked=True),
    "a body in parts": Case("Passes", method="POST", body=[b"hel", b"lo"]),
    "an empty body in chunks": Case("Passes", method="POST", chunked=True),
    "trailers both ways": Case(
        "Trailers",
        method="POST",
        body=[b"hel", b"lo"],
        trailers=[("x-a", "1"), ("authorization", "no")],
        answer=[b"o", b"k"],
        answer_trailers=[("x-b", "2")],
    ),
    "a client that accepts no trailers": Case(
        "Trailers", headers=[("te", "gzip"), ("connection", "te")], answer=[b"ok"], answer_trailers=[("x-b", "2")]
    ),
    # ---- what upstreams send
    "a response in chunks": Case("Passes", answer=[b"o", b"k"]),
    "an empty response": Case("Passes", answer=b""),
    "a HEAD": Case("Passes", method="HEAD"),
    "a HEAD, in chunks": Case("Passes", method="HEAD", answer=[b"o", b"k"]),
    "a 204": Case("Passes", status=204),
    "a 304": Case("Passes", status=304, answer_headers=[("etag", '"1"')]),
    "a 503": Case("Passes", status=503, answer=b"not now"),
    "hop-by-hop fields of a response": Case(
        "Passes", answer_headers=[("connection", "x-hop"), ("x-hop", "1"), ("keep-alive", "timeout=5"), ("x-kept", "1")]
    ),
    "cookies": Case("Passes", answer_headers=[("set-cookie", "a=1"), ("set-cookie", "b=2")]),
    "a host that closes": Case("Passes", method="POST", body=b"hello", answer=None),
    "a host that refuses": Case("Chooses", target="/refused", differs=("upstream",), reason=ONE_UPSTREAM_MORE),
    "an unknown cluster": Case("Chooses", target="/absent"),
    "another cluster": Case("Chooses", target="/auth"),
    # ---- what filters do
    "a reply": Case("Tenant"),
    "headers both ways": Case("Tenant", headers=[("x-api-key", "acme-1"), ("x-tenant", "boss")]),
    "rewrites": Case("Rewrites", target="/a?b", headers=[("host", "shop.example")]),
    **{f"a reply of {name}": Case("Replies", target=f"/{name}") for name in ("text", "bytes", "none", "list", "stream")},
    "a reply that breaks": Case("Replies", target="/broken"),
    "a reply with a chunk that is no bytes": Case("Replies", target="/numbers"),
    "a reply to a HEAD": Case("Replies", method="HEAD", target="/text"),
    "a reply without content": Case("Replies", target="/text?204"),
    "a reply with an invalid status": Case("Replies", target="/text?99"),
    "a reply instead of a response": Case("RepliesLate", status=201),
    **{
        f"{kind} in {phase}": Case(kind, headers=[("x-phase", phase)])
        for kind in ("Fails", "Skips")
        for phase in ("request", "route", "host", "response")
    },
    "a filter that exits": Case("Fails", headers=[("x-phase", "request"), ("x-how", "exit")]),
    "a filter that returns text": Case("Fails", headers=[("x-phase", "request"), ("x-how", "type")]),
    "a filter that frames": Case("Fails", headers=[("x-phase", "request"), ("x-how", "header")]),
    "a failure in a request's body": Case("FailsInBodies", method="POST", body=b"a", headers=[("x-phase", "request")]),
    "a failure in a response's body": Case("FailsInBodies", headers=[("x-phase", "response")]),
    "bodies that change": Case("Upper", method="POST", body=b"hello"),
    "bodies that change, in chunks": Case("Upper", method="POST", body=[b"hel", b"lo"], chunked=True, answer=[b"o", b"k"]),
    "bodies that keep their length": Case("KeepsLength", method="POST", body=b"hello"),
    "a broken promise": Case("BreaksPromise"),
    "bodies that grow": Case("Doubles", method="POST", body=b"hello"),
    "a body that grows, of a HEAD": Case("Doubles", method="HEAD"),
    "an early end": Case("EndsEarly"),
    "JSON": Case("Json", method="POST", target="/response", body=b'{"a": 1}', answer=b"[2]"),
    "deep JSON": Case("Json", method="POST", body=DEEP),
    "no JSON": Case("Json", method="POST", body=b""),
    "JSON over the limit": Case("Json", method="POST", body=b"[" * 60_000),
    "JSON with a name twice": Case("Json", method="POST", body=b'{"a": 1, "a": 2}'),
    "a response that is no JSON": Case("Json", target="/response"),
    "deep JSON of a response": Case("Json", target="/response", answer=DEEP),
    "NaN": Case("SetsNan", method="POST", body=b"hello"),
    "a body over a limit that a filter catches": Case("Reads", method="POST", body=b"hello, world"),
    "bodies that are set": Case("SetsBody", method="POST", body=b"hello"),
    "a body that is set, of a GET": Case("SetsBody"),
    "a body that is set, of a HEAD": Case("SetsBody", method="HEAD"),
    "a status that is set": Case("SetsStatus", target="/?418"),
    "a 204 that is set": Case("SetsStatus", target="/?204"),
    "an interim status that is set": Case("SetsStatus", target="/?100"),
    "an invalid status that is set": Case("SetsStatus", target="/?1000"),
    "a subrequest": Case("Asks", target="/allow"),
    "a subrequest that denies": Case("Asks", target="/deny"),
    "a subrequest to a host that refuses": Case(
        "Asks", headers=[("x-cluster", "refused")], differs=("upstream",), reason=ONE_UPSTREAM_MORE
    ),
    "a subrequest to an unknown cluster": Case("Asks", headers=[("x-cluster", "absent")]),
    "a filter for another protocol": Case("OnlyBolt"),
}
CHAINS = sorted({case.chain for case in CASES.values()})
#: Filters whose methods are called once for each part of a body, which arrives in parts that nobody determines.
PER_CHUNK = {"FailsInBodies", "Upper", "KeepsLength", "BreaksPromise", "Doubles", "EndsEarly", "Trailers"}

Counted = dict[str, dict[str, int]]


# ---- in the kit


def answers(case: Case) -> dict[str, Any]:
    def service(request: Request) -> Response:
        if case.answer is None:
            raise Down("reset_before_response")
        made = Response(case.status, case.answer, case.answer_headers)
        made.trailers = trailers(case.answer_trailers)
        return made

    def auth(request: Request) -> Response:
        return (
            Response(200 if request.path == "/allow" else 403, "auth") if request.path != "/auth" else Response(403, "auth")
        )

    def refused(request: Request) -> Response:
        raise Down("connect_refused")

    return {"service": service, "auth": auth, "refused": refused}


def trailers(fields: list[tuple[str, str]]) -> HttpHeaders | None:
    if not fields:
        return None
    made = HttpHeaders()
    for name, value in fields:
        made.add(name, value)
    return made


async def in_the_kit(case: Case, counted: Counter[tuple[str, str]]) -> Outcome:
    filters: list[StreamFilter] = [load_filter(FILE, name, {}) for name in ("Notes", case.chain)]
    request = Request(case.method, case.target, case.headers, case.body)
    request.is_sized = not is_chunked(case)
    request.trailers = trailers(case.trailers)
    async with World(filters, clusters=answers(case), client_ip="127.0.0.1") as world:
        result = await world.send(request)
        for key in ("calls", "errors", "skipped", "timeouts"):
            counted[case.chain, key] += world.counter(case.chain, key)
    (note,) = [line for line in world.log if "filter 'Notes': note" in line]
    upstream = [
        Received(
            got.method, got.target, shown(got.headers.items()), got.body, shown(got.trailers.items() if got.trailers else [])
        )
        for got in result.upstream
    ]
    found = shown(result.trailers.items() if result.trailers else [])
    return Outcome(result.status, shown(result.headers.items()), result.body, found, result.was_reset, upstream, note)


# ---- in the program


def configuration(ports: dict[str, int], admin: int, clusters: dict[str, int]) -> dict[str, Any]:
    def python(name: str) -> dict[str, Any]:
        return {"type": "python", "config": {"path": str(FILE), "class": name}}

    proxy = {"type": "proxy", "config": {"downstream_protocol": "Http1", "router_config_name": "table"}}
    route = {"match": {"prefix": "/"}, "route": {"cluster_name": "service"}}
    server = {
        "default_log_path": "stdout",
        "processor": 2,
        "listeners": [
            {
                "name": name,
                "address": f"127.0.0.1:{port}",
                "bind_port": True,
                "filter_chains": [{"filters": [proxy]}],
                "stream_filters": [python("Notes"), python(name)],
            }
            for name, port in ports.items()
        ],
        "routers": [
            {"router_config_name": "table", "virtual_hosts": [{"name": "all", "domains": ["*"], "routers": [route]}]}
        ],
    }
    hosts = [
        {"name": name, "type": "SIMPLE", "lb_type": "LB_RANDOM", "hosts": [{"address": f"127.0.0.1:{port}"}]}
        for name, port in clusters.items()
    ]
    return {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
        "servers": [server],
        "cluster_manager": {"clusters": hosts},
    }


def notes(program: Pymosn) -> list[str]:
    return [line for line in list(program.lines) if "filter 'Notes': note" in line]


def in_the_program(program: Pymosn, port: int, upstreams: Upstreams, case: Case) -> Outcome:
    upstreams.case = case
    upstreams.received.clear()
    upstreams.progress = Progress()
    before = len(notes(program))
    status, headers, body, ended, was_reset = ask(port, case, upstreams.progress)
    assert eventually(lambda: len(notes(program)) > before), f"no exchange for {case}"
    (note,) = notes(program)[before:]
    return Outcome(status, headers, body, ended, was_reset, list(upstreams.received), note)


def counters(admin: int) -> Counted:
    found: Counted = {}
    for view in json.loads(get(admin, "/api/v1/filters")[1])["filters"]:
        sums = found.setdefault(view["name"], Counter())
        for key in ("calls", "errors", "skipped", "timeouts"):
            sums[key] += view["counters"][key]
    return found


class Table:
    """The outcomes of all cases on both sides."""

    def __init__(self, kit: dict[str, Outcome], program: dict[str, Outcome], counted: Counter[tuple[str, str]], admin: int):
        self.kit = kit
        self.program = program
        self.counted = counted
        self.admin = admin


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Table]:
    counted: Counter[tuple[str, str]] = Counter()
    kit = {name: asyncio.run(in_the_kit(case, counted)) for name, case in CASES.items()}
    start = Start(tmp_path_factory.mktemp("parity"))
    upstreams = Upstreams()
    admin, refused, *free = free_ports(len(CHAINS) + 2)
    ports = dict(zip(CHAINS, free, strict=True))
    try:
        program = start(configuration(ports, admin, {**upstreams.ports, "refused": refused}))
        program.wait_for(READY)
        outcomes = {name: in_the_program(program, ports[case.chain], upstreams, case) for name, case in CASES.items()}
        yield Table(kit, outcomes, counted, admin)
    finally:
        start.end()
        upstreams.close()


def note_of(outcome: Outcome) -> str:
    return masked(outcome.note[outcome.note.index("note ") :])


@pytest.mark.parametrize("name", CASES)
def test_case(table: Table, name: str) -> None:
    kit, program = table.kit[name], table.program[name]
    kit, program = kit._replace(note=note_of(kit)), program._replace(note=note_of(program))
    different = [field for field in Outcome._fields if getattr(kit, field) != getattr(program, field)]
    shown_pairs = {field: (getattr(kit, field), getattr(program, field)) for field in different}
    assert tuple(different) == CASES[name].differs, shown_pairs
    assert bool(CASES[name].differs) == bool(CASES[name].reason)


@pytest.mark.parametrize("chain", CHAINS)
def test_counters(table: Table, chain: str) -> None:
    keys = ("errors", "skipped", "timeouts") if chain in PER_CHUNK else ("calls", "errors", "skipped", "timeouts")
    expected = {key: table.counted[chain, key] for key in keys}

    def is_equal() -> bool:
        found = counters(table.admin).get(chain, {})
        return {key: found.get(key) for key in keys} == expected

    assert eventually(is_equal, 10.0), (expected, counters(table.admin).get(chain))


def test_the_table_is_large_and_varied(table: Table) -> None:
    assert len(CASES) >= 80
    assert sum(bool(case.differs) for case in CASES.values()) <= 4
    reasons = {outcome.note.split("note ")[1].split()[0] for outcome in table.program.values()}
    assert reasons >= {
        *("ok", "bad_target", "bad_host", "bad_request", "headers_too_large", "bad_expectation"),
        *("connect_not_allowed", "connect_refused", "reset_before_response", "cluster_unknown", "filter_error"),
        *("invalid_json", "invalid_response_json", "body_too_large"),
    }
    assert {outcome.status for outcome in table.program.values()} >= {
        200,
        204,
        304,
        400,
        401,
        403,
        404,
        405,
        413,
        418,
        500,
    }
    assert any(outcome.was_reset for outcome in table.program.values())
    assert any(outcome.trailers for outcome in table.program.values())
