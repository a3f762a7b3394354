"""Secrets from a control plane (SDS) in the TLS contexts of a configuration file."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from envoy.extensions.filters.listener.tls_inspector.v3.tls_inspector_pb2 import TlsInspector
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext
from process_fixtures import Start
from pymosn_process import READY, Pymosn, eventually, free_ports
from tests.kit.certificates import Issued, ca, client, issue, server
from tests.kit.xds_server import CLUSTER, SECRET, TlsFiles, XdsServer
from tls_peers import answer, config_of, context_for, exchange, listener_of, opened, proxy_filter, table_of
from xds_peers import Mesh, answers, certificate, dynamic, listener, manager, sds_source, serial_of, served_serial, view

pytestmark = pytest.mark.once


def config_with(control: XdsServer, admin: int, *ports: int) -> dict[str, Any]:
    """Two HTTPS listeners: one has its certificate from SDS, the other from the file."""
    context = {"status": True, "callbacks": ["f"], "sds_source": {"CertificateConfig": sds_source(control.address, "cert")}}
    listeners = [
        listener_of("sds", ports[0], [{"tls_context": context, "filters": [proxy_filter("t")]}]),
        listener_of("file", ports[1], [{"tls_context": context_for(server()), "filters": [proxy_filter("t")]}]),
    ]
    return {
        **config_of(listeners, [table_of("t", "served")]),
        "admin": {"address": {"socket_address": {"port_value": admin}}},
    }


def test_a_missing_secret_blocks_only_its_listener_and_is_shown(start: Start) -> None:
    admin, *ports = free_ports(3)
    with XdsServer() as control:
        proxy = start(config_with(control, admin, *ports))
        proxy.wait_for(READY)
        control.wait(lambda: control.of(SECRET))
        assert answer(ports[1]) == (200, b"served")
        assert answer(ports[0])[0] == 0
        [missing] = view(admin)["missing_secrets"].items()
        assert missing == (f"cert from {control.address}", ["sds"])
        control.set(certificate("cert", server()))
        assert eventually(lambda: answer(ports[0]) == (200, b"served"))
        assert view(admin)["missing_secrets"] == {}


def test_a_rotation_drops_no_connection_and_a_broken_pair_is_rejected(start: Start) -> None:
    admin, *ports = free_ports(3)
    first, second = (issue("server.test", ca(), names=("server.test",)) for _ in range(2))
    with XdsServer() as control:
        control.set(certificate("cert", first))
        proxy = start(config_with(control, admin, *ports))
        proxy.wait_for(READY)
        assert eventually(lambda: answer(ports[0]) == (200, b"served"))
        with opened(ports[0]) as old:
            assert exchange(old) == (200, b"served")
            control.set(certificate("cert", second))
            assert eventually(lambda: served_serial(ports[0]) == serial_of(second))
            control.set(certificate("cert", first, key=second.key))
            [nack] = control.wait(lambda: control.nacks(SECRET))
            assert "cert" in nack.message.error_detail.message
            assert served_serial(ports[0]) == serial_of(second)
            assert exchange(old) == (200, b"served")
        proxy.wait_for("xDS: sds cert is rejected: ")


def test_row_18_an_expired_ca_is_rejected_and_the_old_one_stays(start: Start) -> None:
    admin, port = free_ports(2)

    def trusted(issued: Issued) -> Secret:
        made = Secret(name="trusted")
        made.validation_context.trusted_ca.inline_bytes = issued.certificate
        return made

    with XdsServer() as control:
        control.set(trusted(ca()), certificate("cert", server()))
        names = {"CertificateConfig": "cert", "ValidationConfig": "trusted"}
        sources = {key: sds_source(control.address, name) for key, name in names.items()}
        context = {"status": True, "verify_client": True, "require_client_cert": True, "sds_source": sources}
        chain = {"tls_context": context, "filters": [proxy_filter("t")]}
        config = config_of([listener_of("l", port, [chain])], [table_of("t", "served")])
        proxy = start({**config, "admin": {"address": {"socket_address": {"port_value": admin}}}})
        proxy.wait_for(READY)
        assert eventually(lambda: answer(port, certificate=client()) == (200, b"served"))
        control.set(trusted(issue("Old CA", None, is_ca=True, starts=timedelta(days=-9), ends=timedelta(days=-1))))
        [nack] = control.wait(lambda: control.nacks(SECRET))
        assert "trusted: " in nack.message.error_detail.message
        assert answer(port, certificate=client()) == (200, b"served")
        assert answer(port)[0] == 0


def test_tls_to_the_control_plane_is_used_whenever_it_is_configured(start: Start, tmp_path: Path) -> None:
    [admin] = free_ports(1)
    authorities = tmp_path / "ca.pem"
    authorities.write_bytes(ca().certificate)
    context = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": "server.test",
        "common_tls_context": {"validation_context": {"trusted_ca": {"filename": str(authorities)}}},
    }
    socket = {"name": "envoy.transport_sockets.tls", "typed_config": context}
    with XdsServer(tls=TlsFiles(server().certificate, server().key)) as control:
        proxy = start(dynamic(control, admin, transport_socket=socket))
        proxy.wait_for(READY)
        first = control.wait(lambda: control.of(CLUSTER))[0]
        assert first.message.node.id == "node-1"
        assert first.message.node.user_agent_name == "pymosn"
        assert view(admin)["mode"] == "dynamic"


@pytest.mark.parametrize("section", ["dynamic_resources", "static_resources"])
def test_a_missing_section_prevents_the_start_and_is_named(start: Start, section: str) -> None:
    with XdsServer() as control:
        config = dynamic(control, 0)
    del config[section]
    proxy: Pymosn = start({**config, "servers": [{}]})
    assert proxy.exit_code() == 1
    assert f"{section}: missing" in proxy.output


def test_faults_of_the_bootstrap_have_paths(start: Start) -> None:
    with XdsServer() as control:
        config = dynamic(control, 0)
    config["dynamic_resources"]["ads_config"]["api_type"] = "REST"
    config["dynamic_resources"]["ads_config"]["grpc_services"] = [{"envoy_grpc": {"cluster_name": "other"}}]
    proxy = start(config)
    assert proxy.exit_code() == 1
    assert "dynamic_resources.ads_config.api_type: REST is not supported" in proxy.output
    assert "grpc_services[0].envoy_grpc.cluster_name: 'other' is not among static_resources.clusters" in proxy.output


def secured(name: str, sources: dict[str, str], port: int) -> Any:
    """A listener with a chain for each server name; `sources`: server name -> secret from ADS."""
    message = listener(name, port, *(manager(name, "r") for _ in sources))
    message.listener_filters.add(name="inspector").typed_config.Pack(TlsInspector())
    for chain, (server_name, secret) in zip(message.filter_chains, sources.items(), strict=True):
        chain.filter_chain_match.server_names.append(server_name)
        context = DownstreamTlsContext()
        found = context.common_tls_context.tls_certificate_sds_secret_configs.add(name=secret)
        found.sds_config.ads.SetInParent()
        chain.transport_socket.name = "tls"
        chain.transport_socket.typed_config.Pack(context)
    return message


def test_row_17_of_two_servers_of_a_gateway_only_the_one_without_its_secret_refuses(start: Start) -> None:
    [port] = free_ports(1)
    absent = "kubernetes://absent"
    mesh = Mesh(start)
    try:
        sources = {"server.test": "kubernetes://present", "a.wild.test": absent}
        mesh.put(secured("gateway", sources, port), answers("r", "served"), certificate("kubernetes://present", server()))
        assert eventually(lambda: answer(port) == (200, b"served")), mesh.view()
        assert answer(port, "a.wild.test")[0] == 0
        assert answer(port) == (200, b"served")
        assert mesh.view()["missing_secrets"] == {f"{absent} from ads": ["gateway"]}
        metrics = mesh.admin_text("/metrics").splitlines()
        assert "pymosn_xds_missing_secrets 1.0" in metrics
        failed = r'pymosn_connection_failures_total\{listener="gateway.*",reason="client_tls_handshake_failed"\} 1.0'
        assert any(re.fullmatch(failed, line) for line in metrics)
        status, explained = mesh.proxy.post("/api/v1/explain", {"url": f"https://a.wild.test:{port}/"})
        assert (status, explained["chain"]["waits_for"]) == (200, [absent])
        mesh.put(certificate(absent, server()))
        assert eventually(lambda: answer(port, "a.wild.test", "a.wild.test") == (200, b"served"))
        assert mesh.view()["missing_secrets"] == {}
    finally:
        mesh.control.stop()
