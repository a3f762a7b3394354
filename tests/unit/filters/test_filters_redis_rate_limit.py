"""`redis_rate_limit`: counters in a Redis server that is simulated, or slow, or not there."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from shipped_kit import of_route, problems, shipped
from tests.kit.fake_redis import FakeRedis

from pymosn.testing import Request, Response, Result, World

NAME = "RedisRateLimitFilter"
Fields = list[tuple[str, str]]


@pytest.fixture
def redis() -> Iterator[FakeRedis]:
    server = FakeRedis()
    yield server
    server.close()


def world(redis: FakeRedis, route: dict[str, Any] | None = None, ip: str = "192.0.2.1", **config: Any) -> World:
    settings = {"url": redis.url, "requests": 2, "per": "1h", "timeout": "5s", **config}
    own = of_route("redis_rate_limit", route) if route is not None else None
    return World(shipped("redis_rate_limit", settings), route_config=own, client_ip=ip)


def ask(made: World, *requests: Request) -> list[Result]:
    async def talk() -> list[Result]:
        await made.start()
        try:
            return [await made.send(request) for request in requests]
        finally:
            await made.stop()

    return asyncio.run(talk())


def statuses(redis: FakeRedis, fields: list[Fields], **config: Any) -> list[int]:
    return [result.status for result in ask(world(redis, **config), *(Request("GET", "/", each) for each in fields))]


def test_requests_beyond_the_rate(redis: FakeRedis) -> None:
    results = ask(world(redis, response_headers=True, body="slow down"), *[Request()] * 4)
    assert [result.status for result in results] == [200, 200, 429, 429]
    assert [result.headers["ratelimit-remaining"] for result in results] == ["1", "0", "0", "0"]
    assert {result.headers["ratelimit-limit"] for result in results} == {"2"}
    assert (results[2].text, results[2].reason) == ("slow down", "rate_limited")
    assert 3500 < int(results[2].headers["retry-after"]) <= 3600
    assert "retry-after" not in results[0].headers


def test_response_headers_replace_those_of_the_upstream(redis: FakeRedis) -> None:
    made = World(
        shipped("redis_rate_limit", {"url": redis.url, "requests": 5, "timeout": "5s", "response_headers": True}),
        Response(200, "", [("RateLimit-Remaining", "999"), ("ratelimit-remaining", "998")]),
    )
    (result,) = ask(made, Request())
    assert result.headers.get_all("ratelimit-remaining") == ["4"]


def test_all_workers_count_together(redis: FakeRedis) -> None:
    assert statuses(redis, [[]]) == [200]
    assert statuses(redis, [[], []]) == [200, 429]
    assert list(redis.counters) == [b"pymosn:limit:2-3600000ms:client:192.0.2.1"]


def test_a_period_ends(redis: FakeRedis) -> None:
    assert statuses(redis, [[], [], []]) == [200, 200, 429]
    for key in redis.expires:
        redis.expires[key] = 0.0
    assert statuses(redis, [[], [], []]) == [200, 200, 429]


def test_a_counter_that_lost_its_expiry_does_not_block_forever(redis: FakeRedis) -> None:
    assert statuses(redis, [[], [], []]) == [200, 200, 429]
    redis.expires.clear()
    assert statuses(redis, [[]]) == [429]
    assert len(redis.expires) == 1


HEADER = {"key": "header", "header": "X-Key"}


@pytest.mark.parametrize(
    ("first", "others"),
    [
        ([("x-key", "a")], [[("X-KEY", "a")], [("x-Key", " a\t")]]),
        ([("x-key", "\udcff\udcfe")], [[("X-Key", "\udcff\udcfe")]]),
        ([("x-key", "é")], [[("x-key", "é")]]),
        ([("x-key", "a:b c\x80")], [[("x-key", "a:b c\x80")]]),
        ([("x-key", "k" * 6_000)], [[("x-key", "k" * 6_000)]]),
        ([("x-key", "")], [[], [("x-key", "  ")]]),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_the_same_key(redis: FakeRedis, first: Fields, others: list[Fields]) -> None:
    """However it is spelt, and whatever its bytes are: it is counted, once, under a short key of ASCII."""
    assert statuses(redis, [first, *others], requests=1, **HEADER) == [200, *[429] * len(others)]
    (key,) = redis.counters
    assert len(key) < 120
    assert key.decode("ascii").isprintable()


@pytest.mark.parametrize(
    "other",
    [
        [("x-key", "A")],
        [("x-key", "a,a")],
        [("x-key", "\udcff")],
        [("x-key", "client:192.0.2.1")],
        [("x-key", "a" * 6_000)],
        [],
    ],
    ids=lambda value: repr(value)[:40],
)
def test_another_key(redis: FakeRedis, other: Fields) -> None:
    assert statuses(redis, [[("x-key", "a")], other, other], requests=1, **HEADER) == [200, 200, 429]
    assert len(redis.counters) == 2


@pytest.mark.parametrize("fields", [["a", "a"], ["a", "b"], ["", "a"], ["\udcff", "a"]])
def test_repeated_keys_are_rejected(redis: FakeRedis, fields: list[str]) -> None:
    assert statuses(redis, [[("x-key", value) for value in fields]], **HEADER) == [400]
    assert not redis.counters


def test_requests_without_the_header(redis: FakeRedis) -> None:
    assert statuses(redis, [[], [("x-key", "")], []], **HEADER) == [200, 200, 429]
    assert statuses(redis, [[], [("x-key", "")]], **HEADER, without_header="reject") == [401, 401]


def test_values_of_headers_are_not_in_redis(redis: FakeRedis) -> None:
    statuses(redis, [[("x-key", "sk-very-secret")]], **HEADER)
    assert not any(b"secret" in key for key in redis.counters)


@pytest.mark.parametrize(
    ("ips", "expected"),
    [
        (["192.0.2.1", "192.0.2.2"], 2),
        (["2001:db8::1", "2001:db8::2", "2001:db8:0:0:ffff::"], 1),
        (["2001:db8::1", "2001:db8:0:1::1"], 2),
        (["::ffff:192.0.2.1", "192.0.2.1"], 1),
        ([""], 1),
    ],
)
def test_clients(redis: FakeRedis, ips: list[str], expected: int) -> None:
    for ip in ips:
        ask(world(redis, ip=ip), Request())
    assert len(redis.counters) == expected


def test_routes_have_their_own_rates(redis: FakeRedis) -> None:
    own = {"requests": 1, "per": "1m", "key": "all", "status": 503, "body": "later"}
    results = ask(world(redis, own), Request(), Request())
    assert [(result.status, result.text) for result in results] == [(200, "ok"), (503, "later")]
    assert [result.status for result in ask(world(redis, {"disabled": True}), *[Request()] * 5)] == [200] * 5
    assert list(redis.counters) == [b"pymosn:limit:1-60000ms:all"]


def test_names_separate_and_join_counters(redis: FakeRedis) -> None:
    assert statuses(redis, [[], []], requests=1, name="a") == [200, 429]
    assert statuses(redis, [[], []], requests=1, name="b") == [200, 429]
    assert statuses(redis, [[], []], requests=3, name="a") == [200, 429]


# ---- Redis fails


@pytest.mark.parametrize(("on_error", "status", "reason"), [("deny", 503, "rate_limit_unavailable"), ("allow", 200, "")])
def test_redis_that_is_not_there(redis: FakeRedis, on_error: str, status: int, reason: str) -> None:
    redis.close()
    made = world(redis, on_redis_error=on_error, timeout="5s")
    results = ask(made, *[Request()] * 5)
    assert [(result.status, result.reason) for result in results] == [(status, reason)] * 5
    assert made.counter(NAME, "failed") == 5
    assert made.counter(NAME, "errors") == 0
    lines = [line for line in made.log if "is not available" in line]
    assert len(lines) == 1, "one line per outage, not per request"


def test_redis_that_does_not_answer(redis: FakeRedis) -> None:
    """After a request that has waited in vain, the others do not even ask."""
    redis.is_silent = True

    async def talk() -> None:
        made = world(redis, timeout="500ms")
        await made.start()
        assert (await made.send(Request())).status == 503
        asked = redis.commands
        assert asked > 0
        assert [(await made.send(Request())).status for _ in range(20)] == [503] * 20
        assert redis.commands == asked
        await made.stop()

    asyncio.run(talk())


def test_redis_that_comes_back(redis: FakeRedis) -> None:
    async def talk() -> None:
        redis.close()
        made = world(redis)
        await made.start()
        pauses = []
        for _ in range(8):
            assert (await made.send(Request())).status == 503
            counters: Any = made.filters[0]._counters  # type: ignore[attr-defined]
            pauses.append(counters._next_attempt - made.clock.now)
            await made.advance(pauses[-1])
        assert [round(pause, 1) for pause in pauses] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
        redis.reopen()
        assert (await made.send(Request())).status == 200
        assert "available again" in made.log[-1]
        await made.stop()

    asyncio.run(talk())


def test_a_connection_that_was_closed_meanwhile_is_replaced(redis: FakeRedis) -> None:
    async def talk() -> None:
        made = world(redis)
        await made.start()
        assert (await made.send(Request())).status == 200
        pool = made.filters[0]._counters._redis.connection_pool  # type: ignore[attr-defined]
        for connection in pool._available_connections:
            connection._writer.close()
        assert (await made.send(Request())).status == 200
        await made.stop()

    asyncio.run(talk())


def test_clients_that_disconnect_mix_up_no_replies(redis: FakeRedis) -> None:
    """The task of a request may be cancelled at any point; the others still get their own counts."""

    async def talk() -> None:
        made = world(redis, requests=1000, max_connections=2, key="all")
        await made.start()
        counters: Any = made.filters[0]._counters  # type: ignore[attr-defined]
        counts = []
        for number in range(60):
            cut = asyncio.create_task(counters.add(f"cut{number}", 6_000))
            kept = asyncio.create_task(counters.add("kept", 6_000))
            for _ in range(number % 7):
                await asyncio.sleep(0)
            cut.cancel()
            counts.append((await kept).requests)
        assert counts == list(range(1, 61))
        await made.stop()

    asyncio.run(talk())


def test_connections_are_bounded(redis: FakeRedis) -> None:
    async def talk() -> None:
        made = world(redis, requests=100, max_connections=3, timeout="20s")
        await made.start()
        results = await asyncio.gather(*(made.send(Request()) for _ in range(40)))
        assert {result.status for result in results} == {200}
        await made.stop()

    asyncio.run(talk())
    assert redis.connections <= 3
    assert list(redis.counters.values()) == [40]


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({}, 503),
        ({"password": "wrong-one"}, 503),
        ({"password": "s3cret"}, 200),
        ({"username": "ann", "password": "s3cret"}, 200),
    ],
)
def test_passwords(given: dict[str, str], status: int) -> None:
    redis = FakeRedis("s3cret")
    made = world(redis, **given)
    (result,) = ask(made, Request())
    redis.close()
    assert result.status == status
    assert not any("s3cret" in line or "wrong-one" in line for line in made.log)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """A server's context, and the certificate that clients must trust."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    chain = folder / "ca.pem"
    chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(secret)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, folder / "key.pem")
    return context, chain


@pytest.mark.parametrize(
    ("host", "trusts", "status"), [("localhost", True, 200), ("localhost", False, 503), ("127.0.0.1", True, 503)]
)
def test_tls(certificate: tuple[ssl.SSLContext, Path], host: str, trusts: bool, status: int) -> None:
    """Certificate and name of the server are checked."""
    context, chain = certificate
    redis = FakeRedis(tls=context)
    url = f"rediss://{host}:{redis.port}/0"
    (result,) = ask(world(redis, url=url, **({"ca_file": str(chain)} if trusts else {})), Request())
    redis.close()
    assert result.status == status


# ---- settings


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ({"requests": 0}, ".requests"),
        ({"per": "0s"}, ".per"),
        ({"per": "999999h"}, ".per"),
        ({"key": "user"}, ".key"),
        ({"key": "header"}, ".header"),
        ({"header": "x"}, ".header"),
        ({"without_header": "pass"}, ".without_header"),
        ({"status": 200}, ".status"),
        ({"url": "http://a"}, ".url"),
        ({"url": "redis://"}, ".url"),
        ({"url": "redis://a:99999"}, ".url"),
        ({"url": "redis://a:0"}, ".url"),
        ({"url": "redis://a:x"}, ".url"),
        ({"url": "redis://::1"}, ".url"),
        ({"url": "redis:///0"}, ".url"),
        ({"url": "redis://a/x"}, ".url"),
        ({"url": "redis://ann:pw@a"}, ".url"),
        ({"url": "redis://a?socket_timeout=9"}, ".url"),
        ({"url": "unix://"}, ".url"),
        ({"url": "redis://["}, ".url"),
        ({"ca_file": "/absent/ca.pem", "url": "rediss://a"}, ".ca_file"),
        ({"username": "ann"}, ".username"),
        ({"timeout": "0s"}, ".timeout"),
        ({"timeout": "2m"}, ".timeout"),
        ({"max_connections": 0}, ".max_connections"),
        ({"name": "a\n"}, ".name"),
        ({"prefix": "é"}, ".prefix"),
        ({"on_redis_error": "skip"}, ".on_redis_error"),
    ],
)
def test_faults(config: dict[str, Any], path: str) -> None:
    found = problems("redis_rate_limit", {"requests": 1, **config})
    assert [fault.partition(":")[0] for fault in found] == [path]
