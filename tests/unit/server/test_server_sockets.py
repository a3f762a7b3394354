import select
import socket

import pytest

from pymosn.server.sockets import BindError, close_all, listen, parse_address


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:2045", ("127.0.0.1", 2045)),
        ("[::1]:2045", ("::1", 2045)),
        (":2045", ("", 2045)),
        ("localhost:0", ("localhost", 0)),
    ],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize("text", ["127.0.0.1", "127.0.0.1:", "127.0.0.1:http", "::1:80", "1.2.3.4:70000", "", "a:-1"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"address|brackets"):
        parse_address(text)


def test_every_worker_has_a_listening_socket_of_its_own_on_one_port() -> None:
    sockets = listen("listener a", "127.0.0.1", 0, 3)
    assert len(sockets) == 3
    (address,) = {sock.getsockname() for sock in sockets}
    with socket.create_connection(address, 5) as client:
        readable, _, _ = select.select(sockets, [], [], 5)
        (chosen,) = readable
        accepted, peer = chosen.accept()
        assert peer == client.getsockname()
        accepted.close()
    close_all(sockets)


def test_all_addresses_means_both_families() -> None:
    sockets = listen("listener a", "", 0, 1)
    port = sockets[0].getsockname()[1]
    with socket.create_connection(("127.0.0.1", port), 5):
        pass
    close_all(sockets)


def test_a_taken_port_is_named_even_when_its_owner_would_share_it() -> None:
    first = listen("listener first", "127.0.0.1", 0, 2)
    port = first[0].getsockname()[1]
    with pytest.raises(BindError) as caught:
        listen("listener second", "127.0.0.1", port, 2)
    assert str(caught.value) == (
        f"listener second: cannot listen on 127.0.0.1:{port}: the address is in use by another process"
    )
    close_all(first)


def test_an_address_of_another_machine_is_named() -> None:
    with pytest.raises(BindError, match=r"listener a: cannot listen on 192\.0\.2\.1:80.*does not belong to this machine"):
        listen("listener a", "192.0.2.1", 80, 1)
