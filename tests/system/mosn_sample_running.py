"""Runs MOSN's samples: many in one process where their keys of the file allow it. The program is pymosn or MOSN."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import jwt
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from mosn_sample_configs import SAMPLES
from mosn_sample_driving import Driver
from mosn_sample_parts import Config, Places, merged
from mosn_sample_peers import Peers
from plain_sockets import accepts
from pymosn_process import Pymosn, eventually, free_ports
from tests.kit.xds_server import XdsServer
from xds_peers import answered, eds, hosts, listens, routes

from pymosn.kit.new_certs import write_certificates

_CODES = "examples/codes/"
#: The folders of samples with keys of the file that others must not have: a process for each.
_GROUPS: dict[str, str] = {
    "skywalking": f"{_CODES}trace/skywalking/",
    "plugin": f"{_CODES}trace/skywalking-plugin/",
    "zipkin": f"{_CODES}trace/zipkin/",
    "xds": f"{_CODES}xds-server-sample/",
}
#: These need namespaces of the network.
DIVERTED = f"{_CODES}tproxy/"


def group_of(path: str) -> str:
    """The process that runs a sample: its own, or that of all others."""
    return next((name for name, folder in _GROUPS.items() if path.startswith(folder)), "all")


def groups() -> dict[str, list[str]]:
    """The samples that each process runs."""
    found: dict[str, list[str]] = {}
    for path in SAMPLES:
        if not path.startswith(DIVERTED):
            found.setdefault(group_of(path), []).append(path)
    return found


def _number(value: int) -> str:
    return base64.urlsafe_b64encode(value.to_bytes((value.bit_length() + 7) // 8, "big")).rstrip(b"=").decode()


class Tokens:
    """A key set, and tokens: one that is signed by its key, one by another, and one that has expired."""

    def __init__(self) -> None:
        own, other = (rsa.generate_private_key(65537, 2048) for _ in range(2))
        public = own.public_key().public_numbers()
        key = {"kid": "one", "kty": "RSA", "e": _number(public.e), "n": _number(public.n)}
        self.jwks = json.dumps({"keys": [key]})
        now = int(time.time())
        claims = {"iss": "testing@example.test", "sub": "testing@example.test", "iat": now}

        def signed(private: rsa.RSAPrivateKey, ends: int) -> str:
            return jwt.encode(claims | {"exp": now + ends}, private, "RS256", {"kid": "one"})

        self.by_name = {"good": signed(own, 3600), "foreign": signed(other, 3600), "expired": signed(own, -3600)}


class World:
    """The processes of samples, and their peers. `driver`: runs the steps of rows."""

    def __init__(self, mosn: str = "") -> None:
        """`mosn`: the program of MOSN; empty for pymosn."""
        self._mosn = mosn
        self.folder = Path(tempfile.mkdtemp(prefix="samples"))
        (self.folder / "certs").mkdir()
        self.places = Places(self.folder / "certs", {})
        self._running: list[subprocess.Popen[str] | Pymosn] = []
        self._started: set[str] = set()
        self._peers: Peers | None = None
        self._control: XdsServer | None = None

    def begin(self) -> None:
        """Makes certificates and tokens, and starts the peers. `driver` is there afterwards."""
        write_certificates(self.folder / "certs", (), "", 30, force=True)
        self._peers = Peers(self.folder)
        tokens = Tokens()
        self.places = Places(self.folder / "certs", self._peers.addresses, tokens.jwks)
        self.places.put("uds client", str(self.folder / "client.sock"))
        self.driver = Driver(self.places, self._peers, tokens.by_name)

    def start(self, name: str) -> None:
        """Starts the process of a group unless it runs, and waits until all of its listeners accept."""
        if name in self._started:
            return
        self._started.add(name)
        if name == "xds":
            self._begin_control()
        config = self._config(groups()[name])
        self.launch(name, config, is_yaml=name == "zipkin")
        self.wait(config)
        if name == "xds":
            # MOSN's listener accepts before it has routes.
            assert eventually(lambda: answered(self.places.port("xds")) == 200), self.output()

    def _begin_control(self) -> None:
        """The control plane of the sample with xDS."""
        self._control = XdsServer()
        self._control.start()
        self.places.put("control plane", f"127.0.0.1:{self._control.port}")
        upstream, port = self.places.port("http"), self.places.port("xds")
        one = listens("one", port, "echoroute")
        one.filter_chains[0].filters[0].name = "envoy.filters.network.http_connection_manager"  # MOSN goes by the name
        self._control.set(eds("echo"), hosts("echo", upstream), routes("echoroute", "echo"), one)

    def _config(self, paths: list[str]) -> Config:
        config = merged(*(SAMPLES[path](self.places) for path in paths))
        if "admin" in config:
            config["admin"]["address"]["socket_address"]["port_value"] = free_ports(1)[0]
        return config

    def launch(self, name: str, config: Config, is_yaml: bool = False) -> subprocess.Popen[str]:
        """Starts a process with a configuration in a folder of its own."""
        folder = self.folder / name / "conf"
        folder.mkdir(parents=True)
        path = folder / ("mosn.yaml" if is_yaml else "mosn.json")
        path.write_text(yaml.safe_dump(config) if is_yaml else json.dumps(config, indent=1))
        if not self._mosn:
            # Digests of traces are in the home directory by default.
            proxy = Pymosn(["-c", str(path), "--workers", "1"], folder.parent, {"HOME": str(folder.parent)})
            self._running.append(proxy)
            return proxy.process
        command = [self._mosn, "start", "-c", str(path)]
        with (folder.parent / "output").open("w") as output:
            process = subprocess.Popen(command, cwd=folder.parent, stdout=output, stderr=output, text=True)
        self._running.append(process)
        return process

    def wait(self, config: Config) -> None:
        """Waits until the listeners of a configuration accept."""
        for listener in (one for server in config.get("servers", []) for one in server["listeners"]):
            address: str = listener["address"]
            if address.startswith("/"):
                assert eventually(Path(address).exists), self.output()
            elif listener["bind_port"] and listener.get("network") != "udp":
                port = int(address.rpartition(":")[2])
                assert eventually(lambda port=port: accepts(port)), self.output()

    def output(self) -> str:
        """What the processes printed."""
        texts = [one.output for one in self._running if isinstance(one, Pymosn)]
        return "\n\n".join([*texts, *(path.read_text() for path in self.folder.glob("*/output"))])

    def close(self) -> None:
        """Ends all of it."""
        for process in self._running:
            if isinstance(process, Pymosn):
                process.end()
            else:
                process.kill()
                process.wait()
        if self._control is not None:
            self._control.stop()
        if self._peers is not None:
            self._peers.close()
        shutil.rmtree(self.folder)
