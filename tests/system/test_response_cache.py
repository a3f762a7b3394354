"""`response_cache` and `json_edit` in the real program with two workers, after filters that decide about clients."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from cache_upstream import CacheUpstream
from process_fixtures import Start
from pymosn_process import READY, _listener, _table, eventually, free_ports

RECIPES = Path(__file__).parents[2] / "examples" / "filters" / "recipes"
KEYS = {"key-of-acme": "acme", "key-of-corp": "corp", "other-key-of-corp": "corp"}
CLUSTERS = ("shared", "gold", "next")
FRESH = "h=cache-control:max-age=60"


def recipe(name: str, kind: str, **config: Any) -> dict[str, Any]:
    return {"type": "python", "config": {"path": str(RECIPES / f"{name}.py"), "class": kind, **config}}


CACHE = {"type": "response_cache", "config": {"ignored_cookies": ["canary"], "identity_headers": [], "cache_status": "edge"}}
HIDE = {"type": "json_edit", "config": {"response": {"remove": ["password"]}}}
CHAINS: dict[str, list[dict[str, Any]]] = {
    "everything": [
        {
            "type": "api_key_auth",
            "config": {"headers": ["x-api-key"], "keys": [{"client": client, "key": key} for key, client in KEYS.items()]},
        },
        recipe("tenant_routing", "TenantRouting", tenants={"acme": "gold", "corp": "shared"}, header="x-client"),
        recipe("canary", "Canary", cluster="next", percent=0),
        CACHE,
        HIDE,
    ],
    "plain": [{"type": "response_cache", "config": {"cache_status": "edge"}}],
    "hiding": [HIDE],
    "forcing": [{"type": "json_edit", "config": {"request": {"set": {"/tenant": "acme"}}}}],
    "original": [{"type": "response_cache", "config": {"cache_status": "edge"}}],
}


class Answer:
    """A response as its client sees it; `is_whole`: whether it was not aborted."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {key.lower(): value for key, value in response.getheaders()}
        self.is_whole = True
        try:
            self.body = response.read()
        except http.client.IncompleteRead as error:
            self.is_whole = False
            self.body = error.partial

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def is_hit(self) -> bool:
        return "; hit" in self.headers.get("cache-status", "")


class Program:
    def __init__(self, start: Start) -> None:
        self.upstreams = {name: CacheUpstream(name) for name in CLUSTERS}
        self.ports = dict(zip(CHAINS, free_ports(len(CHAINS)), strict=True))
        self.process = start(self._config(), "--workers", "2")
        self.process.wait_for(READY)

    def _config(self) -> dict[str, Any]:
        clusters: list[dict[str, Any]] = [
            {"name": name, "type": "SIMPLE", "lb_type": "LB_RANDOM", "hosts": [{"address": upstream.address}]}
            for name, upstream in self.upstreams.items()
        ]
        wanted = {
            "use_header": True,
            "header_name": "x-destination",
            "allowed_destinations": [{"network": "127.0.0.0/8"}],
        }
        clusters.append(
            {"name": "wanted", "type": "ORIGINAL_DST", "lb_type": "LB_ORIGINAL_DST", "original_dst_lb_config": wanted}
        )
        server = {
            "default_log_path": "stdout",
            "watch_filters": False,
            "routers": [_table(name, name) for name in ("shared", "wanted")],
            "listeners": [self._listener(name) for name in CHAINS],
        }
        return {"servers": [server], "cluster_manager": {"clusters": clusters}}

    def _listener(self, name: str) -> dict[str, Any]:
        return _listener(name, self.ports[name], "wanted" if name == "original" else "shared", CHAINS[name])

    def ask(self, chain: str, target: str, headers: dict[str, str] | None = None, method: str = "GET") -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[chain], timeout=20)
        try:
            connection.request(method, target, headers=headers or {})
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def until_hit(self, chain: str, target: str, headers: dict[str, str] | None = None) -> Answer:
        """Asks until the worker that gets the request has the response."""
        found: list[Answer] = []

        def is_hit() -> bool:
            found.append(self.ask(chain, target, headers))
            return found[-1].is_hit

        assert eventually(is_hit)
        return found[-1]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    start = Start(tmp_path_factory.mktemp("cache"))
    running = Program(start)
    yield running
    start.end()
    for upstream in running.upstreams.values():
        upstream.close()


def test_each_client_gets_its_own(program: Program) -> None:
    """API keys, tenants and a canary before the cache: two workers, clients in turn, until all have had a hit."""
    clients = list(product(KEYS, ("yes", "no")))
    hits: set[tuple[str, str]] = set()

    def all_have_hits() -> bool:
        for key, choice in clients:
            headers = {"x-api-key": key, "cookie": f"canary={choice}", "x-client": "acme"}  # which decides nothing
            answer = program.ask("everything", f"/page?{FRESH}", headers)
            got = answer.json()
            assert got["upstream"] == ("next" if choice == "yes" else {"acme": "gold", "corp": "shared"}[KEYS[key]])
            assert got["headers"]["x-client"] == KEYS[key]
            assert got["headers"]["cookie"] == f"canary={choice}"
            assert "password" not in got
            assert "x-api-key" not in got["headers"]
            if answer.is_hit:
                hits.add((key, choice))
        return len(hits) == len(clients)

    assert eventually(all_have_hits)
    for headers in ({}, {"x-api-key": "guess"}, {"x-client": "acme"}, {"cookie": "canary=yes"}):
        assert program.ask("everything", f"/page?{FRESH}", headers).status == 401, "a hit is behind the filters before it"
    first = program.ask("everything", f"/first?{FRESH}", {"x-api-key": "key-of-acme"})
    assert first.headers["set-cookie"].startswith("canary=no;")
    assert first.headers["cache-control"] == "private, max-age=60"


@pytest.mark.parametrize("cookie", ["session=1", "canary=yes; session=1"])
def test_sessions_and_private_responses(program: Program, cookie: str) -> None:
    for _ in range(6):
        assert not program.ask("everything", f"/s?{FRESH}", {"x-api-key": "key-of-acme", "cookie": cookie}).is_hit
        for control in ('private="x"', "no-store", "max-age=0", "max-age=60,max-age=60", "s-maxage=0,max-age=60"):
            assert not program.ask("plain", f"/s?h=cache-control:{control}").is_hit
        assert not program.ask("plain", f"/s?{FRESH}&h=set-cookie:a=b").is_hit
        for name in ("authorization", "x-api-key"):
            assert not program.ask("plain", f"/s/{name}?{FRESH}", {name: "x"}).is_hit


@pytest.mark.parametrize("how", ["short", "close"])
def test_truncated_bodies_are_not_stored(program: Program, how: str) -> None:
    for _ in range(6):
        answer = program.ask("plain", f"/t?{FRESH}&{how}=1")
        assert (answer.is_hit, answer.is_whole) == (False, how == "close")
    program.until_hit("plain", f"/t?{FRESH}&chunked=1")


def test_a_hit_on_the_wire(program: Program) -> None:
    target = f"/wire?{FRESH}&h=etag:%22one%22&chunked=1"
    hit = program.until_hit("plain", target)
    assert (hit.status, hit.headers["content-length"], int(hit.headers["age"]) < 60) == (200, str(len(hit.body)), True)
    assert len(hit.headers["date"]) == 29
    asked = program.upstreams["shared"].count(target)
    head = next(answer for _ in range(200) if (answer := program.ask("plain", target, method="HEAD")).is_hit)
    assert (head.body, int(head.headers["content-length"]) > 0) == (b"", True)
    for condition, status in ((' W/"one"', 304), ('"two"', 200)):
        answers = [program.ask("plain", target, {"if-none-match": condition}) for _ in range(20)]
        assert {answer.status for answer in answers if answer.is_hit} == {status}
    ranged = program.ask("plain", target, {"range": "bytes=0-3"})
    assert (ranged.is_hit, ranged.status) == (False, 200)
    assert program.upstreams["shared"].count(target) > asked


def test_a_stampede(program: Program) -> None:
    """At most one request of each worker reaches the upstream."""
    target = f"/slow?{FRESH}&sleep=0.5"
    bodies: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: bodies.append(program.ask("plain", target).body), daemon=True) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(bodies) == 16
    assert program.upstreams["shared"].count(target) == len(set(bodies)) <= 2


def test_a_stampede_for_what_is_not_shared(program: Program) -> None:
    target = "/private?h=cache-control:private&sleep=0.3"
    bodies: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: bodies.append(program.ask("plain", target).body), daemon=True) for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(set(bodies)) == program.upstreams["shared"].count(target) == 12


def test_destinations_that_clients_choose(program: Program) -> None:
    """A client must not fill the cache of one site from another."""
    addresses = {name: upstream.address for name, upstream in program.upstreams.items()}
    for _ in range(10):
        for name, address in addresses.items():
            answer = program.ask("original", f"/o?{FRESH}", {"x-destination": address})
            assert answer.json()["upstream"] == name
    for name, address in addresses.items():
        assert program.until_hit("original", f"/o?{FRESH}", {"x-destination": address}).json()["upstream"] == name


@pytest.mark.parametrize(
    ("target", "headers", "status"),
    [
        ("/h", {}, 200),
        ("/h?chunked=1", {}, 200),
        ("/h?h=etag:%22one%22", {"range": "bytes=0-200", "if-range": '"one"'}, 200),
        ("/h?status=206&h=content-range:bytes+0-9/99", {"range": "bytes=0-9"}, 502),
        ("/h?h=content-encoding:gzip", {"accept-encoding": "gzip"}, 502),
        ("/h?h=content-type:text/event-stream", {"accept": "text/event-stream"}, 502),
        ("/h?h=content-type:application/x-ndjson", {}, 502),
        ("/h?body=%7B%22password%22:%22s3cret%22", {}, 502),
        ("/h?short=1", {}, 502),
        ("/h?h=content-type:image/png", {}, 200),
    ],
)
def test_a_hidden_value(program: Program, target: str, headers: dict[str, str], status: int) -> None:
    answer = program.ask("hiding", target, headers)
    assert (answer.status, answer.is_whole) == (status, True)
    if "image" not in target:
        assert b"s3cret" not in answer.body
        assert "range" not in answer.body.decode() or status == 502
        assert answer.headers.get("etag", 'W/"one"') == 'W/"one"'
    if status == 200 and "image" not in target:
        assert answer.json()["headers"]["accept-encoding"] == "identity"


def test_a_tunnel_is_not_a_way_around(program: Program) -> None:
    upgrade = {"connection": "upgrade", "upgrade": "websocket"}
    answer = program.ask("hiding", "/t?upgrade=1", upgrade)
    assert (answer.status, b"s3cret" in answer.body) == (502, False)
    assert program.upstreams["shared"].count("/t?upgrade=1") == 1, "it was the response that was rejected"


def test_nothing_failed(program: Program) -> None:
    assert "Traceback" not in program.process.output
    assert not [line for line in program.process.output.splitlines() if "filter '" in line and "failed:" in line]


def test_a_tunnel_is_not_a_way_around_a_forced_value(program: Program) -> None:
    upgrade = {"connection": "upgrade", "upgrade": "websocket"}
    assert program.ask("forcing", "/tunnel?upgrade=1", upgrade).status == 403
    assert program.upstreams["shared"].count("/tunnel?upgrade=1") == 0
