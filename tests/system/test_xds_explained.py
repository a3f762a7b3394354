"""Where a request's listener, route, cluster and certificate come from; and that nothing secret is shown of any of them."""

import base64
import json
import os
import ssl
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from envoy.extensions.filters.http.ext_authz.v3.ext_authz_pb2 import ExtAuthz
from envoy.extensions.filters.http.jwt_authn.v3.config_pb2 import JwtAuthentication
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext
from process_fixtures import Start
from pymosn_process import READY, Upstream, eventually, free_ports
from tests.kit.certificates import ca, issue, server
from tests.kit.xds_server import LISTENER, ROUTES, SECRET, XdsServer
from tls_peers import answer, config_of, listener_of, opened, proxy_filter, table_of
from xds_peers import Mesh, certificate, dynamic, eds, hosts, listens, manager, port_of, routes
from xds_peers import listener as listener_message

pytestmark = pytest.mark.once


def explained(admin: int, url: str, **more: Any) -> Any:
    body = json.dumps({"url": url, **more}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{admin}/api/v1/explain", body, method="POST")
    with urllib.request.urlopen(request) as response:
        return json.load(response)


def origins(admin: int, url: str) -> dict[str, Any]:
    return {one["part"]: one for one in explained(admin, url)["origins"]}


def resource(admin: int, name: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/api/v1/xds?resource={name}") as response:
        found: list[dict[str, Any]] = json.load(response)["resources"]
    return found


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pymosn", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_each_part_names_its_resource_and_version(start: Start, upstream: Upstream) -> None:
    with XdsServer() as control:
        mesh = Mesh(start, control=control)
        port = mesh.serving("web", port_of(upstream))
        url = f"http://web.test:{port}/"
        versions = {kind: mesh.held(kind)["web"] for kind in ("cds", "eds", "lds", "rds")}
        plane = f"ADS {control.address}"
        found = origins(mesh.admin, url)
        types = {"listener": "lds", "filter chain": "lds", "route table": "rds", "virtual host": "rds", "route": "rds"}
        types |= {"cluster": "cds", "endpoints": "eds"}
        assert {part: one["type"] for part, one in found.items()} == types
        assert {one["version"] for part, one in found.items()} == set(versions.values())
        assert all((one["from"], one["resource"], one["control_plane"]) == ("xds", "web", plane) for one in found.values())

        mesh.put_and_see(routes("web", "other"))  # the old one serves until the cluster is there, or is missing for a while
        newer = mesh.held("rds")["web"]
        assert eventually(lambda: origins(mesh.admin, url)["route"]["version"] == newer)
        assert "cluster" not in origins(mesh.admin, url)
        found = {one["type"]: one for one in resource(mesh.admin, "web")}
        assert (found["rds"]["version"], found["rds"]["used_by"], found["rds"]["state"]) == (newer, ["lds web"], "active")
        assert found["cds"]["needs"] == ["eds web"]
        assert found["eds"]["used_by"] == ["cds web"]
        assert resource(mesh.admin, "nothing") == []

        broken = listens("web", port, "web")
        broken.use_original_dst.value = True
        broken.udp_listener_config.SetInParent()
        mesh.rejected(broken)
        [shown] = [one for one in resource(mesh.admin, "web") if one["type"] == "lds"]
        assert (shown["version"], shown["state"]) == (versions["lds"], "active")
        assert shown["rejected"]
        assert origins(mesh.admin, url)["listener"]["version"] == versions["lds"]


def test_what_waits_is_told_from_what_is_active(start: Start, upstream: Upstream) -> None:
    with XdsServer() as control:
        mesh = Mesh(start, control=control)
        port = mesh.serving("web", port_of(upstream))
        before = mesh.held("lds")["web"]
        mesh.put_and_see(listens("web", port, "unknown"))
        newer = mesh.held("lds")["web"]
        assert eventually(lambda: "waiting for table unknown" in str(resource(mesh.admin, "web")))
        [shown] = [one for one in resource(mesh.admin, "web") if one["type"] == "lds"]
        assert (shown["version"], shown["active_version"]) == (newer, before)
        assert shown["state"] == "waiting for table unknown"
        one = origins(mesh.admin, f"http://web.test:{port}/")["listener"]
        assert (one["version"], one["state"]) == (before, f"version {newer} is waiting for table unknown")


def test_the_file_is_named_with_its_lines_and_the_commands_show_it(start: Start, upstream: Upstream, tmp_path: Path) -> None:
    admin, port = free_ports(2)
    with XdsServer() as control:
        control.set(eds("dynamic"), hosts("dynamic", port_of(upstream)))
        config = config_of([listener_of("l", port, [{"filters": [proxy_filter("t")]}])], [table_of("t", cluster="dynamic")])
        proxy = start({**dynamic(control, admin), **config, "admin": {"address": {"socket_address": {"port_value": admin}}}})
        proxy.wait_for(READY)
        assert eventually(lambda: "endpoints" in origins(admin, f"http://x:{port}/"))
        found = origins(admin, f"http://x:{port}/")
        assert [found[part]["from"] for part in ("listener", "route", "cluster")] == ["file", "file", "xds"]
        path = str(tmp_path / "conf" / "mosn.json")
        lines = Path(path).read_text().splitlines()
        for part in ("listener", "route table"):
            assert os.path.samefile(found[part]["file"], path)
            assert 0 < found[part]["line"] <= len(lines)
        text = run("explain", "-c", path, "--running", "GET", f"http://x:{port}/").stdout
        assert f"cluster dynamic: cds dynamic, version {found['cluster']['version']}, from ADS {control.address}" in text
        assert f"listener l: {found['listener']['file']}:{found['listener']['line']}" in text
        shown = run("xds", "-c", path, "dynamic").stdout
        assert f"cds dynamic: version {found['cluster']['version']} from ADS {control.address}, active" in shown
        missing = run("xds", "-c", path, "nothing")
        assert (missing.returncode, "there is no resource 'nothing'" in missing.stderr) == (2, True)
        # Without a running process, only the file is known.
        alone = run("explain", "-c", path, "GET", f"http://x:{port}/").stdout
        assert f"listener l: {path}:{found['listener']['line']}" in alone


def test_a_secret_is_named_and_failed_handshakes_are_shown(start: Start) -> None:
    admin, port = free_ports(2)
    with XdsServer() as control:
        name = {"name": "cert", "sdsConfig": {"apiConfigSource": {"apiType": "GRPC", "grpcServices": [
            {"googleGrpc": {"targetUri": control.address, "statPrefix": "sds"}}]}}}  # fmt: skip
        context = {"status": True, "sds_source": {"CertificateConfig": name}}
        listeners = [listener_of("sds", port, [{"tls_context": context, "filters": [proxy_filter("t")]}])]
        control.set(certificate("cert", server()), version="v7")
        proxy = start({
            **config_of(listeners, [table_of("t", "served")]),
            "admin": {"address": {"socket_address": {"port_value": admin}}},
        })  # fmt: skip
        proxy.wait_for(READY)
        assert eventually(lambda: answer(port) == (200, b"served"))
        found = origins(admin, f"https://server.test:{port}/")["secret"]
        assert (found["resource"], found["version"], found["source"]) == ("cert", "v7", control.address)
        with pytest.raises(ssl.SSLError), opened(port, context=ssl.create_default_context()):
            pass
        url = f"https://server.test:{port}/"

        def alerts() -> list[dict[str, Any]]:
            # Those without the certificate, at the start, may be there, too.
            return [one for one in explained(admin, url).get("failed_handshakes", ()) if one["reason"] == "client_tls_alert"]

        assert eventually(lambda: bool(alerts()))
        [failed] = alerts()
        assert failed["client"] == "127.0.0.1"
        assert "unknown ca" in failed["detail"]
        assert abs(failed["time"] - time.time()) < 60


SENTINELS = {name: f"SENTINEL{name}4711" for name in ("metadata", "authz", "jwk", "route", "static")}


def guarded(port: int, key: bytes) -> Any:
    """A listener with a key, a key set with a symmetric key, and a service that is told a token."""
    hcm = manager("secrets", "secrets")
    del hcm.http_filters[:]
    jwt = JwtAuthentication()
    provider = jwt.providers["p"]
    provider.issuer = "i"
    encoded = base64.urlsafe_b64encode(SENTINELS["jwk"].encode()).decode().rstrip("=")
    provider.local_jwks.inline_string = json.dumps({"keys": [{"kty": "oct", "kid": "k", "alg": "HS256", "k": encoded}]})
    hcm.http_filters.add(name="envoy.filters.http.jwt_authn").typed_config.Pack(jwt)
    authz = ExtAuthz()
    authz.grpc_service.envoy_grpc.cluster_name = "secrets"
    authz.grpc_service.initial_metadata.add(key="authorization", value=f"Bearer {SENTINELS['metadata']}")
    hcm.http_filters.add(name="envoy.filters.http.ext_authz").typed_config.Pack(authz)
    authz = ExtAuthz()
    authz.http_service.server_uri.cluster = "secrets"
    authz.http_service.server_uri.uri = "http://x"
    authz.http_service.server_uri.timeout.seconds = 1
    authz.http_service.authorization_request.headers_to_add.add(key="x-api-key", value=SENTINELS["authz"])
    hcm.http_filters.add(name="two").typed_config.Pack(authz)
    from envoy.extensions.filters.http.router.v3.router_pb2 import Router

    hcm.http_filters.add(name="envoy.filters.http.router").typed_config.Pack(Router())
    message = listener_message("secrets", port, hcm)
    tls = DownstreamTlsContext()
    pair = tls.common_tls_context.tls_certificates.add()
    pair.certificate_chain.inline_bytes = server().certificate
    pair.private_key.inline_bytes = key
    message.filter_chains[0].transport_socket.name = "tls"
    message.filter_chains[0].transport_socket.typed_config.Pack(tls)
    return message


def shown_by(admin: int, paths: Mapping[str, bytes | None]) -> str:
    texts = []
    for path, body in paths.items():
        request = urllib.request.Request(f"http://127.0.0.1:{admin}{path}", body)
        try:
            with urllib.request.urlopen(request) as response:
                texts.append(response.read().decode())
        except urllib.error.HTTPError as error:
            texts.append(error.read().decode())
    return "\n".join(texts)


def test_nothing_secret_is_shown_logged_or_stored_for_others(start: Start, upstream: Upstream) -> None:
    with XdsServer() as control:
        mesh = Mesh(start, control=control)
        [port] = free_ports(1)
        table = routes("secrets", "secrets")
        added = table.request_headers_to_add.add()
        added.header.key, added.header.value = "authorization", f"Bearer {SENTINELS['route']}"
        secret = certificate("pair", server())
        wants = listener_message("sds", free_ports(1)[0], manager("sds", "secrets"))
        tls = DownstreamTlsContext()
        config = tls.common_tls_context.tls_certificate_sds_secret_configs.add(name="pair")
        config.sds_config.ads.SetInParent()
        wants.filter_chains[0].transport_socket.name = "tls"
        wants.filter_chains[0].transport_socket.typed_config.Pack(tls)
        mesh.put(secret, eds("secrets"), hosts("secrets", port_of(upstream)), table, guarded(port, server().key), wants)
        assert eventually(lambda: "secrets" in mesh.held("lds") and mesh.held("sds")), mesh.view()
        # Rejected ones are quoted in logs, views and NACKs.
        other = issue("other.test", ca())
        rejected = guarded(port, other.key)
        mesh.rejected(rejected)
        mesh.rejected(certificate("pair", server(), key=other.key))
        [nack, *_] = control.nacks(LISTENER)
        question = json.dumps({"url": f"https://secrets.test:{port}/"}).encode()
        paths: dict[str, bytes | None] = dict.fromkeys(
            [
                *("/api/v1/config_dump", "/api/v1/xds", "/api/v1/routes", "/api/v1/clusters", "/api/v1/filters"),
                *("/config_dump", "/config_dump?include_eds", "/clusters?format=json", "/listeners?format=json"),
                *("/stats", "/certs", "/api/v1/certs", "/api/v1/last_change", "/server_info", "/init_dump"),
                *("/api/v1/xds?resource=secrets", "/api/v1/xds?resource=pair"),
            ]
        )
        text = shown_by(mesh.admin, {**paths, "/api/v1/explain": question, "/api/v1/explain?format=text": question})
        text += "\n".join(mesh.proxy.lines) + nack.message.error_detail.message
        text += control.nacks(SECRET)[0].message.error_detail.message + str(control.nacks(ROUTES))
        assert "secrets" in text
        encoded = base64.urlsafe_b64encode(SENTINELS["jwk"].encode()).decode().rstrip("=")
        hidden = [*SENTINELS.values(), encoded]
        for pem in (server().key, other.key):
            line = pem.splitlines()[1].decode()
            hidden += [line[8:40], base64.b64encode(pem).decode()[60:100]]
        assert [one for one in hidden if one in text] == []

        stored = Path(mesh.view()["cache"]["path"])
        assert eventually(stored.exists)
        assert stat.S_IMODE(stored.stat().st_mode) == 0o600
        assert stat.S_IMODE(stored.parent.stat().st_mode) == 0o700
        assert b"envoy.extensions.transport_sockets.tls.v3.Secret" not in stored.read_bytes()
