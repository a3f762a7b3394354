"""DNS rebinding: which `Host` is answered, on a port and on the unix socket."""

import pytest
from tests.unit.control.asgi_client import AsgiClient
from tests.unit.control.fake_plane import FakePlane

from pymosn.config.schema.top import Admin
from pymosn.control.access import TcpDoor
from pymosn.control.admin import create_app
from pymosn.control.hosts import HostError, is_allowed_host
from pymosn.core.log import Log

GOOD = [
    "127.0.0.1",
    "127.0.0.1:34901",
    "10.1.2.3",
    "localhost",
    "LocalHost:1",
    "localhost.",
    "[::1]",
    "[::1]:34901",
    "192.0.2.1:",
]
FOREIGN = [
    "evil.example",
    "evil.example:34901",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "127.1",
    "0x7f000001",
    "2130706433",
]
MALFORMED = [
    *("", " ", "a b", "http://127.0.0.1", "user@127.0.0.1", "[::1", "::1", "[127.0.0.1]", "[zz]", "[::1]x"),
    *("127.0.0.1:x", "127.0.0.1/", "a,b", "127.0.0.1:1:2"),
]


@pytest.fixture
def port() -> AsgiClient:
    door = TcpDoor(Admin(allowed_hosts=["Admin.Example", "mesh.local."]), "/", lambda: True, Log())
    return AsgiClient(create_app(FakePlane(), environment={}, door=door))


@pytest.mark.parametrize("host", GOOD)
@pytest.mark.parametrize("path", ["/api/v1/version", "/metrics"])
def test_addresses_and_localhost(port: AsgiClient, host: str, path: str) -> None:
    assert port.request("GET", path, headers={"host": host}).status == 200


@pytest.mark.parametrize("host", FOREIGN)
def test_other_names(port: AsgiClient, host: str) -> None:
    for method, path in [
        ("GET", "/api/v1/config_dump"),
        ("HEAD", "/"),
        ("OPTIONS", "/"),
        ("POST", "/api/v1/explain"),
        ("GET", "/nothing"),
    ]:
        assert port.request(method, path, headers={"host": host}).status == 403
    for path in ("/metrics", "/healthz", "/ready"):
        assert port.request("GET", path, headers={"host": host}).status == 200
        assert port.request("POST", path, headers={"host": host}).status == 405


@pytest.mark.parametrize("host", MALFORMED)
def test_malformed_hosts(port: AsgiClient, host: str) -> None:
    for path in ("/api/v1/version", "/metrics", "/healthz", "/ready"):
        assert port.request("GET", path, headers={"host": host}).status == 400


def test_a_missing_host(port: AsgiClient) -> None:
    assert port.request("GET", "/api/v1/version").status == 400
    assert port.request("GET", "/metrics").status == 400


def test_repeated_hosts() -> None:
    with pytest.raises(HostError):
        is_allowed_host(["127.0.0.1", "127.0.0.1"], ())


@pytest.mark.parametrize("host", ["admin.example", "ADMIN.example.:34901", "mesh.local"])
def test_names_of_the_configuration(port: AsgiClient, host: str) -> None:
    assert port.request("GET", "/api/v1/version", headers={"host": host}).status == 200
    assert port.request("GET", "/api/v1/version", headers={"host": f"x{host}"}).status == 403


@pytest.mark.parametrize("host", [*GOOD, *FOREIGN, *MALFORMED])
def test_the_unix_socket_answers_any_host(host: str) -> None:
    client = AsgiClient(create_app(FakePlane(), environment={}))
    assert client.request("GET", "/api/v1/version", headers={"host": host}).status == 200
    assert client.request("POST", "/api/v1/reload_filters", headers={"host": host}).status == 200
    assert client.get("/api/v1/version").status == 200
