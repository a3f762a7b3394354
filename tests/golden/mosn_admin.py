"""Runs rows of `mosn/admin.yaml` against the admin API of a program, MOSN or pymosn.

A row has `path`, and if it needs them `method` and `body`; or `asks`, a list of such requests, whose last one counts. Its
outcome has `status`, `type` (the content type), `body`, and if that is JSON, `json`. Rows may change levels of logs: later
ones see it.
`{log}` is the path of the process log, `{access}` that of the access log; `{port}` and `{admin_port}` are ports.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from pathlib import Path
from typing import Any, Final

from tests.golden.mosn_table import Row

#: Seconds for an answer.
PATIENCE = 20.0


class AdminWorld:
    """The configuration, its paths, and the requests of rows."""

    #: What the program needs in its environment.
    ENVIRONMENT: Final = {"MOSN_ADMIN_TEST": "one"}

    def __init__(self, folder: Path, port: int, admin_port: int) -> None:
        """`folder`: that of the configuration. `port`: of the listener."""
        self.admin_port = admin_port
        self._port = port
        self._words = {
            "{log}": str(folder / "logs" / "mosn.log"),
            "{access}": str(folder / "logs" / "access.log"),
            "127.0.0.1:{port}": f"127.0.0.1:{port}",
        }

    def config(self) -> dict[str, Any]:
        """A listener, a table with a route of each kind, and two clusters, one of them with all that MOSN prints."""
        proxy = {"downstream_protocol": "Http1", "upstream_protocol": "Http1", "router_config_name": "r"}
        listener = {
            "name": "l",
            "address": f"127.0.0.1:{self._port}",
            "bind_port": True,
            "access_logs": [{"log_path": self._words["{access}"]}],
            "filter_chains": [{"filters": [{"type": "proxy", "config": proxy}]}],
        }
        weighted = [{"cluster": {"name": "c", "weight": 1}}, {"cluster": {"name": "d", "weight": 3}}]
        routers = [
            {"match": {"prefix": "/direct"}, "direct_response": {"status": 200, "body": "ok"}},
            {"match": {"prefix": "/away"}, "redirect": {"path_redirect": "/there"}},
            {"match": {"prefix": "/both"}, "route": {"weighted_clusters": weighted, "timeout": "3s"}},
            {"match": {"prefix": "/"}, "route": {"cluster_name": "c", "retry_policy": {"retry_on": True, "num_retries": 1}}},
        ]
        host = {"name": "v", "domains": ["*"], "routers": routers}
        plain = {"name": "c", "type": "SIMPLE", "lb_type": "LB_RANDOM", "hosts": [{"address": "127.0.0.1:1"}]}
        tuned = {
            **plain,
            "name": "d",
            "hosts": [{"address": "127.0.0.1:1", "weight": 5, "hostname": "h"}],
            "circuit_breakers": [{"max_connections": 7}],
            "max_request_per_conn": 10,
            "connect_timeout": "2s",
            "health_check": {"protocol": "Http1", "interval": "30s", "healthy_threshold": 1},
            "tls_context": {"status": False, "server_name": "n", "private_key": "-----BEGIN PRIVATE KEY-----"},
        }
        server = {
            "default_log_path": self._words["{log}"],
            "default_log_level": "WARN",
            "listeners": [listener],
            "routers": [{"router_config_name": "r", "virtual_hosts": [host]}],
        }
        admin = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": self.admin_port}}}
        return {
            "servers": [server],
            "cluster_manager": {"clusters": [plain, tuned]},
            "admin": admin,
            "extends": [{"type": "e", "config": {"k": 1}}],
        }

    def outcome(self, row: Row) -> dict[str, Any]:
        """The answer to the last request of a row."""
        found: dict[str, Any] = {}
        for ask in row.given.get("asks", [row.given]):
            found = self.ask(ask.get("method", "GET"), ask["path"], ask.get("body", ""))
        return found

    def ask(self, method: str, path: str, body: str = "") -> dict[str, Any]:
        """One request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=PATIENCE)
        try:
            connection.request(method, self._filled(path), self._filled(body).encode() or None)
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        found: dict[str, Any] = {"status": response.status, "type": response.getheader("content-type")}
        with contextlib.suppress(ValueError):
            found["json"] = self._named(json.loads(text))
        return {**found, "body": self._named(text)}

    def wait_until_running(self) -> bool:
        """Waits until the program serves and has started; no event of it says so. False if it does not."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if "state=6" in self.ask("GET", "/api/v1/states")["body"]:
                    return True
            threading.Event().wait(0.02)
        return False

    def _filled(self, text: str) -> str:
        for word, value in self._words.items():
            text = text.replace(word, value)
        return text

    def _named(self, value: Any) -> Any:
        """A value of JSON with words instead of what differs between runs."""
        if isinstance(value, dict):
            return {self._named(key): self._named(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._named(item) for item in value]
        if isinstance(value, str):
            for word, text in self._words.items():
                value = value.replace(text, word)
        return "{admin_port}" if value == self.admin_port else value
