import json

import pytest
from tests.kit import Lines
from tests.unit.control.asgi_client import AsgiClient
from tests.unit.control.fake_plane import PATH, FakePlane

from pymosn.control.admin import create_app


@pytest.fixture
def plane() -> FakePlane:
    return FakePlane()


@pytest.fixture
def log() -> Lines:
    return Lines()


@pytest.fixture
def client(plane: FakePlane, log: Lines) -> AsgiClient:
    environment = {"MOSN_CONFIG": "/c.json", "MOSN_API_TOKEN": "t", "HOME": "/root"}
    return AsgiClient(create_app(plane, log, environment=environment))


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/api/v1/version", 200, "mosn version: 1.2.3"),
        ("/api/v1/states", 200, "pid=42&state=6\n"),
        ("/api/v1/features?key=XdsMtlsEnable", 200, "true"),
        ("/api/v1/features?key=nothing", 200, "false"),
        ("/api/v1/features?KEY=XdsMtlsEnable", 200, "false"),
        ("/api/v1/stats?key=", 200, "no metrics key: "),
        ("/api/v1/stats?KEY=downstream.listener.a", 200, "no metrics key: "),
        ("/api/v1/stats?key=a&x=b", 400, "only support one parameter"),
        ("/api/v1/stats?key=upstream.cluster.x", 200, "no metrics key: upstream.cluster.x"),
        ("/api/v1/config_dump?listener=a&cluster=c", 400, "only support one parameter"),
    ],
)
def test_text_answers(client: AsgiClient, path: str, status: int, text: str) -> None:
    answer = client.get(path)
    assert (answer.status, answer.text) == (status, text)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-type"].startswith("text/plain")
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/api/v1/get_loglevel", {"": "INFO", PATH: "INFO"}),
        ("/api/v1/features", {"auto_config": False, "XdsMtlsEnable": True}),
        ("/api/v1/workers", [{"pid": 43, "state": "running", "started": 1.5}]),
        ("/api/v1/config_dump?listener=a", {"name": "a", "address": "127.0.0.1:1"}),
        ("/api/v1/config_dump?listener=a&listener=b", {"name": "a", "address": "127.0.0.1:1"}),
        ("/api/v1/config_dump?router=unknown", {}),
        ("/api/v1/config_dump?allrouters", {"r": {"router_config_name": "r"}}),
        ("/api/v1/config_dump?allclusters=1", {"c": {"name": "c"}}),
        ("/api/v1/env?key=MOSN_CONFIG&key=MOSN_X", {"env": {"MOSN_CONFIG": "/c.json"}, "not_found": ["MOSN_X"]}),
        ("/api/v1/env?key=MOSN_CONFIG", {"env": {"MOSN_CONFIG": "/c.json"}, "not_found": None}),
        ("/api/v1/env?key=", {"env": {}, "not_found": [""]}),
    ],
)
def test_json_answers(client: AsgiClient, path: str, value: object) -> None:
    answer = client.get(path)
    assert (answer.status, answer.json()) == (200, value)


def test_the_whole_dump(client: AsgiClient) -> None:
    answer = client.get("/api/v1/config_dump")
    assert list(answer.json()) == ["mosn_config", "listener", "cluster", "routers", "extends"]
    assert answer.json()["extends"] == [{"type": "x", "config": {"k": 1}}]
    assert client.get("/api/v1/config_dump?listener=a").text.startswith('{\n "name"')
    assert client.get("/api/v1/config_dump?cluster=x").json()["keepalive"] == {"interval": "0s", "timeout": "0s"}
    wrong = client.get("/api/v1/config_dump?sever=1")
    assert (wrong.status, wrong.json()["error"]) == (500, "internal error")
    assert "unknown parameter 'sever'; one of mosnconfig" in wrong.json()["reason"]


def test_stats_are_sums_as_text(client: AsgiClient) -> None:
    text = client.get("/api/v1/stats").text
    assert text.startswith('{\n\t"downstream"')
    stats = json.loads(text)
    assert stats["downstream"]["proxy.global"]["request_total"] == "6"
    assert stats["downstream"]["listener.a"]["request_total"] == "6"
    one = client.get("/api/v1/stats?key=downstream.listener.a").json()
    assert list(one["downstream"]) == ["listener.a"]
    assert "request_total:6" in client.get("/api/v1/stats_glob").text.splitlines()
    scraped = client.get("/metrics")
    assert scraped.headers["content-type"].startswith("text/plain")
    assert 'pymosn_requests_received_total{listener="a"} 6.0' in scraped.text


def test_the_index_lists_every_path(client: AsgiClient) -> None:
    title, *lines = client.get("/").text.splitlines()
    assert title == "supported APIs:"
    assert {"/metrics", "/api/v1/stats", "/api/v1/disable_log", "/api/v1/disbale_log", "/api/v1/explain"} <= set(lines)
    assert {"/api/v1/update_config changes", "/api/v1/reload changes", "/api/v1/filters/allocations changes"} <= set(lines)
    for line in lines:
        assert client.get(line.removesuffix(" changes")).status != 404


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
@pytest.mark.parametrize("path", ["/", "/api/v1", "/api/v1/"])
def test_the_index_has_several_paths_and_any_method(client: AsgiClient, path: str, method: str) -> None:
    answer = client.request(method, path)
    assert (answer.status, answer.text) == (200, client.get("/").text)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("path", ["/nothing", "/api/v1/stats/", "/API/V1/version", "//api/v1/version", "/api/v1/Stats"])
def test_an_unknown_path_is_answered_with_the_index(client: AsgiClient, path: str, method: str) -> None:
    answer = client.request(method, path)
    assert (answer.status, answer.text) == (404, client.get("/").text)


def test_what_only_shows_takes_any_method_as_in_mosn(client: AsgiClient) -> None:
    for method in ("GET", "POST", "PUT", "DELETE"):
        assert client.request(method, "/api/v1/version").text == "mosn version: 1.2.3"
    assert client.request("HEAD", "/api/v1/version").content == b""
    assert client.request("OPTIONS", "/api/v1/version").headers["allow"] == "GET, HEAD, POST"


def test_levels_are_changed_by_post(client: AsgiClient, plane: FakePlane) -> None:
    answer = client.post("/api/v1/update_loglevel", [json.dumps({"log_path": PATH, "log_level": "DEBUG"}).encode()])
    assert (answer.status, answer.text) == (200, "update logger success\n")
    assert plane.levels == {PATH: "DEBUG", "": "INFO"}


@pytest.mark.parametrize("body", [{"log_level": "DEBUG"}, {"log_path": "", "log_level": "DEBUG"}, {"LOG_LEVEL": "DEBUG"}])
def test_without_a_path_the_level_is_that_of_the_start_logger(client: AsgiClient, plane: FakePlane, body: object) -> None:
    assert client.post("/api/v1/update_loglevel", [json.dumps(body).encode()]).status == 200
    assert plane.levels == {PATH: "INFO", "": "DEBUG"}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is empty"),
        (b"{", "the body is not JSON"),
        (b"\xff", "the body is not UTF-8"),
        (b"[" * 60_000, "the body is not JSON"),
        (b"[]", "the body is not an object"),
        (b'{"log_pth": "/logs/mosn.log", "log_level": "INFO"}', "unknown key 'log_pth'; did you mean 'log_path'?"),
        (b'{"log_path": "/logs/mosn.log", "log_level": "INFO", "more": 1}', "unknown key 'more'"),
        (b'{"log_path": "/logs/mosn.log", "LOG_PATH": "", "log_level": "INFO"}', "the key 'log_path' is repeated"),
        (b'{"log_level": "INFO", "log_level": "WARN"}', "the key 'log_level' is repeated"),
        (b'{"log_path": 1, "log_level": "INFO"}', "the body is invalid: Expected `str`, got `int`"),
        (b'{"log_path": "/logs/mosn.log"}', "log_level is missing"),
        (b'{"log_path": "/logs/mosn.log", "log_level": "debug"}', "unknown log level 'debug'"),
        (b'{"log_path": "/x", "log_level": "INFO"}', "no log at '/x'"),
    ],
)
def test_faults_of_a_level_are_named(client: AsgiClient, plane: FakePlane, body: bytes, message: str) -> None:
    answer = client.post("/api/v1/update_loglevel", [body])
    assert answer.status == 400
    assert answer.text.startswith('{\n\t"error": "update logger failed",\n\t"reason": ')
    assert answer.text.endswith("\n}\n")
    assert answer.json()["reason"].startswith(message)
    assert plane.levels == {PATH: "INFO", "": "INFO"}


def test_logs_are_switched_also_by_the_misspelt_path(client: AsgiClient, plane: FakePlane) -> None:
    for path, text in [
        ("enable_log", "enable logger success\n"),
        ("disable_log", "disable logger success\n"),
        ("disbale_log", "disable logger success\n"),
    ]:
        assert client.post(f"/api/v1/{path}", [PATH.encode()]).text == text
    assert plane.switched == [(PATH, True), (PATH, False), (PATH, False)]
    for body in (b"/x", PATH.encode() + b"\n", b"{}"):
        wrong = client.post("/api/v1/enable_log", [body])
        assert (wrong.status, wrong.json()["error"]) == (400, "enable logger failed")
        assert wrong.json()["reason"].startswith("no log at ")
    assert client.post("/api/v1/enable_log", [b""]).text == "enable logger success\n"
    assert plane.switched[3:] == [("", True)]


@pytest.mark.parametrize("path", ["update_loglevel", "enable_log", "disable_log", "disbale_log"])
def test_reading_changes_nothing(client: AsgiClient, plane: FakePlane, path: str) -> None:
    answer = client.get(f"/api/v1/{path}?log_path={PATH}&log_level=DEBUG")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert (plane.levels, plane.switched) == ({PATH: "INFO", "": "INFO"}, [])


@pytest.mark.parametrize(
    "target",
    [
        f"/api/v1/disable_log?log_path={PATH}",
        "/api/v1/stop?now=false",
        "/api/v1/reload?config=/x.json",
        "/api/v1/reload_filters?name=x",
        "/api/v1/update_hosts?cluster=c",
        "/drain_listeners?gracefull",
        "/healthcheck/fail?now",
        "/quitquitquit?x",
        "/api/v1/filters/allocations?seconds=1",
    ],
)
def test_an_unknown_parameter_changes_nothing(client: AsgiClient, plane: FakePlane, target: str) -> None:
    answer = client.post(target)
    name = target.partition("?")[2].partition("=")[0]
    assert (answer.status, answer.text) == (400, f"unknown parameter {name!r}; nothing was changed\n")
    assert (plane.switched, plane.stops, plane.last.source) == ([], [], "start")


@pytest.mark.parametrize("path", ["stop", "reload", "upgrade", "reload_filters"])
@pytest.mark.parametrize("body", [b'{"confg": "/x"}', b"[]", b"{", b"5", b'"now"', b'{"config": 5}', b"\xff"])
def test_a_wrong_body_changes_nothing(client: AsgiClient, plane: FakePlane, path: str, body: bytes) -> None:
    answer = client.post(f"/api/v1/{path}", [body])
    assert (answer.status, list(answer.json())) == (400, ["error"])
    assert (plane.stops, plane.upgrades, plane.last.source) == ([], [], "start")


def test_keys_of_bodies_match_in_any_case(client: AsgiClient, plane: FakePlane) -> None:
    assert client.post("/api/v1/stop", [b'{"NOW": true, "Config": "/conf/mosn.json"}']).status == 202
    assert plane.stops == [True]


@pytest.mark.parametrize("path", ["config_dump", "stats", "states", "env", "get_loglevel", "features"])
def test_read_only_paths_reject_post(client: AsgiClient, path: str) -> None:
    answer = client.post(f"/api/v1/{path}")
    assert answer.status == 405
    assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_web_pages_change_nothing(client: AsgiClient, plane: FakePlane, headers: dict[str, str]) -> None:
    answer = client.post("/api/v1/disable_log", [PATH.encode()], headers)
    assert answer.status == 403
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert plane.switched == []


@pytest.mark.parametrize(
    ("body", "headers"),
    [([b"x" * 40000, b"x" * 25537], {}), ([b"x" * 65537], {}), ([b""], {"content-length": "65537"})],
)
def test_a_body_has_a_limit(client: AsgiClient, body: list[bytes], headers: dict[str, str]) -> None:
    answer = client.post("/api/v1/enable_log", body, headers)
    assert answer.status == 413
    assert "65536" in answer.text


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 400),
        ("?KEY=MOSN_CONFIG", 400),
        ("?key=HOME", 403),
        ("?key=MOSN_CONFIG&key=HOME", 403),
        ("?key=MOSN_API_TOKEN", 403),
    ],
)
def test_the_environment_stays_private(client: AsgiClient, query: str, status: int) -> None:
    answer = client.get(f"/api/v1/env{query}")
    assert answer.status == status
    assert "/root" not in answer.text


def test_probes_know_the_stage(client: AsgiClient, plane: FakePlane) -> None:
    for stage, status, text in [(4, 503, "starting"), (6, 200, "ready"), (8, 503, "draining"), (9, 503, "draining")]:
        plane.stage = stage
        answer = client.get("/ready")
        assert (answer.status, text in answer.text) == (status, True)
        assert client.get("/healthz").status == 200


def test_no_worker_is_not_ready(client: AsgiClient, plane: FakePlane) -> None:
    plane.workers = list  # type: ignore[method-assign, assignment]
    assert client.get("/ready").status == 503


@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ("?status=all", 200, "\n"),
        ("?status=x", 400, "plugin x no register\n"),
        ("?enable=x&status=all", 400, "plugin x no register\n"),
        ("?disable=all", 400, "plugin all no register\n"),
        ("?STATUS=all", 400, "Usage:\n/plugin?status=all\n"),
        ("", 400, "Usage:\n/plugin?status=all\n"),
    ],
)
def test_no_plugin_is_registered(client: AsgiClient, query: str, status: int, text: str) -> None:
    for method in ("GET", "POST"):
        answer = client.request(method, f"/api/v1/plugin{query}")
        assert answer.status == status
        assert answer.text.startswith(text)


def test_an_error_is_logged_and_not_shown(client: AsgiClient, plane: FakePlane, log: Lines) -> None:
    plane.broken = True
    answer = client.get("/api/v1/stats")
    assert answer.status == 500
    assert "workers" not in answer.text
    assert list(zip(log.alerts, log.lines, strict=True)) == [
        ("mosn.admin.admin_failed", "GET /api/v1/stats failed: RuntimeError: workers do not answer"),
    ]


def test_a_change_is_applied_or_all_its_faults_are_reported(client: AsgiClient, plane: FakePlane) -> None:
    cluster = {"type": "cluster", "config": {"name": "new", "hosts": [{"address": "127.0.0.1:1"}]}}
    answer = client.post("/api/v1/update_config", [json.dumps(cluster).encode()])
    assert (answer.status, answer.json()["applied"]) == (200, True)
    assert plane.in_force.cluster_manager.clusters[-1].name == "new"
    answer = client.post("/debug/update_config", [b'{"type": "cluster", "config": {"name": "", "connect_timeout": "x"}}'])
    assert (answer.status, answer.json()["applied"]) == (400, False)
    assert sum(fault["severity"] == "error" for fault in answer.json()["faults"]) == 2
    assert client.get("/api/v1/last_change").json()["source"] == "admin /debug/update_config"


@pytest.mark.parametrize(
    "path",
    ["update_config", "update_route", "update_hosts", "remove_config", "explain"],
)
def test_changes_are_posted(client: AsgiClient, path: str) -> None:
    assert client.get(f"/api/v1/{path}").status == 405
    assert client.post(f"/api/v1/{path}", [b"{"]).status == 400


def test_live_views_for_programs_and_for_people(client: AsgiClient) -> None:
    (cluster,) = client.get("/api/v1/clusters?name=c").json()
    assert [(host["health"], host["ejected"]) for host in cluster["hosts"]] == [("failed_active_check", 0), ("ejected", 1)]
    text = client.get("/api/v1/clusters?format=text").text
    assert "10.0.0.1:80 (one) weight 1, failed_active_check: 2 requests of 9, 3 connections" in text
    assert "10.0.0.2:80 weight 1, ejected by 1 of 2 workers: 2 requests of 9, 3 connections" in text
    assert client.get("/api/v1/clusters?name=nobody").json() == []
    tables = client.get("/api/v1/routes").json()
    assert [table["router_config_name"] for table in tables] == ["client_router", "server_router"]
    assert '0. prefix "/" -> cluster clientCluster' in client.get("/api/v1/routes?name=client_router&format=text").text


def test_explain_uses_the_active_configuration(client: AsgiClient) -> None:
    question = {"method": "GET", "url": "http://127.0.0.1:2045/x"}
    answer = client.post("/api/v1/explain", [json.dumps(question).encode()])
    assert answer.status == 200
    assert answer.json()["listener"]["name"] == "clientListener"
    cluster = answer.json()["cluster"]
    assert (cluster["health"], cluster["hosts"][0]["health"]) == ("live", "failed_active_check")
    assert answer.json()["reply"]["reason"] == "all_unhealthy"
    text = client.post("/api/v1/explain?format=text", [json.dumps(question).encode()]).text
    assert "with the health of now" in text
    assert "host 127.0.0.1:2046 weight 1, failed_active_check" in text


def test_filters_for_programs_and_for_people(client: AsgiClient) -> None:
    (view,) = client.get("/api/v1/filters").json()["filters"]
    assert (view["name"], view["counters"]) == ("Tenant", {"calls": 3, "errors": 0})
    text = client.get("/api/v1/filters?format=text").text
    assert "l: Tenant (filters.py): calls 3, errors 0, 1.5 us a call, p99 4.0 us\n" in text
    assert ", worker 1, on_request: ValueError: no\n    filters.py:9 in on_request\n" in text
    assert "  blocked a worker for 2.5 s:\n    filters.py:7 in on_request\n" in text


def test_a_tap_is_a_stream_of_lines(client: AsgiClient) -> None:
    answer = client.post("/api/v1/tap", [b'{"statuses": ["5xx"], "count": 2}'])
    assert (answer.status, answer.text) == (200, '{"tap":{}}\n{"exchange":{"statuses":["5xx"],"count":2}}\n')
    assert client.get("/api/v1/tap").status == 405


WRONG_TAPS = [b'{"status": "5xx"}', b'{"statuses": ["6xx"]}', b'{"sample": 0}', b"[]", b'{"bodies": 99999999}']


@pytest.mark.parametrize(("body", "status"), [*((body, 400) for body in WRONG_TAPS), (b'{"count": 7}', 429)])
def test_a_wrong_tap(client: AsgiClient, body: bytes, status: int) -> None:
    answer = client.post("/api/v1/tap", [body])
    assert answer.status == status
    assert "error" in answer.json()


def test_stories_of_exchanges_for_programs_and_for_people(client: AsgiClient) -> None:
    found = client.get("/api/v1/exchanges").json()
    assert [story["path"] for story in found["failed"]] == ["/0", "/1", "/2"]
    assert (len(found["slow"]), found["missed"]) == (1, 2)
    assert set(client.get("/api/v1/exchanges?kind=slow").json()) == {"slow", "missed"}
    assert len(client.get("/api/v1/exchanges?kind=failed&limit=2").json()["failed"]) == 2
    text = client.get("/api/v1/exchanges?format=text").text
    assert " 502 12.3 ms Http1 GET shop.example/orders (connect_refused)\n" in text
    assert "    +1 ms 10.0.0.1:80: lost in 2.5 s\n" in text
    assert "received +0 ms; 3 bytes in, 9 out\n" in text
    assert "2 more were not kept" in text


@pytest.mark.parametrize(
    "query", ["kind=all", "limit=0", "limit=x", "limit=1001", "limit=99999999999", "limit=-1", "limit=²"]
)
def test_a_wrong_question_for_stories(client: AsgiClient, query: str) -> None:
    answer = client.get(f"/api/v1/exchanges?{query}")
    assert answer.status == 400
    assert "must be" in answer.text


@pytest.mark.parametrize(
    ("body", "status"), [("", 200), ("2", 200), ("0", 400), ("-1", 400), ("61", 400), ("nan", 400), ("x", 400)]
)
def test_allocations_are_traced_for_some_seconds(client: AsgiClient, body: str, status: int) -> None:
    answer = client.post("/api/v1/filters/allocations", [body.encode()])
    assert answer.status == status
    if status == 200:
        assert answer.json() == [{"line": f"filters.py:{body or 5}", "bytes": 64, "blocks": 2}]


def test_post_re_creates_filters(client: AsgiClient) -> None:
    assert client.post("/api/v1/reload_filters").json()["applied"] is True
    assert client.get("/api/v1/reload_filters").status == 405
