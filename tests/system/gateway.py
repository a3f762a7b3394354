"""One hop of the real program with one worker, and what it tells of its requests."""

import json
import signal
import socket
from pathlib import Path
from typing import Any

from plain_sockets import PATIENCE
from pymosn_process import Pymosn, TwoHops, eventually


class Gateway(TwoHops):
    """One worker, one hop, an access log of reason, status and path."""

    def __init__(self, upstream_port: int, tmp_path: Path) -> None:
        super().__init__(upstream_port)
        self.access_log = tmp_path / "access.log"
        self.config_path = tmp_path / "conf" / "mosn.json"
        self.server["processor"] = 1
        self.server["listeners"] = [self.listener]
        self.listener["filter_chains"][0]["filters"][0]["config"]["router_config_name"] = "server_router"
        self.listener["access_logs"] = [
            {"log_path": str(self.access_log), "log_format": "%reason% %response_code% %request_path%"}
        ]

    @property
    def listener(self) -> dict[str, Any]:
        listener: dict[str, Any] = self.server["listeners"][0]
        return listener

    @property
    def proxy(self) -> dict[str, Any]:
        config: dict[str, Any] = self.listener["filter_chains"][0]["filters"][0]["config"]
        return config

    @property
    def cluster(self) -> dict[str, Any]:
        """The cluster of the upstream."""
        cluster: dict[str, Any] = self.config["cluster_manager"]["clusters"][1]
        return cluster

    def log(self) -> list[str]:
        return self.access_log.read_text().splitlines() if self.access_log.exists() else []

    def logs(self, *lines: str) -> bool:
        """Whether exactly these lines come."""
        return eventually(lambda: len(self.log()) >= len(lines)) and self.log() == list(lines)

    def logs_in_any_order(self, *lines: str) -> bool:
        """The same of lines that nothing puts in order."""
        return eventually(lambda: len(self.log()) >= len(lines)) and sorted(self.log()) == sorted(lines)

    def stats(self, group: str, name: str) -> dict[str, int]:
        return {key: int(value) for key, value in json.loads(self.admin("/api/v1/stats"))[group][name].items()}

    def connect(self, receive_buffer: int = 0) -> socket.socket:
        sock = socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(PATIENCE)
        sock.connect(("127.0.0.1", self.client_port))
        return sock

    def reload(self, proxy: Pymosn) -> None:
        before = json.loads(self.admin("/api/v1/last_change"))["attempt"]
        self.config_path.write_text(json.dumps(self.config))
        proxy.send(signal.SIGHUP)
        assert eventually(lambda: json.loads(self.admin("/api/v1/last_change"))["attempt"] > before)
        assert json.loads(self.admin("/api/v1/last_change"))["applied"]
