"""pymosn replaces a running MOSN: the real program, with MOSN=PROGRAM. New connections never fail meanwhile."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.kit.unix_http import UnixHttp
from tests.system.plain_sockets import PATIENCE, accepts
from tests.system.process_fixtures import Start
from tests.system.pymosn_process import READY, eventually, free_ports

from pymosn.server.upgrade.mosn_files import SUFFIX

MOSN = os.environ.get("MOSN", "")

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(not MOSN, reason="MOSN is not set to the program of MOSN"),
]

#: Clients that connect all the time.
CLIENTS = 4
#: Seconds after which MOSN stops accepting (`ReconfigureHandler`), and somewhat more.
STOPS_ACCEPTING = 5.0
#: MOSN's shortest wait until it exits is 30 s and twice this, in seconds.
GRACEFUL = 1


class World:
    """MOSN with a listener of each kind, and a configuration of pymosn with the same addresses."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.one, self.all, self.admin = free_ports(3)
        self.path = str(folder / "listener.sock")

    def config(self, body: str, **keys: Any) -> dict[str, Any]:
        proxy = {"downstream_protocol": "Http1", "upstream_protocol": "Http1", "router_config_name": "r"}
        addresses = {"one": f"127.0.0.1:{self.one}", "all": f"0.0.0.0:{self.all}", "unix": self.path}
        listeners = [
            {
                "name": name,
                "address": address,
                "network": "unix" if name == "unix" else "tcp",
                "bind_port": True,
                "filter_chains": [{"filters": [{"type": "proxy", "config": proxy}]}],
            }
            for name, address in addresses.items()
        ]
        route = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": body}}
        server = {
            "default_log_path": "stdout",
            "default_log_level": "INFO",
            "graceful_timeout": f"{GRACEFUL}s",
            "processor": 2,
            "listeners": listeners,
            "routers": [{"router_config_name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routers": [route]}]}],
        }
        admin = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": self.admin}}}
        return {"servers": [server], "cluster_manager": {}, "admin": admin, **keys}

    @contextlib.contextmanager
    def mosn(self, **keys: Any) -> Iterator[subprocess.Popen[bytes]]:
        """MOSN, once it can be replaced. Its file is beside that of pymosn, so that both have the same folder."""
        conf = self.folder / "conf"
        conf.mkdir(exist_ok=True)
        (conf / "old.json").write_text(json.dumps(self.config("MOSN", **keys)))
        with (self.folder / "mosn output").open("w") as output:
            process = subprocess.Popen([MOSN, "start", "-c", "conf/old.json"], cwd=self.folder, stdout=output, stderr=output)
        try:
            assert eventually(lambda: accepts(self.one) and (conf / "reconfig.sock").exists()), self.output()
            yield process
        finally:
            process.kill()
            process.wait()

    def output(self) -> str:
        return (self.folder / "mosn output").read_text(errors="replace")

    def ways(self) -> dict[str, Callable[[], http.client.HTTPConnection]]:
        """How a client connects to each listener."""
        return {
            "one": lambda: http.client.HTTPConnection("127.0.0.1", self.one, timeout=PATIENCE),
            "all": lambda: http.client.HTTPConnection("127.0.0.2", self.all, timeout=PATIENCE),
            "unix": lambda: UnixHttp(self.path, PATIENCE),
        }


def answer(connection: http.client.HTTPConnection) -> str:
    with contextlib.closing(connection):
        connection.request("GET", "/", headers={"Connection": "close"})
        return connection.getresponse().read().decode()


class Load:
    """Clients that make new connections to all listeners, until the end of the context."""

    def __init__(self, world: World) -> None:
        self.answers: Counter[str] = Counter()
        self.last: dict[str, str] = {}
        self.failures: list[str] = []
        self._ways = world.ways()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(CLIENTS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _run(self) -> None:
        while not self._over.is_set():
            for name, connect in self._ways.items():
                try:
                    body = answer(connect())
                except (OSError, http.client.HTTPException) as error:
                    self.failures.append(f"{time.monotonic():.3f} {name}: {error!r}")
                    continue
                self.answers[f"{name} {body}"] += 1
                self.last[name] = body
            time.sleep(0.002)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_no_new_connection_fails_while_mosn_is_replaced(world: World, start: Start) -> None:
    with world.mosn() as process, Load(world) as load:
        assert eventually(lambda: load.answers["one MOSN"] > 50)
        kept = http.client.HTTPConnection("127.0.0.1", world.one, timeout=PATIENCE)
        kept.request("GET", "/")
        assert kept.getresponse().read() == b"MOSN"
        proxy = start(world.config("pymosn"))
        proxy.wait_for(READY)
        proxy.wait_for("MOSN is replaced")
        # The open connection stays with MOSN, which serves it until it ends.
        kept.request("GET", "/")
        assert kept.getresponse().read() == b"MOSN"
        kept.close()
        # MOSN accepts as well for a while; then all that is new is pymosn's.
        replaced = time.monotonic()
        while time.monotonic() < replaced + STOPS_ACCEPTING:
            time.sleep(0.1)
        before = Counter(load.answers)
        assert eventually(lambda: load.answers["one pymosn"] > before["one pymosn"] + 200)
        # The admin port has changed hands as well.
        admin = http.client.HTTPConnection("127.0.0.1", world.admin, timeout=PATIENCE)
        admin.request("GET", "/api/v1/config_dump")
        assert admin.getresponse().status == 200
        admin.close()
        process.wait(120)  # its exit code is 1 whenever it was not told to stop
        assert eventually(lambda: not Path(world.path + SUFFIX).exists())
        before = Counter(load.answers)
        assert eventually(lambda: load.answers["unix pymosn"] > before["unix pymosn"] + 200)
        assert set(load.last.values()) == {"pymosn"}
    # MOSN has removed the file when it ended: at most one attempt of each client was in this moment.
    removed = [failure for failure in load.failures if "unix: FileNotFoundError" in failure]
    assert len(removed) <= CLIENTS
    assert [failure for failure in load.failures if failure not in removed] == []
    for name in ("one", "all", "unix"):
        assert load.answers[f"{name} MOSN"] > 0
        assert load.answers[f"{name} pymosn"] > 0
    print(f"\n{sum(load.answers.values())} new connections, none failed: {dict(load.answers)}")


def test_mosn_serves_on_if_the_start_fails(world: World, start: Start) -> None:
    with world.mosn(), Load(world) as load, socket.create_server(("127.0.0.1", 0)) as taken:
        config = world.config("pymosn")
        other = {**config["servers"][0]["listeners"][0], "name": "other"}
        other["address"] = f"127.0.0.1:{taken.getsockname()[1]}"
        config["servers"][0]["listeners"].append(other)
        proxy = start(config)
        assert proxy.exit_code() == 1
        assert "the address is in use by another process" in proxy.output
        count = load.answers["one MOSN"]
        assert eventually(lambda: load.answers["one MOSN"] > count + 50)
        # And the next start succeeds.
        config["servers"][0]["listeners"].pop()
        again = start(config)
        again.wait_for("MOSN is replaced")
    assert load.failures == []


def test_the_configuration_in_force_is_inherited(world: World, start: Start) -> None:
    """What MOSN serves, not what the file of pymosn has."""
    with world.mosn(inherit_old_mosnconfig=True):
        proxy = start(world.config("pymosn", inherit_old_mosnconfig=True))
        proxy.wait_for("MOSN is replaced")
        view = http.client.HTTPConnection("127.0.0.1", world.admin, timeout=PATIENCE)

        def is_inherited() -> bool:
            try:
                view.request("GET", "/api/v1/config_dump")
                return b'"MOSN"' in view.getresponse().read()
            except (OSError, http.client.HTTPException):
                view.close()
                return False

        assert eventually(is_inherited)
        view.close()
