"""Sockets that a service manager passes: which are used, and what happens to the others."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kit import Lines

from pymosn.config.schema import Listener
from pymosn.server.admin_socket import AdminSocket
from pymosn.server.listeners import ListenerSockets
from pymosn.server.sockets import BindError
from pymosn.server.upgrade import activation
from pymosn.server.upgrade.activation import ActivatedSockets, activated


def bound(address: str | tuple[str, int], *, is_udp: bool = False) -> socket.socket:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM if is_udp else socket.SOCK_STREAM)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind(address)
    if not is_udp:
        sock.listen()
    return sock


def address_of(sock: socket.socket) -> str:
    return f"127.0.0.1:{sock.getsockname()[1]}"


@pytest.fixture
def tcp() -> Iterator[socket.socket]:
    with bound(("127.0.0.1", 0)) as sock:
        yield sock


def test_a_listener_of_the_same_address_uses_the_socket_in_all_workers(tcp: socket.socket) -> None:
    listeners = ListenerSockets(activated=ActivatedSockets([tcp], 3))
    assert listeners.bind([Listener(name="a", address=address_of(tcp), bind_port=True)], 3) == []
    for worker in (1, 2, 3):
        ((command, descriptors),) = listeners.handover(worker)
        assert list(descriptors) == [tcp.fileno()]
        assert command.kept == ["a"]  # type: ignore[attr-defined]
    listeners.close()


@pytest.mark.parametrize(
    ("host", "configured"),
    [
        ("127.0.0.1", "localhost:{}"),
        ("0.0.0.0", "0.0.0.0:{}"),
        ("::", ":{}"),
        ("::", "[::]:{}"),
        ("::1", "[0:0:0:0:0:0:0:1]:{}"),
    ],
)
def test_addresses_are_compared_as_the_system_resolves_them(host: str, configured: str) -> None:
    if ":" in host and not socket.has_ipv6:
        pytest.skip("no IPv6")
    with bound((host, 0)) as sock:
        port = sock.getsockname()[1]
        assert ActivatedSockets([sock]).take("tcp", configured.format(port)) is sock


@pytest.mark.parametrize(
    "configured", ["0.0.0.0:{}", "127.0.0.2:{}", "[::]:{}", ":{}", "127.0.0.1:1", "no such name:{}", "x"]
)
def test_another_address_is_no_match(tcp: socket.socket, configured: str) -> None:
    assert ActivatedSockets([tcp]).take("tcp", configured.format(tcp.getsockname()[1])) is None


def test_another_kind_is_no_match(tcp: socket.socket) -> None:
    sockets = ActivatedSockets([tcp])
    assert sockets.take("udp", address_of(tcp)) is None
    assert sockets.take("tcp", address_of(tcp), True) is None
    assert sockets.take("tcp", address_of(tcp)) is tcp
    assert sockets.take("tcp", address_of(tcp)) is None


def test_a_udp_socket_is_for_one_worker_only() -> None:
    log = Lines()
    with bound(("127.0.0.1", 0), is_udp=True) as sock:
        address = address_of(sock)
        assert ActivatedSockets([sock], 1).take("udp", address) is sock
        two = ActivatedSockets([sock], 2)
        assert two.take("udp", address) is None
        two.close_spare(log)
    assert log.lines == [
        f"the socket udp:{address} of the service manager is not used: only one worker can use a UDP socket"
    ]


def test_sockets_without_a_listener_are_closed_with_a_warning(tcp: socket.socket, tmp_path: Path) -> None:
    log = Lines()
    address = address_of(tcp)
    with bound(str(tmp_path / "a")) as unix, bound(f"\0pymosn-test-{os.getpid()}") as abstract:
        sockets = ActivatedSockets([tcp, unix, abstract])
        assert sockets.take("unix", str(tmp_path / "." / "a")) is unix
        sockets.close_spare(log)
        assert (tcp.fileno(), abstract.fileno()) == (-1, -1)
        assert unix.fileno() >= 0
    assert len(log.lines) == 2
    reason = "of the service manager is not used: no listener has exactly this address, nor has the admin API"
    assert f"the socket tcp:{address} {reason}" in log.lines


def test_the_file_of_a_unix_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "a"
    sock = bound(str(path))
    listeners = ListenerSockets(activated=ActivatedSockets([sock], 2))
    assert listeners.bind([Listener(name="a", network="unix", address=str(path), bind_port=True)], 2) == []
    listeners.close()
    assert path.exists()


def test_the_admin_socket_must_be_private_and_its_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "admin"
    sock = bound(str(path))
    path.chmod(0o660)
    with pytest.raises(BindError, match="mode 0660, expected 0600"):
        AdminSocket(str(path), adopted=sock, is_kept=True)
    path.chmod(0o600)
    admin = AdminSocket(str(path), adopted=sock, is_kept=True)
    assert admin.sock is sock
    admin.close()
    assert path.exists()


def test_the_variables_are_for_this_process_and_removed(monkeypatch: pytest.MonkeyPatch, tcp: socket.socket) -> None:
    log = Lines()
    monkeypatch.setattr(activation, "FIRST", tcp.fileno())
    variables = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "web"}
    for other in ({"LISTEN_PID": "1"}, {"LISTEN_FDS": "many"}, {"LISTEN_FDS": ""}):
        environment = variables | other | {"PATH": "/bin"}
        assert activated(environment, 1, log).take("tcp", address_of(tcp)) is None
        assert environment == {"PATH": "/bin"}
    found = activated(variables, 1, log).take("tcp", address_of(tcp))
    assert found is not None
    assert (found.fileno(), found.get_inheritable(), found.getblocking()) == (tcp.fileno(), False, False)
    found.detach()


def test_a_descriptor_that_is_no_socket_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Lines()
    read, write = os.pipe()
    monkeypatch.setattr(activation, "FIRST", read)
    activated({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}, 1, log)
    os.close(read)
    os.close(write)
    assert log.lines == [f"LISTEN_FDS: descriptor {read} is not a socket: Socket operation on non-socket"]
