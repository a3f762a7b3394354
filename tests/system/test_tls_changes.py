"""Listeners with TLS that change at run time, under load: no request fails, and none of the open connections is lost."""

import copy
import http.client
import json
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
from process_fixtures import Start
from pymosn_process import PATIENCE, READY, Pymosn, Upstream, eventually, free_ports
from tests.kit.certificates import ca, issue, server
from tls_peers import (
    answer,
    client_context,
    config_of,
    context_for,
    exchange,
    listener_of,
    opened,
    plain_answer,
    proxy_filter,
    table_of,
)

pytestmark = pytest.mark.once

CLIENTS = 4


class Load:
    """Clients that send requests over TLS, each on a connection of its own that it renews every few requests."""

    def __init__(self, port: int, *, requests_per_connection: int = 5) -> None:
        self.faults: list[str] = []
        self.done = 0
        self._port = port
        self._length = requests_per_connection
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        context = client_context()
        while not self._stop.is_set():
            try:
                with opened(self._port, context=context) as secured:
                    for _ in range(self._length):
                        status, _ = exchange(secured)
                        if status != 200:
                            self.faults.append(str(status))
                        self.done += 1
            except (OSError, http.client.HTTPException) as error:
                self.faults.append(repr(error))

    def runs(self, more: int = 20) -> bool:
        """Waits until some more requests have been answered."""
        goal = self.done + more
        return eventually(lambda: self.done >= goal or bool(self.faults))

    def end(self) -> list[str]:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE)
        return self.faults


def change(proxy: Pymosn, path: Path, config: dict[str, Any]) -> None:
    """Activates another configuration by a reload of its file."""
    path.write_text(json.dumps(config))
    status, body = proxy.post("/api/v1/reload")
    assert status == 200, body


@pytest.fixture
def base(upstream: Upstream) -> tuple[int, dict[str, Any]]:
    """A port, and a configuration whose one listener serves TLS there."""
    (port,) = free_ports(1)
    chain = {"name": "main", "tls_context": context_for(server()), "filters": [proxy_filter("r")]}
    tables = [table_of("r", cluster="c")]
    return port, config_of([listener_of("l", port, [chain])], tables, {"c": f"127.0.0.1:{upstream.port}"})


def test_changes_under_load(start: Start, base: tuple[int, dict[str, Any]], tmp_path: Path) -> None:
    port, config = base
    proxy = start(config)
    proxy.wait_for(READY)
    path = tmp_path / "conf" / "mosn.json"
    load = Load(port)
    with opened(port) as kept:
        try:
            assert exchange(kept)[0] == 200

            def step(edit: Any) -> None:
                edit(config["servers"][0]["listeners"][0])
                change(proxy, path, config)
                assert load.runs()
                assert exchange(kept)[0] == 200

            chains = config["servers"][0]["listeners"][0]["filter_chains"]
            other = issue("server.test", ca(), names=("server.test",))
            step(lambda listener: chains[0].update(tls_context=context_for(other)))
            assert load.faults == []
            with opened(port) as secured:
                assert secured.getpeercert(True) == ssl.PEM_cert_to_DER_cert(other.certificate.decode())
            step(lambda listener: listener.update(access_logs=[{"log_path": str(tmp_path / "access.log")}]))
            step(lambda listener: listener.update(inspector=True))
            assert plain_answer(port)[0] == 200
            step(lambda listener: listener.update(inspector=False))
            assert plain_answer(port)[0] == 400
            extra = {**copy.deepcopy(chains[0]), "name": "extra", "match": {"server_names": ["x.test"]}}
            step(lambda listener: chains.append(extra))
            assert answer(port, "x.test", "x.test")[0] == 200
            step(lambda listener: chains.remove(extra))
            step(lambda listener: chains[0].update(name="renamed"))
            step(lambda listener: listener.update(access_logs=[]))
        finally:
            faults = load.end()
    assert faults == []
    assert "request" in (tmp_path / "access.log").read_text() or (tmp_path / "access.log").stat().st_size > 0


def test_tls_is_switched_off_and_on(start: Start, base: tuple[int, dict[str, Any]], tmp_path: Path) -> None:
    port, config = base
    proxy = start(config)
    proxy.wait_for(READY)
    path = tmp_path / "conf" / "mosn.json"
    chain = config["servers"][0]["listeners"][0]["filter_chains"][0]
    with opened(port) as kept, socket.create_connection(("127.0.0.1", port), PATIENCE) as begun:
        begun.sendall(b"\x16\x03\x01")  # in the middle of its first bytes when the listener changes
        assert exchange(kept)[0] == 200
        context = chain.pop("tls_context")
        change(proxy, path, config)
        assert plain_answer(port)[0] == 200
        assert exchange(kept)[0] == 200  # as it was opened
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as plain:
            assert exchange(plain)[0] == 200
            chain["tls_context"] = context
            change(proxy, path, config)
            assert answer(port)[0] == 200
            assert exchange(plain)[0] == 200
            assert exchange(kept)[0] == 200


def test_the_address_changes_under_load(start: Start, base: tuple[int, dict[str, Any]], tmp_path: Path) -> None:
    port, config = base
    (other,) = free_ports(1)
    config["servers"][0]["listeners"].append(
        {**copy.deepcopy(config["servers"][0]["listeners"][0]), "name": "moving", "address": f"127.0.0.1:{other}"}
    )
    proxy = start(config)
    proxy.wait_for(READY)
    load = Load(port)
    try:
        with opened(other) as kept:
            assert exchange(kept)[0] == 200
            (third,) = free_ports(1)
            config["servers"][0]["listeners"][1]["address"] = f"127.0.0.1:{third}"
            change(proxy, tmp_path / "conf" / "mosn.json", config)
            assert answer(third)[0] == 200
            assert load.runs()
            assert exchange(kept)[0] == 200
    finally:
        faults = load.end()
    assert faults == []


def test_a_unix_listener_with_tls(start: Start, base: tuple[int, dict[str, Any]], tmp_path: Path) -> None:
    _, config = base
    config["servers"][0]["listeners"][0].update(network="unix", address=str(tmp_path / "l.sock"))
    start(config).wait_for(READY)
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(PATIENCE)
        raw.connect(str(tmp_path / "l.sock"))
        with client_context().wrap_socket(raw, server_hostname="server.test") as secured:
            assert exchange(secured)[0] == 200
