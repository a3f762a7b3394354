"""`pymosn top`: its frames, keys and failures, with an admin API that a test makes up."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from pymosn.kit.top import LONGEST, VIEWS, AskError, Top, by_port, by_socket, keys_in, show_top
from pymosn.kit.top_views import Column, UnknownPathError, table_of

POINT = {
    "time": 1000.0,
    "seconds": 1.0,
    "requests": 12.5,
    "failed": 0.5,
    "read": 2048.0,
    "written": 0.0,
    "connections": 1.0,
    "p50": 0.0034,
    "p90": None,
    "p99": 1.5,
    "status": {"2xx": 12.0, "3xx": 0.0, "4xx": 0.5, "5xx": 0.0, "other": 0.0},
    "reasons": {"no_route": 0.5},
    "active": 3,
    "open": 40_000,
}
FACTS = {
    "points": [POINT, POINT],
    "now": 1000.0,
    "started": 400.0,
    "pid": 42,
    "program": "1.2.3",
    "state": 6,
    "draining": False,
    "config_version": 7,
    "memory": 50 << 20,
    "cpu": 0.25,
    "counts": {"workers": 2, "running": 2, "hosts": 5, "clusters": 2, "failed_checks": 1, "ejected": 0},
}
RATES = {"rate_requests": 2.0, "rate_failed": 0.0, "p50": 0.001, "p99": None, "open": 1}
HOST = {"address": "10.0.0.1:80", "cluster": "c", "health": "failed_active_check", "why": "refused \x1b[31m", **RATES}
FILTER = {"name": "Tenant", "type": "python", "listener": "l", "counters": {"calls": 9, "errors": 1}, "mean_us": 12.0}
NEW_FILTER = {
    "name": "New",
    "type": "python",
    "listeners": ["a", "b"],
    "calls": 5,
    "errors": 0,
    "mean_seconds": 0.001,
    "p99_seconds": 0.002,
    "last_error": {"message": "no tenant"},
}
EXCHANGE = {
    "status": 503,
    "method": "GET",
    "host": "h",
    "path": "/a\x07",
    "reason": "connect_refused",
    "route": None,
    "upstream": "10.0.0.1:80",
    "attempts": [{}, {}],
    "duration": 0.02,
}
PROCESS = {"role": "worker 1", "pid": 43, "state": "running", "started": 400.0, "cpu": 0.5, "memory": 1 << 20, "threads": 1}


class Api:
    """What the admin API answers, by the beginning of the path; `asked`: the paths."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers: dict[str, Any] = {
            "/api/v1/live/overview": FACTS,
            "/api/v1/live/hosts": {"rows": [HOST] * 20, "matched": 300},
            "/api/v1/live/listeners": {"rows": [], "matched": 0},
            "/api/v1/live/clusters": {
                "rows": [{"name": "c", "hosts": 2, "usable": 1, "active": 0, "retries": 4, **RATES}],
                "matched": 1,
            },
            "/api/v1/live/routes": {
                "rows": [
                    {"table": "t", "virtual_host": "v", "match": "any request", "action": "status 200", "hits": 5, **RATES}
                ],
                "matched": 1,
            },
            "/api/v1/live/workers": {"processes": [PROCESS], "time": 1000.0, "generations": {"generations": []}},
            "/api/v1/filters": [FILTER],
            "/api/v1/exchanges": {"failed": [EXCHANGE], "slow": []},
        }

    def get(self, target: str) -> Any:
        self.asked.append(target)
        path = target.partition("?")[0]
        if path not in self.answers:
            raise UnknownPathError(target)
        return self.answers[path]


def text_of(top: Top, height: int = 30, width: int = 140) -> str:
    output = io.StringIO()
    Console(file=output, width=width).print(top.frame(width, height))
    return output.getvalue()


@pytest.fixture
def api() -> Api:
    return Api()


def at(api: Api, view: str) -> Top:
    top = Top(api.get)
    top.view = VIEWS.index(view)
    return top


def test_the_overview_has_rates_and_plots(api: Api) -> None:
    text = text_of(at(api, "overview"))
    assert "pid 42  running  up 10 min  version 7  2 workers  50 MiB  25.0 % CPU" in text
    for part in ("requests", "12.5/s", "3.40 ms", "1.50 s", "40k", "2 KiB/s", "5 hosts in 2 clusters, 1 fail their check"):
        assert part in text
    assert re.search(r"latency p90 +- ", text), "unknown is a dash"
    assert "failures of the last 2 s: no_route 1" in text
    api.answers["/api/v1/live/overview"] = {**FACTS, "points": []}
    assert "waiting for data" in text_of(at(api, "overview"))


@pytest.mark.parametrize(
    ("view", "parts"),
    [
        ("hosts", ("10.0.0.1:80", "fails check", "2/s", "req")),
        ("filters", ("Tenant", "12 us", "mean", "errors")),
        ("exchanges", ("503", "GET h/a?", "connect_refused", "20 ms")),
        ("clusters", ("usable", "failed", "p99")),
        ("overview", ("8exchanges", "25.0 % CPU")),
    ],
)
def test_a_terminal_of_80_columns_has_what_matters(api: Api, view: str, parts: tuple[str, ...]) -> None:
    api.answers["/api/v1/filters"] = [FILTER | {"listener": "a very long name of a listener " * 3}]
    text = text_of(at(api, view), width=80)
    for part in parts:
        assert part in text
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1].startswith("1overview 2listeners"), "nothing is folded into further lines"


def test_texts_share_what_numbers_leave() -> None:
    columns = [
        Column("name", lambda row: row["name"]),
        Column("n", lambda row: "1", True),
        Column("why", lambda row: "x" * 50, rank=1),
    ]
    rows = [{"name": "a" * 40}]
    assert [column.width for column in table_of(columns, rows, 200).columns] == [40, 8, 50]
    assert [column.width for column in table_of(columns, rows, 80).columns] == [40, 8, 26]
    assert [column.width for column in table_of(columns, rows, 36).columns] == [24, 8], "the reason is left out"


@pytest.mark.parametrize(
    ("view", "parts"),
    [
        ("hosts", ("10.0.0.1:80", "fails check", "2/s", "rows 1 to 23 of 300")),
        ("listeners", ("no listeners",)),
        ("clusters", ("retries", "4")),
        ("routes", ("t/v", "status 200", "5")),
        ("workers", ("worker 1", "43", "10 min", "50.0 %", "1 MiB")),
        ("filters", ("Tenant", "12 us", "9")),
        ("exchanges", ("503", "GET h/a?", "connect_refused", "20 ms")),
    ],
)
def test_each_view(api: Api, view: str, parts: tuple[str, ...]) -> None:
    text = text_of(at(api, view))
    for part in parts:
        assert part in text
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "None" not in text


def test_filters_of_later_versions_and_a_version_without_exchanges(api: Api) -> None:
    api.answers["/api/v1/filters"] = {"filters": [FILTER, NEW_FILTER]}
    text = text_of(at(api, "filters"))
    assert "a, b" in text
    assert "no tenant" in text
    del api.answers["/api/v1/exchanges"]
    assert "keeps no stories of exchanges" in text_of(at(api, "exchanges"))
    api.answers["/api/v1/exchanges"] = {"failed": [], "slow": [{**EXCHANGE, "reason": ""}]}
    assert "GET h/a?" in text_of(at(api, "exchanges"))


def test_only_the_rows_that_fit_are_asked_for_and_keys_move_them(api: Api) -> None:
    top = at(api, "hosts")
    text_of(top, height=17)
    assert "limit=10" in api.asked[-1]
    assert top.on_key("page down")
    assert top.on_key("down")
    text_of(top, height=17)
    assert "offset=11&limit=10" in api.asked[-1]
    for _ in range(100):
        top.on_key("page down")
    assert top.offset == 290, "the last page"
    top.on_key("up")
    assert top.offset == 289
    assert top.on_key("next")
    assert (VIEWS[top.view], top.offset) == ("routes", 0)
    top.on_key("1")
    top.on_key("previous")
    assert VIEWS[top.view] == "exchanges"
    assert not top.on_key("quit")


def test_the_keys_of_terminals() -> None:
    assert keys_in(b"\x1b[A\x1b[6~\t4jq") == ["up", "page down", "next", "4", "down", "quit"]
    assert keys_in(b"\x1b[Z\x1bOC") == ["previous", "next"]
    assert keys_in(b"xyz") == []
    assert keys_in(b"\x1b[99~q") == [], "an unknown sequence ends what is read"


def test_an_answer_of_another_form_is_an_error(api: Api) -> None:
    api.answers["/api/v1/live/overview"] = {"points": []}
    with pytest.raises(AskError, match="unexpected form"):
        Top(api.get).frame(80, 24)
    api.answers.clear()
    with pytest.raises(AskError, match="older version"):
        Top(api.get).frame(80, 24)


class Server:
    """An HTTP server with one answer for each path; `tokens`: the tokens that it got."""

    def __init__(self, api: Api) -> None:
        self.tokens: list[str] = []
        self.status = 200
        self.body = b""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.tokens.append(self.headers.get("authorization", ""))
                path = self.path.partition("?")[0]
                known = path in api.answers
                body = outer.body or json.dumps(api.answers.get(path)).encode()
                self.send_response(outer.status if known else 404)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server(api: Api) -> Iterator[Server]:
    server = Server(api)
    yield server
    server.close()


def test_a_port_is_asked_with_the_token_and_its_failures_are_named(server: Server) -> None:
    get = by_port("127.0.0.1", server.port, "secret")
    assert get("/api/v1/live/overview?history=1")["pid"] == 42
    assert server.tokens == ["Bearer secret"]
    with pytest.raises(UnknownPathError):
        get("/nothing")
    server.status, server.body = 403, b"no \x1b[31m"
    with pytest.raises(AskError, match=r"answered 403: no \?\[31m"):
        get("/api/v1/filters")
    server.status, server.body = 200, b"not json"
    with pytest.raises(AskError, match=r"no answer from 127\.0\.0\.1"):
        get("/api/v1/filters")
    server.body = b"1" * (LONGEST + 1)
    with pytest.raises(AskError, match="more than"):
        get("/api/v1/filters")


def test_nothing_listens() -> None:
    with pytest.raises(AskError, match=r"no answer from 127\.0\.0\.1:1"):
        by_port("127.0.0.1", 1)("/")
    with pytest.raises(AskError, match="no process found at /nonexistent/sock"):
        by_socket("/nonexistent/sock")("/")


@pytest.mark.parametrize("address", ["nonsense", "host:", "host:0", "host:99999"])
def test_an_address_must_have_a_port(address: str) -> None:
    done = CliRunner().invoke(show_top, ["--admin", address, "--once"])
    assert done.exit_code == 2
    assert "neither HOST:PORT nor unix:PATH" in done.output


def test_one_frame_for_scripts(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pymosn.kit.top.time.sleep", lambda seconds: None)
    # The second is what the process log has.
    for address in (f"127.0.0.1:{server.port}", f"http://127.0.0.1:{server.port}/ui/"):
        done = CliRunner().invoke(show_top, ["--admin", address, "--once", "--view", "workers"])
        assert done.exit_code == 0, done.output
        assert "worker 1" in done.output
    assert "q quit" not in done.output
