"""Who may call what: every call of the API through every kind of door."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.kit import Lines
from tests.unit.control.asgi_client import Answer, AsgiClient
from tests.unit.control.fake_plane import PATH, FakePlane

from pymosn.config.schema.top import Admin
from pymosn.control.access import TcpDoor
from pymosn.control.admin import create_app

TOKEN = "correct-horse-battery-staple"
LOG_CALLS = {f"/api/v1/{name}" for name in ("update_loglevel", "enable_log", "disable_log", "disbale_log")} | {"/logging"}
DRAIN_CALLS = {"/drain_listeners", "/healthcheck/fail", "/healthcheck/ok", "/quitquitquit"}
READING_POSTS = {"/api/v1/explain", "/api/v1/version", "/api/v1/plugin"}


class Port:
    """The API behind a TCP port with these settings."""

    def __init__(self, is_loopback: bool = True, **settings: object) -> None:
        self.plane = FakePlane()
        self.log = Lines()
        door = TcpDoor(Admin(**settings), "/", lambda: is_loopback, self.log)  # type: ignore[arg-type]
        self._client = AsgiClient(create_app(self.plane, self.log, environment={}, door=door))

    def ask(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        return self._client.request(method, path, [body], {"host": "127.0.0.1", **(headers or {})})

    def post(self, path: str, token: str | None = None, body: bytes = b"") -> Answer:
        return self.ask("POST", path, body, {} if token is None else {"authorization": f"Bearer {token}"})

    def calls(self) -> dict[str, str]:
        """All paths with their method."""
        paths = [line.removesuffix(" changes") for line in self.ask("GET", "/").text.splitlines()[1:]]
        return {path: self.ask("OPTIONS", path).headers["allow"] for path in paths}

    def posts(self) -> set[str]:
        return {path for path, allow in self.calls().items() if "POST" in allow}


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o600)
    return path


def test_the_index_marks_exactly_what_is_rejected_on_a_port() -> None:
    port = Port()
    marked = {line.removesuffix(" changes") for line in port.ask("GET", "/").text.splitlines() if line.endswith(" changes")}
    assert marked == {path for path in port.posts() if port.post(path).status == 403}
    assert marked == port.posts() - LOG_CALLS - READING_POSTS
    assert len(marked) >= 10


@pytest.mark.parametrize(
    ("is_loopback", "open_calls"), [(True, LOG_CALLS | READING_POSTS), (False, READING_POSTS)], ids=["loopback", "other"]
)
def test_a_port_without_a_token_only_reads(is_loopback: bool, open_calls: set[str]) -> None:
    port = Port(is_loopback)
    before = port.plane.in_force
    rejected = {path for path in port.posts() if port.post(path).status == 403}
    assert rejected == port.posts() - open_calls
    for path, allow in port.calls().items():
        if "GET" in allow:
            assert (port.ask("GET", path).status in (401, 403)) == path.startswith("/debug/pprof/"), path
    assert port.plane.in_force is before
    assert (port.plane.last.source, port.plane.stops) == ("start", [])
    assert {path for path, _ in port.plane.switched} <= {""}  # an empty body is the start logger's path


def test_logs_in_use_are_switched_on_loopback_and_no_others() -> None:
    port = Port()
    assert port.post("/api/v1/disable_log", body=PATH.encode()).status == 200
    assert port.post("/api/v1/enable_log", body=b"/tmp/filter.py").status == 400
    assert port.plane.switched == [(PATH, False)]
    assert Port(is_loopback=False).post("/api/v1/disable_log", body=PATH.encode()).status == 403


@pytest.mark.parametrize("is_loopback", [True, False])
def test_the_token_allows_everything(token_file: Path, is_loopback: bool) -> None:
    port = Port(is_loopback, token_file=str(token_file))
    for path in port.posts():
        assert port.post(path, TOKEN).status in (200, 202, 400, 409), path
    assert sorted(port.plane.stops) == [False, True]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": TOKEN},
        {"authorization": f"Bearer {TOKEN[:-1]}"},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": f"Bearer {TOKEN.upper()}"},
        {"authorization": "Bearer \xe9" + TOKEN},
        {"cookie": f"token={TOKEN}"},
    ],
)
def test_a_missing_or_wrong_token(token_file: Path, headers: dict[str, str]) -> None:
    port = Port(token_file=str(token_file))
    for path in port.posts() - LOG_CALLS - READING_POSTS:
        answer = port.ask("POST", path, headers=headers)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert TOKEN not in answer.text
    assert port.plane.last.source == "start"
    assert port.log.lines == []
    assert port.ask("GET", "/api/v1/version", headers=headers).status == 200


def test_the_scheme_is_case_insensitive_and_the_token_is_not_in_the_query(token_file: Path) -> None:
    port = Port(token_file=str(token_file))
    assert port.ask("POST", "/api/v1/reload", headers={"authorization": f"bearer {TOKEN}"}).status == 200
    assert port.ask("POST", f"/api/v1/reload?access_token={TOKEN}").status == 401


def test_the_token_can_be_replaced(token_file: Path) -> None:
    port = Port(token_file=str(token_file))
    other = token_file.with_suffix(".new")
    other.write_text("another-token-of-some-length")
    other.chmod(0o600)
    os.replace(other, token_file)
    assert port.post("/api/v1/reload", TOKEN).status == 401
    assert port.post("/api/v1/reload", "another-token-of-some-length").status == 200


@pytest.mark.parametrize("fault", ["missing", "mode", "empty", "short", "folder", "pipe", "binary"])
def test_a_token_file_that_cannot_be_used_allows_nothing(token_file: Path, fault: str) -> None:
    port = Port(token_file=str(token_file))
    if fault == "mode":
        token_file.chmod(0o640)
    elif fault in ("empty", "short", "binary"):
        token_file.write_bytes({"empty": b"", "short": b"short", "binary": b"\0" * 20}[fault])
    else:
        token_file.unlink()
        if fault == "folder":
            token_file.mkdir()
        elif fault == "pipe":
            os.mkfifo(token_file, 0o600)
    for given in (TOKEN, "", "\0" * 20, "short"):
        assert port.post("/api/v1/reload", given).status in (401, 403)
    assert port.post("/api/v1/reload", TOKEN).status == 403
    (line,) = port.log.lines
    assert str(token_file) in line
    assert TOKEN not in line
    assert port.plane.last.source == "start"


def test_changes_without_a_token_are_a_setting_for_loopback_only() -> None:
    assert Port(allow_changes_without_token=True).post("/api/v1/reload").status == 200
    assert Port(is_loopback=False, allow_changes_without_token=True).post("/api/v1/reload").status == 403


def test_a_web_page_changes_nothing_even_with_the_token(token_file: Path) -> None:
    port = Port(token_file=str(token_file))
    headers = {"authorization": f"Bearer {TOKEN}", "origin": "http://127.0.0.1"}
    assert port.ask("POST", "/api/v1/reload", headers=headers).status == 403
    assert Port(allow_changes_without_token=True).ask("POST", "/api/v1/reload", headers={"origin": "null"}).status == 403


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/update_config\n",
        "/api/v1/update%5Fconfig",
        "//api/v1/update_config",
        "/api/v1/UPDATE_CONFIG",
        "/api/v1/update_config/",
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "post"])
def test_no_spelling_gets_past(path: str, method: str) -> None:
    port = Port(is_loopback=False)
    body = b'{"type": "cluster", "config": {"name": "x"}}'
    assert port.ask(method, path, body).status in (403, 404, 405)
    assert port.plane.last.source == "start"


def test_istios_agent_may_drain_on_loopback_without_a_token_and_no_more() -> None:
    def allowed(port: Port) -> set[str]:
        return {path for path in port.posts() if port.post(path).status not in (401, 403)}

    assert allowed(Port(allow_drain_without_token=True)) == LOG_CALLS | READING_POSTS | DRAIN_CALLS
    assert allowed(Port(is_loopback=False, allow_drain_without_token=True)) == READING_POSTS
