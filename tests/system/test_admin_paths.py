"""Files that a change through the admin API names; and a rejected change, which runs and creates nothing."""

import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from process_fixtures import Start
from pymosn_process import READY, Pymosn, TwoHops, _listener, eventually, free_ports, get
from test_reload import attempts, reload, write

pytestmark = pytest.mark.once

#: A filter that leaves a file when it is imported, and one when it is created.
MARKING = """
import pathlib
from pymosn.api import StreamFilter

pathlib.Path({marker!r}).write_text("imported")


class Marks(StreamFilter):
    pass
"""


class Place:
    """The folders of a running program, outside of which nothing may appear."""

    def __init__(self, proxy: Pymosn, hops: TwoHops, folder: Path) -> None:
        self.proxy = proxy
        self.hops = hops
        self.folder = folder
        self.conf = folder / "conf"
        self.outside = folder / "outside"
        self.marker = self.outside / "marker"

    def files(self) -> set[str]:
        """All files and folders."""
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*")}

    def filter_at(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(MARKING.format(marker=str(self.marker)))

    def update(self, **keys: Any) -> tuple[int, str]:
        """Adds a listener with these keys."""
        removed: dict[str, Any] = {"access_logs": [], "stream_filters": []}
        listener = {**_listener("added", free_ports(1)[0], "server_router"), **removed, **keys}
        return self.block("listener", listener)

    def block(self, kind: str, config: dict[str, Any]) -> tuple[int, str]:
        status, result = self.proxy.post("/api/v1/update_config", {"type": kind, "config": config})
        return status, " ".join(fault["message"] for fault in result["faults"] if fault["severity"] == "error")


@pytest.fixture
def place(start: Start, two_hops: TwoHops, tmp_path: Path) -> Place:
    for name in ("outside", "listed", "logs"):
        (tmp_path / name).mkdir()
    two_hops.config["admin"]["allowed_folders"] = [str(tmp_path / "listed"), "../listed too"]
    proxy = start(two_hops.config)
    proxy.wait_for(READY)
    assert eventually(lambda: (tmp_path / "logs" / "mosn.pid").exists())
    return Place(proxy, two_hops, tmp_path)


def python(path: Path | str) -> list[dict[str, Any]]:
    return [{"type": "python", "config": {"path": str(path), "class": "Marks"}}]


def test_a_log_never_becomes_a_filter(place: Place) -> None:
    """The attack: an access log writes Python, which a second change loads."""
    code = f"open({str(place.marker)!r}, 'w') #"
    for name in (
        "evil.py",
        "evil.PY",
        "pkg/__init__.py",
        "x.pth",
        "x.so",
        "__pycache__/x.log",
        "x.dist-info/entry_points.txt",
    ):
        before = place.files()
        status, message = place.update(access_logs=[{"log_path": str(place.conf / name), "log_format": code}])
        assert (status, place.files()) == (400, before)
        assert "a log must not be" in message
    (port,) = free_ports(1)
    log = place.conf / "evil.txt"
    listener = {"address": f"127.0.0.1:{port}", "access_logs": [{"log_path": str(log), "log_format": code}]}
    assert place.update(**listener)[0] == 200
    get(port, "/")
    assert eventually(lambda: log.exists() and bool(log.read_text()))
    os.link(log, place.conf / "linked.py")
    (place.conf / "symbolic.py").symlink_to(log)
    for _ in range(2):  # while it is a log, and when it was one
        for path in ("evil.txt", str(log), "../conf/./evil.txt", "linked.py", "symbolic.py"):
            for kind in ("python", "transcoder"):
                entry = {"type": kind, "config": {"path": path, "class": "Marks"}}
                status, message = place.update(name="second", stream_filters=[entry])
                assert status == 400
                assert "is or was a log" in message
        assert not place.marker.exists()
        place.proxy.post("/api/v1/remove_config", {"type": "listener", "name": "added"})


Change = Callable[[Place, str], tuple[int, str]]


def with_access_log(place: Place, path: str) -> tuple[int, str]:
    return place.update(access_logs=[{"log_path": path}])


def with_filter(place: Place, path: str) -> tuple[int, str]:
    return place.update(stream_filters=python(path))


def with_transcoder(place: Place, path: str) -> tuple[int, str]:
    return place.update(stream_filters=[{"type": "transcoder", "config": {"path": path, "class": "Marks"}}])


def with_socket(place: Place, path: str) -> tuple[int, str]:
    return place.update(network="unix", address=path)


def with_event_log(place: Place, path: str) -> tuple[int, str]:
    check = {"event_log_path": path, "interval": "1s"}
    return place.block("cluster", {"name": "c", "hosts": [{"address": "127.0.0.1:1"}], "health_check": check})


def with_resolver(place: Place, path: str) -> tuple[int, str]:
    return place.block("cluster", {"name": "c", "type": "STRICT_DNS", "dns_resolver_file": path, "hosts": []})


def with_host(place: Place, path: str) -> tuple[int, str]:
    return place.block("cluster", {"name": "c", "hosts": [{"address": f"unix:{path}"}]})


def with_hosts(place: Place, path: str) -> tuple[int, str]:
    body = {"type": "add", "config": {"cluster": "server", "hosts": [{"address": f"unix:{path}"}]}}
    status, result = place.proxy.post("/api/v1/update_hosts", body)
    return status, " ".join(fault["message"] for fault in result["faults"])


CHANGES = [
    *(with_access_log, with_filter, with_transcoder, with_socket, with_event_log, with_resolver, with_host, with_hosts),
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_paths_outside_the_folders(place: Place, change: Change) -> None:
    place.filter_at(place.outside / "x.py")
    (place.conf / "link").symlink_to(place.outside)
    (place.conf / "file.py").symlink_to(place.outside / "x.py")
    (place.conf / "hanging.py").symlink_to(place.outside / "new" / "y.py")
    before = place.files()
    outside = place.outside / "x.py"
    paths = [
        *(str(outside), str(place.conf / ".." / "outside" / "x.py"), str(place.conf / "link" / "x.py")),
        *(str(place.conf / "file.py"), str(place.conf / "hanging.py"), str(place.folder / "conf.py")),
        *(str(place.outside / "new" / "x.py"), "/etc/hostname", "../outside/x.py", str(place.conf)),
    ]
    for path in paths:
        status, message = change(place, path)
        assert (path, status) == (path, 400)
        assert "is outside the folders that a change may name" in message
        assert place.files() == before
    assert change(place, str(place.conf / "new.sock"))[0] in (200, 400)
    if change is not with_event_log:  # which is created later, and is inside
        assert {name for name in place.files() if name.startswith("outside")} == {"outside", "outside/x.py"}
    assert not place.marker.exists()


def test_the_default_path_of_an_access_log_follows_the_name_of_the_listener(place: Place) -> None:
    before = place.files()
    for name in ("../outside/x", "../../x", "a/../../outside/b"):
        status, message = place.update(name=name, access_logs=[{}])
        assert status == 400
        assert "is outside" in message
        assert place.files() == before


def test_what_is_allowed(place: Place) -> None:
    (port,) = free_ports(1)
    log, listed = place.folder / "logs" / "sub" / "a.log", place.folder / "listed too" / "b.json.log"
    place.filter_at(place.folder / "listed" / "good.py")
    keys = {
        "address": f"127.0.0.1:{port}",
        "access_logs": [
            {"log_path": str(log)},
            {"log_path": str(listed)},
            {"log_path": str(place.folder / "logs" / "c.json")},
        ],
        "stream_filters": python(place.folder / "listed" / "good.py"),
    }
    assert place.update(**keys) == (200, "")
    assert place.marker.exists()
    assert eventually(log.exists)
    get(port, "/")
    assert eventually(lambda: listed.exists() and bool(listed.read_text()))
    assert with_socket(place, str(place.conf / "s.sock")) == (200, "")
    assert (place.conf / "s.sock").is_socket()


def test_files_with_another_role(place: Place) -> None:
    place.filter_at(place.conf / "good.py")
    assert place.update(name="good", stream_filters=python("good.py"))[0] == 200
    content = {path: path.read_bytes() for path in place.folder.rglob("*") if path.is_file()}
    os.link(place.conf / "mosn.json", place.conf / "config.log")
    os.link(place.conf / "good.py", place.conf / "good.log")
    (place.conf / "run").write_text("#!/bin/sh\n")
    (place.conf / "run").chmod(0o755)
    others = ("conf/other.json", "conf/a.yaml", "conf/.profile", "logs/.ssh/authorized_keys", "conf/run")
    for name in ("conf/mosn.json", "conf/config.log", "conf/good.log", "logs/mosn.pid", *others):
        for change in (with_access_log, with_event_log):
            status, message = change(place, str(place.folder / name))
            assert (name, status) == (name, 400)
            assert "must not be" in message
    assert {path: path.read_bytes() for path in content} == content


@pytest.mark.parametrize("late", ["address", "log", "socket", "key", "table", "file", "syntax", "jwks", "limit"])
def test_a_rejected_change_runs_no_code_and_creates_nothing(place: Place, late: str) -> None:
    place.filter_at(place.conf / "marks.py")
    (place.conf / "plain.txt").write_text("")
    (place.conf / "wrong.py").write_text("class Marks(:")
    provider = {"localJwks": {"inlineString": "no keys"}}
    taken = socket.create_server(("127.0.0.1", 0))
    keys: dict[str, dict[str, Any]] = {
        "address": {"address": f"127.0.0.1:{taken.getsockname()[1]}"},
        "log": {
            "access_logs": [
                {"log_path": str(place.folder / "logs/a.log")},
                {"log_path": str(place.conf / "plain.txt" / "b")},
            ]
        },
        "socket": {"network": "unix", "address": str(place.conf / "plain.txt")},
        "key": {"connection_idle_timeout": "soon"},
        "table": {"filter_chains": [{"filters": [{"type": "proxy", "config": {"router_config_name": "none"}}]}]},
        "file": {"stream_filters": [*python("marks.py"), *python("none.py")]},
        "syntax": {"stream_filters": [*python("marks.py"), *python("wrong.py")]},
        "jwks": {"stream_filters": [*python("marks.py"), {"type": "jwt_authn", "config": {"providers": {"p": provider}}}]},
        "limit": {"stream_filters": [*python("marks.py"), {"type": "local_rate_limit", "config": {"requests": 0}}]},
    }
    wanted = {
        "access_logs": [{"log_path": str(place.folder / "logs" / "new" / "a.log")}],
        "stream_filters": python("marks.py"),
    }
    before = place.files()
    assert place.update(**{**wanted, **keys[late]})[0] == 400
    assert place.files() == before
    taken.close()


def test_when_one_of_two_workers_cannot_build_it(place: Place) -> None:
    """Code runs, because the file is allowed; but no log file and no socket file is left."""
    code = f"""
import os
from pymosn.api import StreamFilter

os.close(os.open({str(place.marker)!r}, os.O_CREAT | os.O_EXCL))  # by the first worker only


class Marks(StreamFilter):
    pass
"""
    (place.conf / "once.py").write_text(code)
    before = place.files()
    keys = {"access_logs": [{"log_path": str(place.folder / "logs" / "new" / "a.log")}], "stream_filters": python("once.py")}
    status, message = place.update(network="unix", address=str(place.conf / "s.sock"), **keys)
    assert status == 400
    assert "FileExistsError" in message
    assert place.files() - before == {"outside/marker"}


def test_paths_of_the_configuration_file_stay_valid_and_are_not_limited(place: Place, tmp_path: Path) -> None:
    place.filter_at(place.outside / "mine.py")
    listener = place.hops.server["listeners"][1]
    listener["stream_filters"] = python(place.outside / "mine.py")
    listener["access_logs"] = [{"log_path": str(place.outside / "mine.log")}]
    cluster = place.hops.config["cluster_manager"]["clusters"][1]
    cluster["hosts"].append({"address": f"unix:{place.outside / 'mine.sock'}"})
    assert reload(place.proxy, place.hops, tmp_path, place.hops.config)["applied"]
    assert place.marker.exists()
    assert place.block("listener", {**listener, "connection_idle_timeout": "7s"}) == (200, "")
    assert place.block("cluster", {**cluster, "connect_timeout": "3s"}) == (200, "")
    # In another role they are not valid.
    assert place.block("listener", {**listener, "access_logs": [{"log_path": str(place.outside / "mine.py")}]})[0] == 400
    assert place.block("listener", {**listener, "stream_filters": python(place.outside / "mine.log")})[0] == 400


def test_the_list_of_folders_takes_effect_with_a_reload(place: Place, tmp_path: Path) -> None:
    path = str(place.outside / "a.log")
    assert with_access_log(place, path)[0] == 400
    place.hops.config["admin"]["allowed_folders"] = ["../outside"]
    before = attempts(place.hops)
    write(tmp_path, place.hops.config)
    place.proxy.send(signal.SIGHUP)
    assert eventually(lambda: attempts(place.hops) > before)
    last = json.loads(place.hops.admin("/api/v1/last_change"))
    assert (last["applied"], last["faults"]) == (True, [])
    assert with_access_log(place, path) == (200, "")
