"""Real control planes drive pymosn: go-control-plane, state of the world and delta, and MOSN's sample server."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.system.process_fixtures import Start
from tests.system.pymosn_process import READY, Pymosn, Upstream, eventually, free_ports

from interop.programs import program

pytest.importorskip("grpc", reason="needs the extra `xds`")

from tests.kit import certificates
from tests.kit.xds_server import packed
from tests.system import xds_peers as peers

pytestmark = pytest.mark.timeout(180)


class GoControlPlane:
    """A server on go-control-plane's snapshot cache, which is asked for by `PYMOSN_GCP`.

    It takes `-port` (gRPC) and `-http`; there POST /snapshot replaces the resources, GET /counts has ACKs and NACKs by type.
    """

    def __init__(self, path: str) -> None:
        self.port, self._http = free_ports(2)
        self._resources: dict[tuple[str, str], Any] = {}
        self._version = 0
        command = [path, "-port", str(self.port), "-http", str(self._http)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert eventually(lambda: self._is_up())

    def _is_up(self) -> bool:
        try:
            return bool(self.counts())
        except OSError:
            return False

    def counts(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._http}/counts") as response:
            found: dict[str, Any] = json.load(response)
            return found

    def put(self, *messages: Any, without: tuple[str, ...] = ()) -> None:
        """Adds or replaces resources, and removes those called `without`."""
        for message in messages:
            whole = packed(message)
            self._resources[whole.type_url, peers.name_of(message)] = whole
        self._resources = {key: one for key, one in self._resources.items() if key[1] not in without}
        self._version += 1
        resources = [
            {"type_url": one.type_url, "value": base64.b64encode(one.value).decode()} for one in self._resources.values()
        ]
        body = json.dumps({"version": str(self._version), "resources": resources}).encode()
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{self._http}/snapshot", body).close()
        except urllib.error.HTTPError as error:
            pytest.fail(f"the snapshot is refused: {error.read().decode()}")

    @property
    def version(self) -> str:
        """The version of the newest snapshot."""
        return str(self._version)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def driven(start: Start, is_delta: bool) -> Iterator[tuple[GoControlPlane, Pymosn, int]]:
    """A control plane and a pymosn that it drives, with the port of its admin API."""
    control = GoControlPlane(program("xds_go"))
    try:
        [admin] = free_ports(1)
        config = peers.dynamic(control, admin)  # type: ignore[arg-type]
        if is_delta:
            config["dynamic_resources"]["ads_config"]["api_type"] = "DELTA_GRPC"
        proxy = start(config)
        proxy.wait_for(READY)
        yield control, proxy, admin
    finally:
        control.close()


def versions(admin: int) -> set[str]:
    """The accepted versions of all types; of a delta stream, those of its last responses."""
    return {kind["version"] for kind in peers.view(admin)["types"].values()}


@pytest.mark.parametrize("is_delta", [False, True], ids=["sotw", "delta"])
def test_edits_under_traffic(start: Start, upstream: Upstream, is_delta: bool) -> None:
    other = Upstream()
    first, second = peers.port_of(upstream), peers.port_of(other)
    [port] = free_ports(1)
    with driven(start, is_delta) as (control, _, admin):
        control.put(peers.eds("a"), peers.hosts("a", first), peers.routes("table", "a"), peers.listens("web", port, "table"))
        assert eventually(lambda: peers.answered(port) == 200), peers.view(admin)
        edits: list[tuple[tuple[Any, ...], tuple[str, ...]]] = [
            ((peers.hosts("a", first, second),), ()),
            ((peers.hosts("a", second),), ()),
            ((peers.eds("a", alt_stat_name="b", lb_policy="RANDOM"),), ()),
            ((peers.eds("b"), peers.hosts("b", first), peers.routes("table", "a", "b")), ()),
            ((peers.routes("table", "b"),), ()),
            ((), ("a",)),
            ((peers.listener("web", port, peers.manager("renamed", "table")),), ()),
        ]
        with peers.Traffic(port, per_connection=5) as traffic:
            for messages, without in edits:
                control.put(*messages, without=without)
                assert eventually(lambda: control.version in versions(admin)), peers.view(admin)
                assert traffic.goes_on(30), traffic.failed
        found = control.counts()
        assert not found["nacks"], found["errors"]
        assert found["delta" if is_delta else "sotw"] == 1
    other.close()


@pytest.mark.parametrize("is_delta", [False, True], ids=["sotw", "delta"])
def test_a_rejected_resource_is_no_storm(start: Start, upstream: Upstream, is_delta: bool) -> None:
    """go-control-plane sends a rejected response again at once."""
    [port] = free_ports(1)
    with driven(start, is_delta) as (control, _, admin):
        good = peers.listens("web", port, "table")
        control.put(peers.eds("a"), peers.hosts("a", peers.port_of(upstream)), peers.routes("table", "a"), good)
        assert eventually(lambda: peers.answered(port) == 200), peers.view(admin)
        bad = peers.listens("web", port, "table")
        bad.filter_chains[0].filters[0].typed_config.value += b"\xc2\x3e\x01x"  # field 1000
        control.put(bad)
        assert eventually(lambda: control.counts()["nacks"])
        assert "web: filter_chains[0].filters[0].typed_config" in control.counts()["errors"][0]
        begun = time.monotonic()
        assert eventually(lambda: time.monotonic() > begun + 2.0)
        assert sum(control.counts()["nacks"].values()) < 20
        assert peers.answered(port) == 200
        control.put(good)
        assert eventually(lambda: peers.view(admin)["types"]["lds"]["rejected"] == {})


def secured(port: int, certificate: str) -> Any:
    """A listener with a certificate from SDS, over the same stream."""
    from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext

    made = peers.listens("web", port, "table")
    context = DownstreamTlsContext()
    secret = context.common_tls_context.tls_certificate_sds_secret_configs.add(name=certificate)
    secret.sds_config.ads.SetInParent()
    transport = made.filter_chains[0].transport_socket
    transport.name = "envoy.transport_sockets.tls"
    transport.typed_config.Pack(context)
    return made


def shakes_hands(port: int) -> bool:
    context = certificates.client_context()
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as plain:
            context.wrap_socket(plain, server_hostname="127.0.0.1").close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("is_delta", [False, True], ids=["sotw", "delta"])
def test_certificates_are_rotated_under_traffic(start: Start, upstream: Upstream, is_delta: bool) -> None:
    [port] = free_ports(1)

    def pair() -> certificates.Issued:
        return certificates.issue("web", certificates.ca(), names=("127.0.0.1",))

    with driven(start, is_delta) as (control, _, admin):
        control.put(
            peers.eds("a"),
            peers.hosts("a", peers.port_of(upstream)),
            peers.routes("table", "a"),
            secured(port, "web-certificate"),
            peers.certificate("web-certificate", pair()),
        )
        assert eventually(lambda: shakes_hands(port)), peers.view(admin)
        with peers.Traffic(port, context=certificates.client_context(), per_connection=3) as traffic:
            for _ in range(5):
                control.put(peers.certificate("web-certificate", pair()))
                assert eventually(lambda: control.version in versions(admin)), peers.view(admin)
                assert traffic.goes_on(30), traffic.failed


def test_the_sample_server_of_mosn(start: Start, upstream: Upstream, tmp_path: Path) -> None:
    """Its configuration of the client, but for the ports, and resources from a file that it watches."""
    path = program("xds_mosn")
    own, port, admin = free_ports(3)
    resources = tmp_path / "resources"
    resources.mkdir()

    def write(text: str) -> None:
        (resources / "new").write_text(text)
        shutil.move(resources / "new", resources / "config.yaml")

    content = f"""
name: testconfig
spec:
  listeners:
    - name: listener_0
      address: 127.0.0.1
      port: {port}
      routes:
        - name: echoroute
          prefix: /
          clusters: [echo]
  clusters:
    - name: echo
      endpoints:
        - address: 127.0.0.1
          port: {peers.port_of(upstream)}
"""
    write(content)
    command = [path, "-port", str(own), "-watchDirectoryFileName", str(resources / "config.yaml")]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        control = type("Control", (), {"port": own})()
        config = peers.dynamic(control, admin)
        config["node"] = {"id": "test-id", "cluster": "test-cluster"}
        start(config).wait_for(READY)
        assert eventually(lambda: peers.answered(port) == 200), peers.view(admin)
        found = peers.view(admin)
        assert all(not kind["rejected"] for kind in found["types"].values())
        assert sorted(one["name"] for one in found["clients"])[0] == "ADS"
    finally:
        server.kill()
        server.wait()
