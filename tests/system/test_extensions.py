"""Extensions of the process in the real program: hosts from a file, edits, reloads, mistakes, hot upgrade, the end."""

from __future__ import annotations

import json
import os
import signal
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from process_fixtures import Start
from pymosn_process import Pymosn, Upstream, eventually, free_ports, get
from tests.kit.unix_http import UnixHttp

pytestmark = pytest.mark.once

EXAMPLE = Path(__file__).parents[2] / "examples" / "extensions" / "hosts_file.py"

#: Sets the hosts once and logs its end. `{text}` is what it writes.
ONCE = """
from pymosn.api import Extension, SetHosts

class Once(Extension):
    async def start(self, plane):
        self.plane = plane
        await plane.apply(SetHosts("backend", [self.config["host"]]))
        plane.write("started: {text}")

    async def stop(self):
        self.plane.write("stopped: {text}")
"""


class World:
    """A listener whose cluster has no hosts but those of an extension in `ext/code.py`."""

    def __init__(self, folder: Path, upstream: Upstream) -> None:
        [self.port] = free_ports(1)
        self.host = f"127.0.0.1:{upstream.port}"
        self.code = folder / "conf" / "ext" / "code.py"
        self.code.parent.mkdir(parents=True)

    def config(self, kind: str, settings: dict[str, Any], **keys: Any) -> dict[str, Any]:
        proxy = {"downstream_protocol": "Http1", "router_config_name": "r"}
        listener = {
            "name": "web",
            "address": f"127.0.0.1:{self.port}",
            "bind_port": True,
            "filter_chains": [{"filters": [{"type": "proxy", "config": proxy}]}],
        }
        route = {"match": {"prefix": "/"}, "route": {"cluster_name": "backend"}}
        router = {"router_config_name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routers": [route]}]}
        python = {"path": "ext/code.py", "class": kind, "config": settings}
        return {
            "servers": [{"default_log_path": "stdout", "processor": 2, "listeners": [listener], "routers": [router]}],
            "cluster_manager": {"clusters": [{"name": "backend", **keys}]},
            "extends": [{"type": "python", "config": python}],
        }

    def status(self) -> int:
        return get(self.port, "/")[0]

    def rewrite(self, config: dict[str, Any]) -> None:
        (self.code.parent.parent / "mosn.json").write_text(json.dumps(config))


@pytest.fixture
def world(tmp_path: Path, upstream: Upstream) -> World:
    return World(tmp_path, upstream)


def test_the_example_follows_its_file(world: World, start: Start) -> None:
    world.code.write_text(EXAMPLE.read_text())
    hosts = world.code.with_name("hosts.txt")
    hosts.write_text(f"{world.host}\n")
    proxy = start(world.config("HostsFile", {"file": "hosts.txt", "cluster": "backend", "interval": 0.02}))
    proxy.wait_for("ready: ")
    assert world.status() == 200
    hosts.write_text("127.0.0.1:1\n")
    assert eventually(lambda: world.status() == 502)
    hosts.write_text("nowhere\n")
    proxy.wait_for("extension 'HostsFile': the hosts stay as they are: .*missing port")
    hosts.write_text(f"{world.host}\n")
    assert eventually(lambda: world.status() == 200)
    proxy.wait_for("change from extension HostsFile: version 4 is active")
    # Each file was applied once, however often it is read.
    assert sum("change from extension HostsFile: version" in line for line in proxy.lines) == 3


def once(world: World, start: Start) -> Pymosn:
    world.code.write_text(ONCE.replace("{text}", "first"))
    proxy = start(world.config("Once", {"host": world.host}))
    proxy.wait_for("ready: ")
    assert world.status() == 200
    return proxy


def test_a_reload_keeps_what_it_has_set(world: World, start: Start) -> None:
    proxy = once(world, start)
    world.rewrite(world.config("Once", {"host": world.host}, lb_type="LB_RANDOM"))
    proxy.send(signal.SIGHUP)
    proxy.wait_for("change from SIGHUP: version 3 is active")
    assert world.status() == 200
    assert sum("started: first" in line for line in proxy.lines) == 1


def test_an_edit_replaces_it(world: World, start: Start) -> None:
    proxy = once(world, start)
    world.code.write_text(ONCE.replace("{text}", "second"))
    proxy.wait_for("started: second")
    order = [line.rpartition(": ")[0][-7:] + line[-6:] for line in proxy.lines if "extension 'Once': st" in line]
    assert order == ["started first", "stopped first", "startedsecond"]
    assert world.status() == 200


BROKEN = {
    "is not a subclass of pymosn.api.Extension": "class Once:\n    pass\n",
    "RuntimeError: broken": "raise RuntimeError('broken')\n",
    "SystemExit: 3": "import sys\nsys.exit(3)\n",
    r"has no class 'Once' \(extensions in it: Other\)": ONCE.replace("class Once", "class Other"),
    "invalid syntax": "this is no Python\n",
    "not today": ONCE + "    def __init__(self, config):\n        raise ValueError('not today')\n",
}


def test_a_broken_edit_is_rejected(world: World, start: Start) -> None:
    proxy = once(world, start)
    for error, code in BROKEN.items():
        world.code.write_text(code)
        proxy.wait_for(error)
    assert world.status() == 200
    assert "stopped: first" not in proxy.output
    world.code.write_text(ONCE.replace("{text}", "second"))
    proxy.wait_for("started: second")


def test_a_failed_start_of_an_edit_is_repeated(world: World, start: Start) -> None:
    proxy = once(world, start)
    flag = world.code.with_name("flag")
    check = f"        import os\n        assert os.path.exists({str(flag)!r}), 'no flag'\n        self.plane = plane\n"
    world.code.write_text(ONCE.replace("{text}", "second").replace("        self.plane = plane\n", check))
    proxy.wait_for(r"extension 'Once': `start` failed: AssertionError: no flag.*again in 1 s")
    assert world.status() == 200
    flag.touch()
    proxy.wait_for("started: second")


@pytest.mark.parametrize(
    ("code", "settings", "error"),
    [
        ("x = 1\n", {}, r"extends\[0\]: .*has no class 'Once'"),
        (ONCE, {"host": "nowhere"}, "extension 'Once': `start` failed: .*ChangeRejected.*missing port"),
        ("import time\n" + ONCE.replace("        self.plane", "        time.nothing\n        self.plane", 1), {}, "nothing"),
    ],
)
def test_a_mistake_prevents_the_start(world: World, start: Start, code: str, settings: dict[str, Any], error: str) -> None:
    world.code.write_text(code)
    proxy = start(world.config("Once", settings))
    proxy.wait_for(error)
    assert proxy.exit_code() != 0


def test_the_admin_api_cannot_add_code(world: World, start: Start) -> None:
    proxy = once(world, start)
    block = {"type": "python", "config": {"path": "ext/code.py", "class": "Once", "config": {"host": "127.0.0.1:1"}}}
    status, answer = proxy.post("/api/v1/update_config", {"type": "extend", "config": block})
    assert status == 400
    assert "can be changed only by the configuration file" in json.dumps(answer)
    status, _ = proxy.post("/api/v1/remove_config", {"type": "extend", "name": "python"})
    assert status == 400
    assert world.status() == 200


def test_removed_from_the_file(world: World, start: Start) -> None:
    proxy = once(world, start)
    config = world.config("Once", {})
    world.rewrite({**config, "extends": []})
    proxy.send(signal.SIGHUP)
    proxy.wait_for("stopped: first")
    assert eventually(lambda: world.status() == 502)


def test_a_hot_upgrade_starts_it_anew(world: World, start: Start) -> None:
    proxy = once(world, start)
    world.code.write_text(ONCE.replace("{text}", "second"))
    proxy.wait_for("started: second")
    proxy.send(signal.SIGUSR2)
    proxy.wait_for("stopped: second")
    assert sum("started: second" in line for line in proxy.lines) == 2
    assert world.status() == 200


def test_it_is_stopped_at_the_end(world: World, start: Start) -> None:
    proxy = once(world, start)
    proxy.send(signal.SIGTERM)
    assert proxy.exit_code() == 0
    assert "stopped: first" in proxy.output


#: Changes the hosts of its own cluster without end, and has tasks that fail in every way. `block` is from `config()`.
BUSY = """
import asyncio
import itertools
import sys
from pymosn.api import ChangeRejected, Extension, Put, SetHosts

class Busy(Extension):
    async def start(self, plane):
        self.plane = plane
        plane.create_task(self.work())
        for code in (sys.exit, self.interrupt):
            plane.create_task(self.fail(code))

    async def fail(self, code):
        code()

    def interrupt(self):
        raise KeyboardInterrupt

    async def work(self):
        for number in itertools.count():
            port = 1 + number % 2
            waiting = asyncio.create_task(self.plane.apply(SetHosts("busy", [f"127.0.0.1:{port}"])))
            await asyncio.sleep(0.01)
            if number % 3 == 0:
                waiting.cancel()  # the change is made nevertheless
            await asyncio.wait([waiting])
            if waiting.cancelled() or waiting.exception() is not None:
                continue
            names = [cluster["name"] for cluster in self.plane.config()["cluster_manager"]["clusters"]]
            if number == 4:
                self.plane.write(f"clusters: {names}")
"""


def test_several_with_changes_reloads_and_an_upgrade_between(world: World, start: Start) -> None:
    world.code.write_text(ONCE.replace("{text}", "first") + BUSY)
    config = world.config("Once", {"host": world.host})
    config["cluster_manager"]["clusters"].append({"name": "busy"})
    config["inherit_old_mosnconfig"] = True
    busy = {"type": "python", "config": {"path": "ext/code.py", "class": "Busy"}}
    proxy = start({**config, "extends": [busy, *config["extends"]]})
    proxy.wait_for("extension 'Busy': clusters: .'backend', 'busy'.")
    for error in ("SystemExit", "KeyboardInterrupt"):
        proxy.wait_for(f"extension 'Busy': background task failed: {error}")
    assert world.status() == 200
    # The admin API and the file change other things meanwhile.
    status, _ = proxy.post("/api/v1/update_config", {"type": "cluster", "config": {"name": "another"}})
    assert status == 200
    proxy.send(signal.SIGHUP)
    proxy.wait_for("change from SIGHUP: version")
    assert world.status() == 200
    # The next process inherits what the extensions have set. It is theirs nevertheless.
    proxy.send(signal.SIGUSR2)
    proxy.wait_for("stopped: first")
    world.rewrite(config)
    proxy.send(signal.SIGHUP)
    assert eventually(lambda: sum("change from SIGHUP: version" in line for line in proxy.lines) == 2)
    assert world.status() == 200
    # Busy is gone, and so is all that it was about to change.
    with closing(UnixHttp(proxy.admin_socket, 10)) as admin:
        admin.request("GET", "/api/v1/config_dump")
        answer = json.loads(admin.getresponse().read())
    hosts = {each["name"]: len(each.get("hosts") or []) for each in answer["cluster"].values()}
    assert hosts == {"backend": 1, "busy": 0}
    assert sum("started: first" in line for line in proxy.lines) == 2


#: In an installed package, with a secret among its settings.
INSTALLED = """
import msgspec
from pymosn.api import Extension, Secret, SetHosts

class Settings(msgspec.Struct, forbid_unknown_fields=True):
    host: str
    token: Secret[str]

class Registry(Extension):
    Config = Settings

    async def start(self, plane):
        await plane.apply(SetHosts("backend", [self.config.host]))
        assert "s3cret" not in str(plane.config()), "shown"
        plane.write(f"signed in with {self.config.token}")
        plane.create_task(self.fail())

    async def fail(self):
        raise ValueError(f"bad token {self.config.token}")
"""


def test_one_of_an_installed_package_and_its_secret(world: World, start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "installed"
    info = folder / "acme_registry-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "acme_registry.py").write_text(INSTALLED)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-registry\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[pymosn.extensions]\nregistry = acme_registry:Registry\n")
    config = world.config("Once", {})
    settings = {"host": world.host, "token": "s3cret-token"}
    config["extends"] = [{"type": "python", "config": {"name": "registry", "config": settings}}]
    paths = [str(folder), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    proxy = start(config, PYTHONPATH=os.pathsep.join(os.path.abspath(path) for path in paths))
    proxy.wait_for("extension 'registry': signed in with ")
    proxy.wait_for("extension 'registry': background task failed: ValueError: bad token ")
    proxy.wait_for("ready: ")
    assert world.status() == 200
    with closing(UnixHttp(proxy.admin_socket, 10)) as admin:
        admin.request("GET", "/api/v1/config_dump")
        shown = admin.getresponse().read().decode()
    assert "registry" in shown
    settings["tokn"] = "x"
    world.rewrite(config)
    proxy.send(signal.SIGHUP)
    proxy.wait_for("change from SIGHUP: rejected")
    proxy.wait_for("tokn")
    assert "s3cret" not in shown + proxy.output
