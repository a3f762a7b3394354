"""What a control plane may make the process read, write, create or connect to, by the paths in its resources."""

import os
from pathlib import Path
from typing import Any

import pytest
from tests.kit.xds_messages import message_of

from pymosn.config.schema import (
    AccessLog,
    FilterChain,
    Listener,
    MosnConfig,
    ProxyConfig,
    ProxyFilter,
    Server,
    StreamFilter,
)
from pymosn.config.schema.top import Admin
from pymosn.control.xds.accepting import Acceptor
from pymosn.control.xds.convert.kinds import KINDS
from pymosn.control.xds.types import CLUSTER, ENDPOINTS, LISTENER, SECRET, Resource, Update
from pymosn.filters.loading import class_fault
from pymosn.server.allowed_files import AllowedFiles

TYPE = "type.googleapis.com/envoy.extensions."
NAMES = {
    LISTENER: "envoy.config.listener.v3.Listener",
    CLUSTER: "envoy.config.cluster.v3.Cluster",
    ENDPOINTS: "envoy.config.endpoint.v3.ClusterLoadAssignment",
    SECRET: "envoy.extensions.transport_sockets.tls.v3.Secret",
}


class Rig:
    """`folder/conf` has the configuration, `folder/logs` the logs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "conf").mkdir()
        self.own = MosnConfig(servers=[Server()], admin=Admin())
        config_file = os.path.realpath(folder / "conf" / "config.json")
        self.files = AllowedFiles(str(folder / "conf"), str(folder), {config_file}, "stdout")

    def fault(self, kind: str, message: dict[str, Any], *, is_trusted: bool = False) -> str:
        """Why a resource is rejected; empty if it is accepted."""
        acceptor = Acceptor(KINDS, lambda item: self.files.item_errors(self.own, item))
        body = message_of(NAMES[kind], message).SerializeToString()
        accepted = acceptor.accept(Update(kind, "1", [Resource("x", "1", body)]), {}, 0.0, is_trusted=is_trusted)
        return accepted.rejected.get("x", "")


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def file_log(path: str) -> dict[str, Any]:
    return {"name": "log", "typed_config": {"@type": f"{TYPE}access_loggers.file.v3.FileAccessLog", "path": path}}


def listener(**keys: Any) -> dict[str, Any]:
    tcp = {"@type": f"{TYPE}filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "x", "cluster": "a"}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": 15006}}
    chain = {"filters": [{"name": "tcp", "typed_config": {**tcp, **keys.pop("tcp", {})}}]}
    return {"name": "x", "address": address, "filter_chains": [chain], **keys}


def endpoints(path: str) -> dict[str, Any]:
    end = {"endpoint": {"address": {"pipe": {"path": path}}}}
    return {"cluster_name": "x", "endpoints": [{"lb_endpoints": [end]}]}


def secret(path: str) -> dict[str, Any]:
    return {"name": "x", "validation_context": {"trusted_ca": {"filename": path}}}


def upstream_tls(path: str) -> dict[str, Any]:
    tls = {"common_tls_context": {"validation_context": {"trusted_ca": {"filename": path}}}}
    socket = {"@type": f"{TYPE}transport_sockets.tls.v3.UpstreamTlsContext", "sni": "a.example", **tls}
    return {"name": "x", "type": "STATIC", "transport_socket": {"name": "tls", "typed_config": socket}}


@pytest.mark.parametrize(
    ("kind", "message", "where"),
    [
        (LISTENER, listener(access_log=[file_log("/etc/cron.d/job")]), "access_logs[0].log_path"),
        (LISTENER, listener(tcp={"access_log": [file_log("/root/.bashrc")]}), "filters[0].config.access_logs[0].log_path"),
        (LISTENER, listener(address={"pipe": {"path": "/run/other.sock"}}), "address"),
        (ENDPOINTS, endpoints("/var/run/docker.sock"), "hosts[0].address"),
        (CLUSTER, {"name": "x", "type": "STATIC", "load_assignment": endpoints("/var/run/docker.sock")}, "hosts[0].address"),
        (CLUSTER, upstream_tls("/root/ca.pem"), "tls_context.ca_cert"),
        (SECRET, secret("/root/ca.pem"), "tls_context.ca_cert"),
    ],
)
def test_files_elsewhere_are_rejected_with_their_place(rig: Rig, kind: str, message: dict[str, Any], where: str) -> None:
    fault = rig.fault(kind, message)
    assert where in fault
    assert "is outside the folders that a change may name" in fault
    assert rig.fault(kind, message, is_trusted=True) == ""


def test_the_operator_can_allow_more_folders(rig: Rig) -> None:
    admin = rig.own.admin
    assert admin is not None
    admin.allowed_folders = ["/var/run"]
    assert rig.fault(ENDPOINTS, endpoints("/var/run/app/socket")) == ""
    assert rig.fault(ENDPOINTS, endpoints("/var/run/../lib/socket")) != ""


def test_what_istio_sends_is_accepted(rig: Rig) -> None:
    assert rig.fault(LISTENER, listener(access_log=[file_log("/dev/stdout")])) == ""
    for path in ("/etc/ssl/certs/ca-certificates.crt", "/etc/certs/root-cert.pem", "/var/run/secrets/istio/root-cert.pem"):
        assert rig.fault(CLUSTER, upstream_tls(path)) == ""
        assert rig.fault(SECRET, secret(path)) == ""
    # These folders are for certificates only.
    assert "outside" in rig.fault(LISTENER, listener(access_log=[file_log("/etc/certs/root-cert.pem")]))


def test_logs_are_in_the_folder_of_logs_and_are_no_file_with_another_role(rig: Rig) -> None:
    conf, logs = rig.folder / "conf", rig.folder / "logs"
    assert rig.fault(LISTENER, listener(access_log=[file_log(f"{logs}/access.log")])) == ""
    assert "must not be a log" in rig.fault(LISTENER, listener(access_log=[file_log(f"{conf}/config.json")]))
    assert "must not be a .py file" in rig.fault(LISTENER, listener(access_log=[file_log(f"{conf}/filter.py")]))


def test_an_active_certificate_of_a_control_plane_does_not_become_a_log(rig: Rig) -> None:
    certificate = f"{rig.folder}/conf/ca.pem"
    chain = FilterChain(filters=[ProxyFilter(config=ProxyConfig(downstream_protocol="Http1", router_config_name="r"))])
    data = StreamFilter(type="grpc_json_transcoder", config={"proto_descriptor": certificate})
    active = Listener(name="a", address="127.0.0.1:1", filter_chains=[chain], stream_filters=[data])
    rig.files.note_active(MosnConfig(servers=[Server(listeners=[active])]))
    assert "must not be a log" in rig.fault(LISTENER, listener(access_log=[file_log(certificate)]))


def test_files_of_a_manager_are_those_of_a_change(rig: Rig) -> None:
    """A chain's own access logs and filters are judged by the same rules as the listener's."""
    proxy = ProxyConfig(
        downstream_protocol="Http1",
        router_config_name="r",
        access_logs=[AccessLog(log_path="/etc/passwd")],
        stream_filters=[StreamFilter(type="python", config={"path": "/tmp/evil.py", "class": "Evil"})],
    )
    chain = FilterChain(filters=[ProxyFilter(config=proxy)])
    after = MosnConfig(servers=[Server(listeners=[Listener(name="a", address="127.0.0.1:1", filter_chains=[chain])])])
    errors = rig.files.change_errors(rig.own, after)
    assert [error.path.partition("filters[0].config.")[2] for error in errors] == [
        "access_logs[0].log_path",
        "stream_filters[0].config.path",
    ]


@pytest.mark.parametrize("class_", ["pytest.__main__:Filter", "pip.__main__.x:Filter"])
def test_a_program_is_no_filter(class_: str) -> None:
    assert "is a program" in class_fault(class_)


@pytest.mark.parametrize("name", ["a\nERROR forged", "a\x1b[2J", "a\r", "\u2028"])
def test_a_name_forges_no_line_of_a_log(name: str) -> None:
    acceptor = Acceptor(KINDS, lambda item: [])
    body = message_of(NAMES[CLUSTER], {"name": name, "type": "STATIC"}).SerializeToString()
    accepted = acceptor.accept(Update(CLUSTER, "1", [Resource(name, "1", body)]), {}, 0.0)
    assert accepted.rejected == {name: "the name has a character that cannot be printed"}
