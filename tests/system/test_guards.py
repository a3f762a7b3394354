"""The guards `api_key_auth`, `redis_rate_limit` and `token_budget` in the real program, with two workers and raw bytes."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import pytest
from model_upstream import BODIES, ModelUpstream
from plain_sockets import connect, read_all, read_until
from process_fixtures import Start
from pymosn_process import READY, Pymosn, eventually, free_ports, get
from tests.kit.fake_redis import FakeRedis

KEY = b"sk-first-0001"
SHARED = {"tokens": 40, "per": "1h", "count": "output"}


class Program:
    """The running program: a listener for each chain of filters."""

    def __init__(self, start: Start, redis: FakeRedis, upstream: ModelUpstream) -> None:
        self.redis, self.upstream = redis, upstream
        keys = [{"client": "acme", "sha256": sha256(KEY).hexdigest()}, {"client": "corp", "key": "sk-second-002"}]
        auth = {"type": "api_key_auth", "config": {"keys": keys, "query_parameters": ["key"]}}
        by_header = {"key": "header", "header": "x-id"}
        limit = {"url": redis.url, "requests": 6, "per": "1h", "timeout": "10s", "response_headers": True, **by_header}
        absent = f"redis://127.0.0.1:{free_ports(1)[0]}"
        chains: dict[str, list[dict[str, Any]]] = {
            "auth": [auth],
            "redis": [{"type": "redis_rate_limit", "config": limit}],
            "denies": [{"type": "redis_rate_limit", "config": {**limit, "url": absent}}],
            "allows": [{"type": "redis_rate_limit", "config": {**limit, "url": absent, "on_redis_error": "allow"}}],
            "tokens": [auth, {"type": "token_budget", "config": {**SHARED, "header": "x-client"}}],
            "reserved": [{"type": "token_budget", "config": {**SHARED, **by_header, "reserve": True}}],
        }
        self.ports = dict(zip((*chains, "admin"), free_ports(len(chains) + 1), strict=True))
        self.process: Pymosn = start(self._config(chains))
        self.process.wait_for(READY)

    def _config(self, chains: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
        open_route = {"per_filter_config": {"api_key_auth": {"disabled": True}, "redis_rate_limit": {"disabled": True}}}
        corp_route = {"per_filter_config": {"api_key_auth": {"clients": ["corp"]}}}
        routes = [
            {"match": {"path": path}, "route": {"cluster_name": "models"}, **more}
            for path, more in (("/open", open_route), ("/corp", corp_route))
        ]
        table = {
            "router_config_name": "r",
            "virtual_hosts": [
                {"domains": ["*"], "routers": [*routes, {"match": {"prefix": "/"}, "route": {"cluster_name": "models"}}]}
            ],
        }
        proxy = {"type": "proxy", "config": {"downstream_protocol": "Http1", "router_config_name": "r"}}
        listeners = [
            {
                "name": name,
                "address": f"127.0.0.1:{self.ports[name]}",
                "bind_port": True,
                "stream_filters": chain,
                "filter_chains": [{"filters": [proxy]}],
            }
            for name, chain in chains.items()
        ]
        server = {"default_log_path": "stdout", "processor": 2, "routers": [table], "listeners": listeners}
        cluster = {"name": "models", "type": "SIMPLE", "lb_type": "LB_RANDOM", "hosts": [{"address": self.upstream.address}]}
        admin = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": self.ports["admin"]}}}
        return {"servers": [server], "cluster_manager": {"clusters": [cluster]}, "admin": admin}

    def ask(self, name: str, *lines: bytes, target: bytes = b"/", body: bytes = b"") -> tuple[int, bytes]:
        """Status and the rest of the response, of a request on a connection of its own."""
        head = [b"POST %s HTTP/1.1" % target, b"Host: a", b"Connection: close", b"Content-Length: %d" % len(body), *lines]
        with connect(self.ports[name]) as sock:
            sock.sendall(b"\r\n".join(head) + b"\r\n\r\n" + body)
            answer = read_all(sock)
        return int(answer.split(b" ", 2)[1]), answer

    def counter(self, name: str, key: str) -> int:
        """A counter of a filter, of all workers together."""
        stats = json.loads(get(self.ports["admin"], "/api/v1/stats")[1])
        return int(stats["filter"].get(f"filter.{name}", {}).get(key, 0))

    def settled(self, name: str, key: str) -> int:
        """The same, once two reads agree: a busy worker may be late, and then its last report counts."""
        values = [-1, self.counter(name, key)]
        while values[-1] != values[-2]:
            values.append(self.counter(name, key))
        return values[-1]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    start = Start(tmp_path_factory.mktemp("guards"))
    redis, upstream = FakeRedis(), ModelUpstream()
    try:
        yield Program(start, redis, upstream)
    finally:
        start.end()
        redis.close()
        upstream.close()


# ---- api_key_auth


@pytest.mark.parametrize(
    ("lines", "target", "status"),
    [
        ([b"X-API-KEY:  %s\t" % KEY], b"/", 200),
        ([], b"/?key=%s" % KEY, 200),
        ([], b"/", 401),
        ([b"x-api-key: "], b"/", 401),
        ([b"x-api-key: guess"], b"/", 401),
        ([b"x-api-key: " + KEY, b"X-Api-Key: " + KEY], b"/", 401),
        ([b"x-api-key: %s, %s" % (KEY, KEY)], b"/", 401),
        ([b"x-api-key: " + KEY], b"/?key=%s" % KEY, 401),
        ([b"x-api-key: \xff\xfe"], b"/", 401),
        ([b"x-api-key: %s\xff" % KEY], b"/", 401),
        ([b"x-api-key: \xed\xa0\x80\xc0\xaf"], b"/", 401),
        ([b"x-api-key: " + b"k" * 6000], b"/", 401),
        ([], b"/?key=%ff%00", 401),
        ([b"x-api-key: " + KEY], b"/corp", 403),
        ([b"x-api-key: sk-second-002"], b"/corp", 200),
        ([b"x-api-key: \xff", b"x-client: root"], b"/open", 200),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_api_keys(program: Program, lines: list[bytes], target: bytes, status: int) -> None:
    before = len(program.upstream.heads)
    got, _ = program.ask("auth", *lines, b"X-Client: boss", target=target)
    assert got == status
    heads = program.upstream.heads[before:]
    assert len(heads) == (status == 200)
    for head in heads:
        assert head.get("x-client") in ((None,) if target == b"/open" else ("acme", "corp"))
        assert target == b"/open" or "x-api-key" not in head


# ---- redis_rate_limit


@pytest.mark.parametrize(
    "line",
    [b"x-id: plain", b"X-ID: \xff\xfe\x80", b"x-id: \xe2\x82", b"x-id: " + b"k" * 6000, b"x-id: a:b c,d"],
    ids=lambda x: x[:16],
)
def test_the_workers_share_a_rate(program: Program, line: bytes) -> None:
    """Every request has a connection of its own, so both workers get some."""
    statuses = [program.ask("redis", line)[0] for _ in range(9)]
    assert statuses == [200] * 6 + [429] * 3
    _, answer = program.ask("redis", line)
    assert b"ratelimit-remaining: 0" in answer.lower()


def test_a_repeated_key_is_rejected(program: Program) -> None:
    assert program.ask("redis", b"x-id: one", b"x-id: two")[0] == 400


@pytest.mark.parametrize(
    ("name", "target", "status"), [("denies", b"/", 503), ("denies", b"/open", 200), ("allows", b"/", 200)]
)
def test_without_redis(program: Program, name: str, target: bytes, status: int) -> None:
    for line in (b"x-id: a", b"x-id: \xff"):
        assert program.ask(name, line, target=target)[0] == status
    assert program.ask(name, b"x-id: a", b"x-id: b", target=target)[0] == (200 if target == b"/open" else 400)


# ---- token_budget


def test_both_workers_share_a_budget(program: Program) -> None:
    key = b"x-api-key: " + KEY
    counted = program.settled("token_budget", "tokens")
    passed = 0
    for _ in range(60):
        status, _ = program.ask("tokens", key, target=b"/json")
        assert status in (200, 429)
        passed += status == 200
    # Of forty tokens, each of two workers has twenty, which seven responses of three tokens exceed.
    assert passed in (7, 14)
    assert eventually(lambda: program.counter("token_budget", "tokens") - counted == passed * 3)


@pytest.mark.parametrize(
    ("path", "expected"), [("/json", 3), ("/floats", 3), ("/broken", 9), ("/tools", 4), ("/split", 2), ("/long", 0)]
)
def test_what_a_response_costs(program: Program, path: str, expected: int) -> None:
    """Each has a key of its own, and a whole budget."""
    before = program.settled("token_budget", "tokens")
    line = b"x-id: cost" + path.encode()
    status, answer = program.ask("reserved", line, target=path.encode())
    assert status == 200
    if path == "/long":
        assert b'"finish_reason":"length"' in answer
        assert b'"0019"' in answer
        assert b'"0021"' not in answer  # the one before it is completed if a part of it was sent
        assert answer.removesuffix(b"\r\n0\r\n\r\n").endswith(b"data: [DONE]\n\n")
        return
    used = lambda: program.counter("token_budget", "tokens") - before  # noqa: E731
    assert eventually(lambda: used() == expected), (used(), answer)


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([b"x-id: \xff\xfe\xfd"], 200),
        ([b"x-id: " + b"k" * 6000], 200),
        ([b"x-id: \xed\xa0\x80"], 200),
        ([b"x-id: a", b"X-ID: b"], 400),
        ([b"x-id:"], 401),
        ([], 401),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_keys_that_could_evade_a_budget(program: Program, lines: list[bytes], status: int) -> None:
    for _ in range(2):
        assert program.ask("reserved", *lines, target=b"/json", body=b'{"max_tokens": 1}')[0] == status


@pytest.mark.parametrize(
    "body",
    [
        b'{"max_tokens": 21}',
        b'{"max_tokens": 1, "max_tokens": 21}',
        b'{"n": 3, "max_completion_tokens": 7.0}',
        b'{"max_tokens": "21"}',
        b'{"max_tokens": 99999999999}',
        b'{"max_tokens": 1e400}',
        b'{"max_tokens": 8, "prompt": ["a", "b", "c"]}',
    ],
)
def test_more_than_the_share_of_a_worker_is_never_reserved(program: Program, body: bytes) -> None:
    assert program.ask("reserved", b"x-id: " + sha256(body).hexdigest().encode(), target=b"/json", body=body)[0] == 429


@pytest.mark.parametrize("body", [b"", b"{", b"\xff" * 50, b"[" * 50_000, b'{"max_tokens": -1}'])
def test_bodies_that_reserve_nothing(program: Program, body: bytes) -> None:
    assert program.ask("reserved", b"x-id: " + sha256(body).hexdigest().encode(), target=b"/json", body=body)[0] == 200


def test_a_client_that_leaves_pays_for_what_it_got(program: Program) -> None:
    before = program.settled("token_budget", "tokens")
    with connect(program.ports["reserved"]) as sock:
        sock.sendall(b"GET /endless HTTP/1.1\r\nHost: a\r\nx-id: leaves\r\n\r\n")
        read_until(sock, b'"text"')
    assert program.upstream.is_left.wait(40)
    assert eventually(lambda: program.counter("token_budget", "tokens") > before)


def test_an_endless_stream_is_ended(program: Program) -> None:
    program.upstream.is_left.clear()
    status, answer = program.ask("reserved", b"x-id: stays", target=b"/endless")
    assert status == 200
    assert answer.count(b'"content": "text"') in (20, 21)  # one more if a part of it was sent
    assert answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert program.upstream.is_left.wait(40), "the model does not go on"


def test_the_upstream_is_asked_for_plain_bodies(program: Program) -> None:
    program.ask("reserved", b"x-id: plain", b"Accept-Encoding: br", b"Accept-Encoding: gzip", target=b"/json")
    assert program.upstream.heads[-1]["accept-encoding"] == "identity"


def test_keys_are_not_shown(program: Program) -> None:
    for path in ("/api/v1/config_dump", "/api/v1/filters"):
        status, text = get(program.ports["admin"], path)
        assert status == 200
        assert "sk-second-002" not in text
        assert sha256(KEY).hexdigest() not in text


def test_the_end(program: Program) -> None:
    """No filter failed, and everything ends by itself."""
    assert len(BODIES) > 5
    for name in ("api_key_auth", "redis_rate_limit", "token_budget"):
        assert program.counter(name, "errors") == 0
        assert program.counter(name, "calls") > 0
    program.process.send(signal.SIGTERM)
    assert program.process.exit_code() == 0
    assert "Traceback" not in program.process.output
    assert KEY.decode() not in program.process.output
