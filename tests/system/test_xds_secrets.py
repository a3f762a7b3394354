"""Secrets from a control plane (SDS) in the TLS contexts of a configuration file."""

from pathlib import Path
from typing import Any

import pytest
from process_fixtures import Start
from pymosn_process import READY, Pymosn, eventually, free_ports
from tests.kit.certificates import Issued, ca, issue, server
from tests.kit.xds_server import CLUSTER, SECRET, TlsFiles, XdsServer
from tls_peers import answer, config_of, context_for, exchange, listener_of, opened, proxy_filter, table_of
from xds_peers import certificate, dynamic, view

pytestmark = pytest.mark.once


def source(control: XdsServer, name: str) -> dict[str, Any]:
    service = {"googleGrpc": {"targetUri": control.address, "statPrefix": "sds"}}
    return {"name": name, "sdsConfig": {"apiConfigSource": {"apiType": "GRPC", "grpcServices": [service]}}}


def config_with(control: XdsServer, admin: int, *ports: int) -> dict[str, Any]:
    """Two HTTPS listeners: one has its certificate from SDS, the other from the file."""
    context = {"status": True, "callbacks": ["f"], "sds_source": {"CertificateConfig": source(control, "cert")}}
    listeners = [
        listener_of("sds", ports[0], [{"tls_context": context, "filters": [proxy_filter("t")]}]),
        listener_of("file", ports[1], [{"tls_context": context_for(server()), "filters": [proxy_filter("t")]}]),
    ]
    return {
        **config_of(listeners, [table_of("t", "served")]),
        "admin": {"address": {"socket_address": {"port_value": admin}}},
    }


def serial(port: int) -> int:
    """The serial number of the certificate that a listener has."""
    from cryptography import x509

    with opened(port) as secured:
        shown = secured.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).serial_number


def number(issued: Issued) -> int:
    from cryptography import x509

    return x509.load_pem_x509_certificate(issued.certificate).serial_number


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
            assert eventually(lambda: serial(ports[0]) == number(second))
            control.set(certificate("cert", first, key=second.key))
            [nack] = control.wait(lambda: control.nacks(SECRET))
            assert "cert" in nack.message.error_detail.message
            assert serial(ports[0]) == number(second)
            assert exchange(old) == (200, b"served")
        proxy.wait_for("xDS: sds cert is rejected: ")


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
