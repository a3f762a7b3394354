"""`/debug/pprof/` on its own port and in the admin API."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.kit import Lines
from tests.kit.pprof_reader import read_pprof
from tests.unit.control.asgi_client import AsgiClient
from tests.unit.control.fake_plane import FakePlane

from pymosn.config.schema.top import Admin, Pprof
from pymosn.control.access import UNIX_DOOR, Door, TcpDoor
from pymosn.control.admin import create_app
from pymosn.control.profiling import create_pprof
from pymosn.observe.profile import Profile

HOST = {"host": "127.0.0.1"}


def client_of(plane: FakePlane, door: Door = UNIX_DOOR) -> AsgiClient:
    return AsgiClient(create_pprof(plane, Lines(), door))


def profile_door(is_loopback: bool, **settings: Any) -> TcpDoor:
    return TcpDoor(Admin(allow_changes_without_token=True, **settings), "/", lambda: is_loopback, Lines())


def test_cpu_profiles_are_pprofs_by_default_with_gos_name_and_duration() -> None:
    plane = FakePlane()
    answer = client_of(plane).get("/debug/pprof/profile")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/octet-stream")
    assert answer.headers["content-disposition"] == 'attachment; filename="profile-worker-1.pb.gz"'
    assert read_pprof(answer.content).samples[0][0][0] == ("filters.burn", "/f/filters.py", 3)
    assert plane.profiled == [(1, 30.0)]


def test_the_other_formats() -> None:
    plane = FakePlane()
    client = client_of(plane)
    target = "/debug/pprof/profile?seconds=2&worker=supervisor&format="
    assert client.get(f"{target}folded").text.startswith("filters.on_request;filters.burn 300000000\n")
    assert "75.0%  filters.burn" in client.get(f"{target}top").text
    flame = client.get(f"{target}flame")
    assert flame.headers["content-type"] == "image/svg+xml"
    assert "pymosn profile, supervisor" in flame.text
    assert msgspec.json.decode(client.get(f"{target}json").content, type=Profile).seconds == 2.0
    assert plane.profiled == [(0, 2.0)] * 4


def test_heap_and_goroutine() -> None:
    plane = FakePlane()
    client = client_of(plane)
    assert read_pprof(client.get("/debug/pprof/heap?worker=1").content).samples == [
        ([("filters.keep", "/f/filters.py", 3)], [2, 3000])
    ]
    assert plane.profiled == [(1, 5.0)]
    read = read_pprof(client.get("/debug/pprof/goroutine").content)
    assert (read.types, [numbers for _, numbers in read.samples]) == ([("goroutine", "count")], [[2]])
    text = client.get("/debug/pprof/goroutine?debug=1").text
    assert "thread MainThread:\n  filters.wait at /f/filters.py:3\n  [native]\n" in text


def test_gos_other_paths() -> None:
    client = client_of(FakePlane())
    assert "profile    CPU of a worker" in client.get("/debug/pprof/").text
    assert client.get("/debug/pprof/symbol").text == "num_symbols: 0\n"
    assert client.get("/debug/pprof/cmdline").status == 200
    for name in ("block", "mutex", "trace", "allocs", "threadcreate"):
        answer = client.get(f"/debug/pprof/{name}")
        assert (answer.status, answer.text.startswith("not available: ")) == (501, True)
    assert client.get("/debug/pprof/unknown").status == 404
    assert client.get("/api/v1/config_dump").status == 404


@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ("worker=7", 404, "there is no worker 7"),
        ("worker=0", 400, "worker must be"),
        ("worker=-1", 400, "worker must be"),
        ("worker=99999999999999999999999", 400, "worker must be"),
        ("seconds=0", 400, "seconds must be"),
        ("seconds=61", 400, "seconds must be"),
        ("seconds=nan", 400, "seconds must be"),
        ("seconds=x", 400, "seconds must be"),
        ("format=png", 400, "format must be"),
        ("second=3", 400, "unknown parameter 'second'"),
    ],
)
def test_bad_parameters(query: str, status: int, text: str) -> None:
    plane = FakePlane()
    answer = client_of(plane).get(f"/debug/pprof/profile?{query}")
    assert (answer.status, text in answer.text) == (status, True)
    assert status == 404 or plane.profiled == []


def test_a_profile_ends_when_its_client_goes() -> None:
    plane = FakePlane()
    app = create_pprof(plane, Lines(), UNIX_DOOR)
    sent: list[Any] = []

    async def scenario() -> None:
        gone = asyncio.Event()
        messages = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> Any:
            if messages:
                return messages.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "GET",
            "path": "/debug/pprof/profile",
            "query_string": b"worker=2",
            "headers": [(b"host", b"127.0.0.1")],
        }
        asking = asyncio.ensure_future(app(scope, receive, send))
        while not plane.profiled:
            await asyncio.sleep(0)
        gone.set()
        await asyncio.wait_for(asking, 10)

    asyncio.run(scenario())
    assert plane.profiled == [(2, 30.0), (-1, 0.0)]


def test_loopback_needs_no_token_and_other_addresses_do(tmp_path: Path) -> None:
    assert client_of(FakePlane(), profile_door(True)).request("GET", "/debug/pprof/", headers=HOST).status == 200
    answer = client_of(FakePlane(), profile_door(False)).request("GET", "/debug/pprof/profile", headers=HOST)
    assert (answer.status, "needs" in answer.text or "token" in answer.text) == (403, True)
    path = tmp_path / "token"
    path.write_text("correct-horse-battery\n")
    path.chmod(0o600)
    plane = FakePlane()
    client = client_of(plane, profile_door(False, token_file=str(path)))
    assert client.request("GET", "/debug/pprof/", headers=HOST).status == 401
    assert client.request("GET", "/debug/pprof/heap", headers=HOST | {"authorization": "Bearer no"}).status == 401
    assert plane.profiled == []
    headers = HOST | {"authorization": "Bearer correct-horse-battery"}
    assert client.request("GET", "/debug/pprof/profile", headers=headers).status == 200


def test_web_pages_and_foreign_hosts_get_nothing() -> None:
    plane = FakePlane()
    client = client_of(plane, profile_door(True))
    assert client.request("GET", "/debug/pprof/profile", headers=HOST | {"sec-fetch-site": "cross-site"}).status == 403
    assert client.request("GET", "/debug/pprof/profile", headers={"host": "evil.example"}).status == 403
    assert plane.profiled == []


def test_the_admin_port_demands_the_token_even_on_loopback() -> None:
    plane = FakePlane()
    door = TcpDoor(Admin(), "/", lambda: True, Lines())
    client = AsgiClient(create_app(plane, environment={}, door=door))
    assert client.request("GET", "/debug/pprof/profile", headers=HOST).status == 403
    assert AsgiClient(create_app(plane, environment={})).get("/debug/pprof/heap").status == 200


def test_the_port_is_loopback_unless_an_address_is_given() -> None:
    assert Pprof().address() is None
    assert Pprof(debug=True).address() == ("127.0.0.1", 9090)
    assert Pprof(debug=True, port_value=34902, endpoint="10.0.0.1").address() == ("10.0.0.1", 34902)
