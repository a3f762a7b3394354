"""`token_budget`: admission, reservation, the end of streams, and the accounts of keys."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from shipped_kit import of_route, problems, shipped
from tests.kit.bare_client import BareClient, head_of

from pymosn.core.failure import CLIENT_GONE, CLIENT_WRITE_TIMEOUT, TRUNCATED_BODY, Failure
from pymosn.filters.stream.token_budget import Budget, BudgetSettings
from pymosn.filters.stream.token_ledger import Ledger, Rejected
from pymosn.proxy.exchange import ExchangeDriver
from pymosn.testing import Down, Request, Response, Result, World
from pymosn.testing.fakes import PROTOCOL

NAME = "TokenBudgetFilter"
EVENTS = {"content-type": "text/event-stream"}
DONE = b"data: [DONE]\n\n"
Fields = list[tuple[str, str]]


def event(text: str, **more: Any) -> bytes:
    whole = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": text}}], **more}
    return b"data: " + json.dumps(whole).encode() + b"\n\n"


def completion(tokens: int) -> Response:
    message = {"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": 0, "completion_tokens": tokens}}
    return Response(200, json.dumps(message), {"content-type": "application/json"})


def chat(key: str = "k", body: bytes | str = "{}", **fields: str) -> Request:
    return Request("POST", "/v1/chat/completions", {"x-client": key, **fields}, body)


def world(upstream: Any = None, route: dict[str, Any] | None = None, workers: int = 1, **config: Any) -> World:
    settings = {"tokens": 10, "header": "x-client", "count": "output", **config}
    own = of_route("token_budget", route) if route is not None else None
    return World(shipped("token_budget", settings), upstream or completion(4), route_config=own, workers=workers)


def ask(made: World, *requests: Request) -> list[Result]:
    async def talk() -> list[Result]:
        return [await made.send(request) for request in requests]

    return asyncio.run(talk())


def statuses(made: World, *requests: Request) -> list[int]:
    return [result.status for result in ask(made, *requests)]


def ledger(made: World) -> Ledger:
    (found,) = made.filters[0]._ledgers.values()  # type: ignore[attr-defined]
    assert isinstance(found, Ledger)
    return found


def used(made: World) -> list[int]:
    return [account.used for account in ledger(made)._accounts.values()]


# ---- admission


def test_a_budget_is_used_up() -> None:
    made = world()
    results = ask(made, chat(), chat(), chat(), chat(), chat("other"))
    assert [result.status for result in results] == [200, 200, 200, 429, 200]
    rejected = results[3]
    assert (rejected.reason, rejected.headers["retry-after"]) == ("rate_limited", "3600")
    assert rejected.json()["error"]["code"] == "token_budget"
    assert [made.counter(NAME, name) for name in ("tokens", "limited", "errors")] == [16, 1, 0]


def test_a_period_ends() -> None:
    async def talk() -> None:
        made = world(per="10s")
        assert [(await made.send(chat())).status for _ in range(4)] == [200, 200, 200, 429]
        await made.advance(5)
        late = await made.send(chat())
        assert (late.status, late.headers["retry-after"]) == (429, "5")
        await made.advance(5)
        assert [(await made.send(chat())).status for _ in range(4)] == [200, 200, 200, 429]

    asyncio.run(talk())


def test_workers_share_the_budget() -> None:
    assert statuses(world(workers=2), chat(), chat(), chat()) == [200, 200, 429]


@pytest.mark.parametrize(
    "fields",
    [[("X-CLIENT", "k")], [("x-client", " k ")], [("x-client", "k\t")]],
)
def test_the_same_key(fields: Fields) -> None:
    assert statuses(world(completion(10)), chat(), Request("POST", "/", fields, "{}")) == [200, 429]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([], 401),
        ([("x-client", "")], 401),
        ([("x-client", "  ")], 401),
        ([("x-client", "k"), ("x-client", "k")], 400),
        ([("x-client", "k"), ("X-Client", "\udcff")], 400),
        ([("x-client", "\udcff\udcfe")], 200),
        ([("x-client", "k" * 6_000)], 200),
        ([("x-client", "ключ")], 200),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_keys(fields: Fields, status: int) -> None:
    made = world(completion(10))
    request = Request("POST", "/", fields, "{}")
    again = {200: 429}.get(status, status)
    assert statuses(made, request, request) == [status, again]
    if status == 200:
        (key,) = ledger(made)._accounts
        assert len(key) < 80


def test_requests_without_a_key_by_address() -> None:
    assert statuses(world(completion(10), without_header="client"), Request(), Request(), chat()) == [200, 429, 200]


def test_a_tunnel_is_refused() -> None:
    """Nothing in it can be counted."""

    async def talk() -> int:
        made = world()
        client = BareClient()
        driver = ExchangeDriver(made._runtime, made._options, client, PROTOCOL)
        head = head_of(chat())
        head.raw_tunnel = b"websocket"
        driver.on_request(head, b"", True)
        await client.is_over.wait()
        assert client.head is not None
        return int(client.head.status)

    assert asyncio.run(talk()) == 403


def test_routes_have_their_own_budgets() -> None:
    own = {"tokens": 1, "header": "x-client", "count": "output"}
    assert statuses(world(route=own), chat(), chat()) == [200, 429]
    assert statuses(world(route={"disabled": True}), *[Request()] * 4) == [200] * 4


def test_a_reloaded_route_keeps_its_budget() -> None:
    """Discovery may replace routes often. Budgets are equal if their settings are, unless they have names."""

    async def talk() -> list[int]:
        made = world()
        found = []
        for name in ("", "", "other"):
            own = of_route("token_budget", {"tokens": 4, "header": "x-client", "count": "output", "name": name})
            route = made._options.slot.table.virtual_hosts[0].routes[0]  # type: ignore[union-attr]
            route.filter_configs = own
            found.append((await made.send(chat())).status)
        return found

    assert asyncio.run(talk()) == [200, 429, 200]


# ---- what counts


def test_the_upstream_is_asked_for_plain_bodies() -> None:
    (result,) = ask(world(), chat(**{"accept-encoding": "br, gzip"}))
    assert result.upstream[0].headers.get_all("accept-encoding") == ["identity"]


@pytest.mark.parametrize("status", [300, 400, 401, 429, 500, 503])
def test_errors_of_the_upstream_cost_nothing(status: int) -> None:
    made = world(Response(status, "an error of some length", {"content-type": "application/json"}), count="total")
    assert statuses(made, *[chat()] * 5) == [status] * 5
    assert len(ledger(made)) == 0


def test_input_counts_too_unless_only_output_shall() -> None:
    plain = Response(200, "12345678", {"content-type": "text/plain"})
    made = world(plain, count="total", tokens=100)
    ask(made, chat(body="x" * 40))
    assert used(made) == [12]
    made = world(plain, tokens=100)
    ask(made, chat(body="x" * 40))
    assert used(made) == [2]
    assert made.counter(NAME, "estimated") == 1


def test_the_models_own_count_corrects_the_estimate() -> None:
    pieces = [event("a long text for one token " * 2), event("", usage={"completion_tokens": 1}), DONE]
    made = world(Response(200, pieces, EVENTS), tokens=100)
    (result,) = ask(made, chat())
    assert (result.body, used(made)) == (b"".join(pieces), [1])


def test_a_response_to_head() -> None:
    request = chat()
    request.method = "HEAD"
    request.chunks = []
    assert statuses(world(), request, request) == [200, 200]


# ---- the end of a stream


def cut(pieces: list[bytes], **config: Any) -> tuple[Result, World]:
    made = world(Response(200, pieces, EVENTS), **{"tokens": 3, **config})
    (result,) = ask(made, chat())
    return result, made


def test_a_stream_ends_with_its_budget() -> None:
    pieces = [event("one "), event("two ") + event("thr ")[:20], event("thr ")[20:], event("four"), event("five"), DONE]
    made = world(Response(200, pieces, EVENTS), tokens=3)
    result, again, other = ask(made, chat(), chat(), chat("l"))
    assert result.body.startswith(event("one ") + event("two ") + event("thr "))
    assert b"four" not in result.body
    assert result.body.endswith(b'"finish_reason":"length"}]}\n\ndata: [DONE]\n\n')
    assert (result.was_reset, result.reason, made.counter(NAME, "cut")) == (False, "", 2)
    assert (again.status, other.status) == (429, 200)


def test_a_stream_in_one_piece_is_cut_between_events() -> None:
    texts = ["one ", "two ", "thr ", "four", "five"]
    result, _ = cut([b"".join(map(event, texts)) + DONE])
    assert result.body.startswith(b"".join(map(event, texts[:3])) + b'data: {"object"')
    assert b"four" not in result.body


def test_an_event_of_which_a_part_was_sent_is_completed() -> None:
    whole = event("one ") + event("two ") + event("thr ") + event("four")
    for at in range(len(whole) - len(event("four")) + 1, len(whole)):
        result, _ = cut([whole[:at], whole[at:] + event("five") + DONE])
        assert result.body.startswith(whole), at
        assert b"five" not in result.body
        events = [each for each in result.body.split(b"\n\n") if each]
        assert [json.loads(each[6:]) for each in events[:-1]]  # all of them are whole


def test_a_stream_that_ends_by_itself_is_not_cut() -> None:
    usage = event("", usage={"completion_tokens": 9})
    pieces = [event("one "), event("two "), event("thr "), event("", choices=[]), usage, DONE]
    result, made = cut(pieces)
    assert (result.body, made.counter(NAME, "cut"), used(made)) == (b"".join(pieces), 0, [9])


def test_a_part_of_an_event_does_not_use_the_budget_up() -> None:
    """Its bytes are more than its text."""
    whole = event("one ") + event("two ") + DONE
    for at in range(1, len(whole)):
        result, made = cut([whole[:at], whole[at:]])
        assert (result.body, made.counter(NAME, "cut"), used(made)) == (whole, 0, [2]), at


def test_streams_may_be_allowed_to_finish() -> None:
    pieces = [event("one "), event("two "), event("thr "), event("four"), DONE]
    result, made = cut(pieces, cut=False)
    assert (result.body, used(made)) == (b"".join(pieces), [4])


def test_other_dialects_end_with_an_error() -> None:
    deltas = [{"type": "content_block_delta", "delta": {"type": "text_delta", "text": f"{n:4}"}} for n in range(9)]
    pieces = [b"event: content_block_delta\ndata: " + json.dumps(each).encode() + b"\n\n" for each in deltas]
    result, _ = cut(pieces)
    assert result.body.startswith(b"".join(pieces[:3]) + b"event: error\ndata: ")
    assert b"   4" not in result.body


def test_streams_that_run_at_the_same_time_share_the_budget() -> None:
    async def talk() -> None:
        gates = [asyncio.Event(), asyncio.Event()]

        async def upstream(request: Request) -> Response:
            await gates[int(request.query)].wait()
            return Response(200, [event(f"t{n} ") for n in range(6)], EVENTS)

        made = world(upstream, tokens=5)
        first, second = (
            asyncio.create_task(made.send(Request("POST", f"/?{n}", {"x-client": "k"}, "{}"))) for n in range(2)
        )
        await asyncio.sleep(0.01)
        gates[0].set()
        assert b"t4 " in (await first).body
        gates[1].set()
        assert b"t0 " not in (await second).body
        assert used(made) == [7], "with the text of each that was not sent any more"

    asyncio.run(talk())


# ---- reservation


def test_parallel_requests_cannot_exceed_a_reserved_budget() -> None:
    async def talk() -> None:
        gate = asyncio.Event()

        async def upstream(request: Request) -> Response:
            await gate.wait()
            return completion(4)

        made = world(upstream, reserve=True)
        body = json.dumps({"max_tokens": 5, "messages": []})
        sending = [asyncio.create_task(made.send(chat(body=body))) for _ in range(5)]
        await asyncio.sleep(0.01)
        gate.set()
        results = [await each for each in sending]
        assert [result.status for result in results] == [200, 200, 429, 429, 429]
        assert results[2].headers["retry-after"] == "1", "what is reserved is free again soon"
        assert (used(made), next(iter(ledger(made)._accounts.values())).reserved) == ([8], 0)
        assert (await made.send(chat(body='{"max_tokens": 3}'))).status == 429
        assert (await made.send(chat(body='{"max_tokens": 2}'))).status == 200

    asyncio.run(talk())


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", 7),
        (b"{}", 7),
        (b'{"max_tokens": 5}', 5),
        (b'{"max_completion_tokens": 5}', 5),
        (b'{"max_output_tokens": 5}', 5),
        (b'{"max_tokens": 5, "max_completion_tokens": 8}', 8),
        (b'{"max_tokens": 5.5}', 6),
        (b'{"max_tokens": "5"}', 5),
        (b'{"max_tokens": 5, "n": 3}', 15),
        (b'{"max_tokens": 5, "n": 2, "best_of": 4}', 20),
        (b'{"max_tokens": 5, "n": 0}', 5),
        (b'{"max_tokens": 5, "n": -3}', 5),
        (b'{"max_tokens": 1, "max_tokens": 500}', 500),
        (b'{"max_tokens": 500, "max_tokens": 1}', 500),
        (b'{"max_tokens": 500, "max_tokens": null}', 500),
        (b'{"max_tokens": -5}', 7),
        (b'{"max_tokens": null}', 7),
        (b'{"max_tokens": true}', 7),
        (b'{"max_tokens": NaN}', 7),
        (b'{"max_tokens": 99999999999}', 10**9),
        (b'{"max_tokens": 1e12}', 10**9),
        (b'{"max_tokens": 1e999}', 10**9),
        (b'{"max_tokens": "99999999999"}', 10**9),
        (b'{"max_tokens": 1' + b"0" * 5000 + b"}", 10**9),
        (b'{"max_tokens": 99999999999, "max_tokens": 1}', 10**9),
        (b'{"max_tokens": 1, "n": 99999999999}', 10**9),
        (b'{"max_tokens": 5, "prompt": ["a", "b", "c"], "n": 2}', 30),
        (b'{"max_tokens": 5, "prompt": [[1, 2], [3]]}', 10),
        (b'{"max_tokens": 5, "prompt": [1, 2, 3]}', 5),
        (b'{"max_tokens": 5, "prompt": []}', 5),
        (b'{"max_tokens": [5]}', 7),
        (b'{"a": {"max_tokens": 5}}', 7),
        (b'[{"max_tokens": 5}]', 7),
        (b'{"max_tokens": 5', 7),
        (b"\xff\xfe{}", 7),
        (b"\xef\xbb\xbf" + b'{"max_tokens": 5}', 5),
        ('{"max_tokens": 5}'.encode("utf-16"), 5),
        (b"[" * 100_000, 7),
        (b'{"m\\u0061x_tokens": 5}', 5),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_a_request_asks_for(body: bytes, expected: int) -> None:
    settings = BudgetSettings(tokens=1, key="all", count="output", reserve=True, reserve_default=7)
    assert Budget(settings).asked(body) == expected


def test_a_reservation_has_the_input_too() -> None:
    settings = BudgetSettings(tokens=1, key="all", reserve=True)
    assert Budget(settings).asked(b'{"max_tokens": 5, "a": 1}   ') == 5 + 7


def test_a_request_that_is_too_long_to_be_read() -> None:
    made = world(reserve=True, max_body=100)
    assert statuses(made, chat(body="x" * 101), chat(body=" " * 100)) == [413, 200]


def test_a_body_that_was_read_is_forwarded_unchanged() -> None:
    body = b'{"max_tokens": 2,\r\n "x": "\xff"}'
    (result,) = ask(world(reserve=True), chat(body=body))
    assert result.upstream[0].body == body


@pytest.mark.parametrize(
    ("failure", "reserve", "expected"),
    [(CLIENT_GONE, True, 5), (CLIENT_WRITE_TIMEOUT, True, 5), (CLIENT_GONE, False, 0), (TRUNCATED_BODY, True, 0)],
    ids=str,
)
def test_a_client_that_leaves_before_the_response_pays_what_it_reserved(
    failure: Failure, reserve: bool, expected: int
) -> None:
    """Otherwise it could let a model work for nothing."""

    async def talk() -> None:
        arrived = asyncio.Event()

        async def upstream(request: Request) -> Response:
            arrived.set()
            await asyncio.Event().wait()
            return Response()

        made = world(upstream, reserve=reserve)
        request = chat(body='{"max_tokens": 5}')
        driver = ExchangeDriver(made._runtime, made._options, BareClient(), PROTOCOL)
        driver.on_request(head_of(request), b"", False)
        driver.on_data(request.body, True)
        async with asyncio.timeout(10):
            await arrived.wait()
        driver.on_reset(failure)
        accounts = list(ledger(made)._accounts.values())
        assert sum(account.used for account in accounts) == expected
        assert sum(account.reserved + account.running for account in accounts) == 0

    asyncio.run(talk())


def test_a_request_that_ends_before_it_reaches_a_model_costs_nothing() -> None:
    def upstream(request: Request) -> Response:
        raise Down("connect_refused")

    made = world(upstream, reserve=True)
    assert statuses(made, *[chat(body='{"max_tokens": 9}')] * 3) == [502] * 3
    assert len(ledger(made)) == 0


def test_a_stream_that_breaks_costs_what_was_sent() -> None:
    """A part of an event too: its client may have read it."""
    made = world(Response(200, [event("one "), event("two ")[:-2]], EVENTS), tokens=100)
    ask(made, chat())
    assert used(made) == [2]


# ---- accounts


def test_a_flood_of_keys_resets_no_budget() -> None:
    async def talk() -> None:
        made = world(completion(10), max_keys=3, per="100s")
        assert [(await made.send(chat(key))).status for key in "abc"] == [200] * 3
        late = await made.send(chat("d"))
        assert (late.status, late.headers["retry-after"]) == (429, "100")
        assert [(await made.send(chat(key))).status for key in "abcd"] == [429] * 4
        assert (made.counter(NAME, "full"), len(ledger(made))) == (2, 3)
        await made.advance(100)
        assert [(await made.send(chat(key))).status for key in "dabc"] == [200, 200, 200, 429]

    asyncio.run(talk())


def test_keys_that_have_used_nothing_take_no_room() -> None:
    made = world(Response(401, "unknown"), max_keys=2)
    assert statuses(made, *(chat(f"guess{n}") for n in range(50))) == [401] * 50
    assert len(ledger(made)) == 0


def test_a_ledger() -> None:
    book = Ledger(10, 100.0, 5)
    use = book.begin("a", 4, 0.0)
    assert use.charge(3) == 3
    assert (use.account.used, use.account.reserved) == (3, 1), "what was used is no longer reserved"
    with pytest.raises(Rejected) as caught:
        book.begin("a", 7, 50.0)
    assert caught.value.wait == 1.0
    other = book.begin("a", 6, 50.0)
    use.charge(1)  # the model's own count is lower
    book.end(use)
    assert (use.account.used, use.account.reserved) == (1, 6)
    other.charge(20)
    book.end(other)
    assert (use.account.used, use.account.reserved, use.account.running) == (21, 0, 0)
    with pytest.raises(Rejected) as caught:
        book.begin("a", 0, 99.0)
    assert caught.value.wait == 1.0


def test_a_request_longer_than_a_period_counts_in_the_one_in_which_it_ends() -> None:
    book = Ledger(10, 100.0, 1)
    use = book.begin("a", 0, 0.0)
    use.charge(5)
    with pytest.raises(Rejected) as caught:
        book.begin("b", 0, 150.0)  # `a` still has a request, so its account stays, in a new period
    assert caught.value.is_full
    assert use.account.used == 0
    use.charge(8)
    use.charge(2)
    assert use.account.used == 0, "never negative"
    use.charge(9)
    book.end(use)
    assert (use.account.used, use.account.ends, len(book)) == (7, 250.0, 1)
    book.drop_expired(250.0)
    assert len(book) == 0


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ({"tokens": 0}, ".tokens"),
        ({"tokens": 10**10}, ".tokens"),
        ({"per": "0s"}, ".per"),
        ({"per": "999999h"}, ".per"),
        ({"count": "input"}, ".count"),
        ({"key": "user", "header": ""}, ".key"),
        ({"header": ""}, ".header"),
        ({"header": "a b"}, ".header"),
        ({"without_header": "pass"}, ".without_header"),
        ({"token_size": 0}, ".token_size"),
        ({"reserve_default": 5}, ".reserve_default"),
    ],
)
def test_faults(config: dict[str, Any], path: str) -> None:
    found = problems("token_budget", {"tokens": 5, "header": "x-client", **config})
    assert [fault.partition(":")[0] for fault in found] == [path]
