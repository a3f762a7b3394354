"""The paths of the dashboard: what they answer, to whom, and with which headers."""

import asyncio
import json
import re
from importlib.resources import files
from pathlib import Path

import pytest
from tests.unit.control.asgi_client import AsgiClient
from tests.unit.control.live.live_plane import LivePlane

from pymosn.config.schema.top import Admin
from pymosn.control.access import TcpDoor
from pymosn.control.admin import create_app
from pymosn.control.live.calls import Live
from pymosn.control.live.sampler import MAX_WATCHERS
from pymosn.control.pages import FILES
from pymosn.core.log import Log

TABLE_PATHS = [f"/api/v1/live/{name}" for name in ("listeners", "clusters", "hosts", "routes", "workers", "overview")]


def client(plane: LivePlane | None = None) -> AsgiClient:
    return AsgiClient(create_app(plane or LivePlane()))


def port() -> AsgiClient:
    return AsgiClient(create_app(LivePlane(), door=TcpDoor(Admin(), "/", lambda: True, Log())))


@pytest.mark.parametrize("name", FILES)
def test_the_page_may_load_its_own_files_only(name: str) -> None:
    answer = client().get(f"/ui/{name}")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith(FILES[name])
    policy = answer.headers["content-security-policy"]
    assert policy.startswith(
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:"
    )
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    # Nothing from elsewhere, no markup from data, no code from text.
    text = answer.text.replace("http://www.w3.org/2000/svg", "").replace("http://shop.example:8080", "")
    assert not re.search(
        r"https?://(?!\$)|//cdn|innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text
    )
    assert "<script>" not in text
    assert not re.search(r"\bon\w+=\"|style=\"", text), "the policy would block it"


def test_every_file_of_the_page_is_served_and_imported() -> None:
    folder = files("pymosn.control") / "ui"
    assert {entry.name for entry in folder.iterdir()} == set(FILES)
    scripts = [name for name in FILES if name.endswith(".js")]
    texts = {name: (folder / name).read_text() for name in FILES}
    for name in scripts:
        for imported in re.findall(r'from "\./([^"]+)"', texts[name]):
            assert imported in scripts
    assert client().get("/ui/").content == client().get("/ui/index.html").content
    assert client().get("/ui").headers["location"] == "/ui/"
    assert client().get("/ui/../access.py").status == 404
    assert client().get("/ui/nothing.js").status == 404


def test_the_static_files_are_part_of_the_package() -> None:
    project = (Path(__file__).parents[4] / "pyproject.toml").read_text()
    assert '"control/ui/*"' in project


@pytest.mark.parametrize("path", [*TABLE_PATHS, "/api/v1/versions"])
def test_the_data_is_json_that_is_read_without_a_token(path: str) -> None:
    answer = port().request("GET", path, headers={"host": "127.0.0.1:34901"})
    assert answer.status == 200
    assert isinstance(answer.json(), dict)
    assert port().request("GET", path, headers={"host": "evil.example"}).status == 403
    assert port().request("POST", path, headers={"host": "127.0.0.1"}).status == 405


def test_bad_parameters_are_400_and_unknown_versions_404() -> None:
    for target in ("live/hosts?limit=9999", "live?history=x", "live/overview?history=-1", "versions/difference?from=1"):
        assert client().get(f"/api/v1/{target}").status == 400
    answer = client().get("/api/v1/versions/difference?from=1&to=2")
    assert (answer.status, answer.text) == (404, "version 1 is not kept; kept: none\n")
    assert client().get("/api/v1/versions/sections?version=1").status == 404


def test_the_stream_sends_the_history_then_points_and_ends_when_the_process_stops() -> None:
    async def run() -> None:
        live = Live(LivePlane())
        await live.start()
        watcher = live.sampler.join()
        events = live._events(watcher, 300)
        hello = await anext(events)
        assert hello.startswith("event: hello\ndata: {")
        assert hello.endswith("\n\n")
        facts = json.loads(hello.split("data: ", 1)[1])
        assert (facts["points"], facts["pid"], facts["counts"]["workers"]) == ([], 42, 1)
        points = await anext(events)
        assert points.startswith("event: points\n")
        assert len(json.loads(points.split("data: ", 1)[1])["points"]) == 1
        await live.stop()
        assert [event async for event in events] == []
        assert watcher not in live.sampler._watchers
        await live.versions.settle()

    asyncio.run(run())


def test_the_first_version_is_recorded_at_the_start() -> None:
    async def run() -> None:
        plane = LivePlane()
        live = Live(plane)
        await live.start()
        await live.versions.settle()
        (version,) = live.versions.view()["versions"]
        assert (version["version"], version["source"]) == (1, "start")
        await live.stop()

    asyncio.run(run())


def test_a_stream_too_many_is_503_and_head_has_no_stream() -> None:
    plane = LivePlane()
    live = Live(plane)
    app = AsgiClient(create_app(plane, live=live))
    answer = app.request("HEAD", "/api/v1/live")
    assert (answer.status, answer.content) == (200, b"")
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["x-accel-buffering"] == "no"

    async def fill() -> None:
        for _ in range(MAX_WATCHERS):
            live.sampler.join()
        live.sampler._task.cancel()  # type: ignore[union-attr]

    asyncio.run(fill())
    assert app.get("/api/v1/live").status == 503


QUESTION = [b'{"url": "http://127.0.0.1:2045/"}']


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/api/v1/explain", {"origin": "http://127.0.0.1:34901", "sec-fetch-site": "same-origin"}, 200),
        ("/api/v1/explain", {"origin": "http://127.0.0.1:34901"}, 200),
        ("/api/v1/explain", {"origin": "http://127.0.0.1:8000"}, 403),
        ("/api/v1/explain", {"origin": "http://evil.example"}, 403),
        ("/api/v1/explain", {"origin": "null"}, 403),
        ("/api/v1/explain", {"origin": "file://127.0.0.1:34901"}, 403),
        ("/api/v1/explain", {"origin": "http://127.0.0.1:34901", "sec-fetch-site": "cross-site"}, 403),
        # A tap changes nothing, and is in the page.
        ("/api/v1/tap", {"origin": "http://127.0.0.1:34901", "sec-fetch-site": "same-origin"}, 400),
        ("/api/v1/tap", {"origin": "http://evil.example"}, 403),
        ("/api/v1/tap", {"sec-fetch-site": "same-site"}, 403),
        # The page changes nothing, not even with its own origin.
        ("/api/v1/reload", {"origin": "http://127.0.0.1:34901", "sec-fetch-site": "same-origin"}, 403),
        ("/api/v1/stop", {"origin": "http://127.0.0.1:34901"}, 403),
        ("/nothing", {"origin": "http://127.0.0.1:34901"}, 403),
    ],
)
def test_the_page_may_ask_but_not_change(path: str, headers: dict[str, str], status: int) -> None:
    app = AsgiClient(create_app(LivePlane()))
    answer = app.post(path, QUESTION, {"host": "127.0.0.1:34901", **headers})
    assert answer.status == status


@pytest.mark.parametrize("path", ["/api/v1/explain", "/api/v1/tap"])
def test_the_page_of_another_host_may_not_ask(path: str) -> None:
    headers = {"host": "evil.example", "origin": "http://evil.example"}
    assert port().post(path, QUESTION, headers).status == 403
    # A port may be forwarded to the unix socket, which takes any name from programs.
    assert AsgiClient(create_app(LivePlane())).post(path, QUESTION, headers).status == 403


def test_the_page_needs_the_token_for_a_tap() -> None:
    headers = {"host": "127.0.0.1:34901", "origin": "http://127.0.0.1:34901"}
    answer = port().post("/api/v1/tap", QUESTION, headers)
    assert answer.status == 403
    assert "use the unix socket (admin.socket) or a token" in answer.text
