import errno
import os
import select
import socket
import stat
from pathlib import Path

import msgspec
import pytest

from pymosn.config.schema import Listener
from pymosn.network.listener import prepare_to_listen
from pymosn.server.listeners import ListenerSockets
from pymosn.server.sockets import BindError, FileAccess, bind_tcp, bind_udp, bind_unix, close_all
from pymosn.server.upgrade.inheritance import Inheritance, Owned
from pymosn.server.upgrade.messages import Estate, HeldSocket


def test_every_worker_has_its_own_listening_socket_on_one_port() -> None:
    sockets = bind_tcp("listener a", "127.0.0.1", 0, 3)
    assert len(sockets) == 3
    begin(sockets)
    (address,) = {sock.getsockname() for sock in sockets}
    with socket.create_connection(address, 5) as client:
        readable, _, _ = select.select(sockets, [], [], 5)
        (chosen,) = readable
        accepted, peer = chosen.accept()
        assert peer == client.getsockname()
        accepted.close()
    close_all(sockets)


def test_all_addresses_means_both_families() -> None:
    sockets = bind_tcp("listener a", "", 0, 1)
    begin(sockets)
    port = sockets[0].getsockname()[1]
    # A machine without IPv6 has one family.
    for host in ("127.0.0.1", "::1") if sockets[0].family is socket.AF_INET6 else ("127.0.0.1",):
        with socket.create_connection((host, port), 5) as client:
            assert select.select(sockets, [], [], 5)[0] == sockets
            accepted, peer = sockets[0].accept()
            assert peer[1] == client.getsockname()[1]
            accepted.close()
    close_all(sockets)


def test_a_taken_port_is_named_even_when_its_owner_would_share_it() -> None:
    first = bind_tcp("listener first", "127.0.0.1", 0, 2)
    port = first[0].getsockname()[1]
    with pytest.raises(BindError) as caught:
        bind_tcp("listener second", "127.0.0.1", port, 2)
    assert str(caught.value) == (
        f"listener second: cannot listen on 127.0.0.1:{port}: the address is in use by another process"
    )
    close_all(first)


def begin(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        prepare_to_listen(sock)
        sock.listen()


@pytest.mark.parametrize("host", ["127.0.0.1", "", "localhost"])
def test_a_bound_port_refuses_until_it_is_served_but_cannot_be_taken(host: str) -> None:
    first = bind_tcp("listener first", host, 0, 2)
    port = first[0].getsockname()[1]
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED
    with pytest.raises(BindError, match="the address is in use by another process"):
        bind_tcp("listener second", host, port, 2)
    begin(first[:1])  # the other one gets nothing before it listens as well
    for _ in range(8):
        with socket.create_connection(("127.0.0.1", port), 5):
            first[0].accept()[0].close()
    close_all(first)


def test_connections_in_time_wait_do_not_prevent_the_next_start() -> None:
    first = bind_tcp("listener first", "127.0.0.1", 0, 1)
    begin(first)
    address = first[0].getsockname()
    with socket.create_connection(address, 5) as client:
        accepted, _ = first[0].accept()
        accepted.close()  # closes first, and so gets TIME_WAIT
        assert client.recv(1) == b""
    close_all(first)
    again = bind_tcp("listener again", "127.0.0.1", address[1], 2)
    close_all(again)
    # Another program's, without SO_REUSEPORT.
    with socket.create_server(address) as other, socket.create_connection(address, 5):
        other.accept()[0].close()
    close_all(bind_tcp("listener again", "127.0.0.1", address[1], 2))


def test_an_address_of_another_machine_is_named() -> None:
    with pytest.raises(BindError, match=r"listener a: cannot listen on 192\.0\.2\.1:80.*does not belong to this machine"):
        bind_tcp("listener a", "192.0.2.1", 80, 1)


# ---- unix sockets


def connects(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(path)
        except OSError:
            return False
        return True


def test_a_socket_file_without_a_listener_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(path)
    assert not connects(path)
    with bind_unix("listener a", path) as sock:
        assert not connects(path)
        sock.listen()
        assert connects(path)


def test_a_unix_socket_in_use_is_left_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with bind_unix("listener a", path) as sock:
        for _ in range(2):  # before it listens, and when it does
            with pytest.raises(BindError, match=rf"listener b: cannot listen on {path}: the address is in use"):
                bind_unix("listener b", path)
            sock.listen()
        assert connects(path)


def test_a_file_that_is_not_a_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(BindError, match="a file exists that is not a socket"):
        bind_unix("listener a", str(path))
    assert path.read_text() == "data"
    with pytest.raises(BindError, match="No such file"):
        bind_unix("listener a", str(tmp_path / "no" / "folder"))


def unix(name: str, path: str) -> Listener:
    return Listener(name=name, address=path, network="unix", bind_port=True)


def serve(sockets: ListenerSockets) -> None:
    """Lets the active sockets listen, as workers do."""
    for _, descriptors in sockets.handover(1):
        for descriptor in descriptors:
            socket.socket(fileno=os.dup(descriptor)).listen()


def test_all_workers_share_one_unix_socket_and_its_file_goes_with_it(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    sockets = ListenerSockets()
    assert sockets.bind([unix("a", path)], 2) == []
    assert sockets.addresses() == {"a": f"unix:{path}"}
    (_, first), (_, second) = sockets.handover(1)[0], sockets.handover(2)[0]
    assert list(first) == list(second)
    sockets.close()
    assert not os.path.exists(path)


def test_the_socket_stays_over_changes_and_a_new_name_gets_the_same_one(tmp_path: Path) -> None:
    path, other = str(tmp_path / "s"), str(tmp_path / "other")
    sockets = ListenerSockets()
    assert sockets.bind([unix("a", path)], 1) == []
    serve(sockets)
    inode = os.stat(path).st_ino
    assert sockets.prepare([unix("a", path)], 1) == []
    assert sockets.handover_new(1) == [], "nothing is new"
    close_all(sockets.activate())
    assert sockets.prepare([unix("b", path), unix("c", other)], 1) == []
    close_all(sockets.activate())
    serve(sockets)
    assert os.stat(path).st_ino == inode
    assert connects(path)
    assert sockets.prepare([unix("c", other)], 1) == []
    close_all(sockets.activate())
    assert not os.path.exists(path)
    assert connects(other)
    sockets.close()


def test_a_change_that_is_given_up_leaves_no_socket_file_and_takes_none_away(tmp_path: Path) -> None:
    path, new = str(tmp_path / "s"), str(tmp_path / "new")
    sockets = ListenerSockets()
    assert sockets.bind([unix("a", path)], 1) == []
    serve(sockets)
    assert sockets.prepare([unix("b", path), unix("c", new)], 1) == []
    sockets.abandon()
    assert not os.path.exists(new)
    assert connects(path)
    wrong = sockets.prepare([unix("d", new), unix("e", str(tmp_path / "no" / "folder"))], 1)
    assert len(wrong) == 1
    assert not os.path.exists(new)
    sockets.close()


def test_a_socket_file_of_another_process_is_not_removed(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    sockets = ListenerSockets()
    assert sockets.bind([unix("a", path)], 1) == []
    os.unlink(path)
    with bind_unix("another process", path) as other:
        other.listen()
        sockets.close()
        assert connects(path)


def test_a_unix_socket_has_its_mode_from_the_start_and_keeps_it_if_a_change_is_abandoned(tmp_path: Path) -> None:
    path = str(tmp_path / "a.sock")

    def mode() -> int:
        return os.stat(path).st_mode & 0o777

    def listener(bits: str) -> Listener:
        return Listener(name="l", address=path, network="unix", bind_port=True, mode=bits)

    sockets = ListenerSockets()
    assert sockets.bind([listener("0600")], 1) == []
    assert mode() == 0o600
    assert sockets.prepare([listener("0666")], 1) == []
    sockets.abandon()
    assert mode() == 0o600
    assert sockets.prepare([listener("0660")], 1) == []
    assert sockets.activate() == []
    assert mode() == 0o660
    sockets.close()
    assert not os.path.exists(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user the owner")
def test_the_owner_of_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "a.sock")
    sockets = ListenerSockets()
    listener = Listener(name="l", address=path, network="unix", bind_port=True, user="65534", group="0")
    assert sockets.bind([listener], 1) == []
    found = os.stat(path)
    assert (found.st_uid, found.st_gid) == (65534, 0)
    sockets.close()


def test_every_worker_has_its_own_udp_socket_and_a_client_stays_with_one() -> None:
    sockets = bind_udp("listener a", "127.0.0.1", 0, 3)
    (address,) = {sock.getsockname() for sock in sockets}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(address)
        for _ in range(20):
            client.send(b"x")
    readable, _, _ = select.select(sockets, [], [], 5)
    (chosen,) = readable
    assert [chosen.recv(9) for _ in range(20)] == [b"x"] * 20
    with pytest.raises(BindError, match=r"listener b: cannot listen on 127.0.0.1:\d+ \(udp\): .*in use"):
        bind_udp("listener b", *address, 1)
    close_all(sockets)


def test_a_udp_listener_with_another_name_has_the_same_sockets() -> None:
    bound = ListenerSockets()
    assert bound.bind([Listener(name="a", address="127.0.0.1:0", network="udp", bind_port=True)], 2) == []
    port = int(bound.addresses()["a"].rpartition(":")[2])
    address = f"127.0.0.1:{port}"
    bound.close()
    assert bound.bind([Listener(name="a", address=address, network="udp", bind_port=True)], 2) == []
    assert bound.addresses() == {"a": f"udp:{address}"}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", port))
        client.send(b"waits")
        assert bound.prepare([Listener(name="b", address=address, network="udp", bind_port=True)], 2) == []
        close_all(bound.activate())
        new = [socket.socket(fileno=os.dup(sent[0])) for worker in (1, 2) for _, sent in bound.handover(worker)]
        readable, _, _ = select.select(new, [], [], 5)
        assert [sock.recv(9) for sock in readable] == [b"waits"]
    close_all(new)
    bound.close()


def test_a_removed_udp_listener_that_comes_back_while_it_has_sessions() -> None:
    bound = ListenerSockets()
    listener = Listener(name="a", address="127.0.0.1:0", network="udp", bind_port=True)
    assert bound.bind([listener], 1) == []
    listener.address = bound.addresses()["a"].removeprefix("udp:")
    bound.close()
    assert bound.bind([listener], 1) == []
    assert bound.prepare([], 1) == []
    held = bound.activate()  # as the workers hold theirs
    [fault] = bound.prepare([listener], 1)
    assert fault.endswith("in use by another process, or by sessions of the removed listener until they are idle; try again")
    close_all(held)
    assert bound.prepare([listener], 1) == []
    bound.close()


def test_files_of_adopted_sockets_get_their_access_with_the_takeover_and_a_failure_is_returned(tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in "ab"]
    ours, theirs = socket.socketpair()
    held = [HeldSocket("listener", path[-1], "unix", path, is_shared=True) for path in paths]
    owned = [Owned(each, bind_unix("listener", each.address, FileAccess(0o600))) for each in held]
    sockets = ListenerSockets(inheritance=Inheritance(theirs, Estate(1, "1.0", 2, 1), owned))
    listeners = [msgspec.structs.replace(unix(path[-1], path), mode="0660") for path in paths]
    with ours, theirs:
        assert sockets.bind(listeners, 1) == []
        assert [stat.S_IMODE(os.stat(path).st_mode) for path in paths] == [0o600, 0o600]
        os.unlink(paths[0])
        (fault,) = sockets.own()
        assert fault.startswith(f"cannot change the access to {paths[0]}, so it stays as it was: ")
        assert stat.S_IMODE(os.stat(paths[1]).st_mode) == 0o660
        sockets.close()
    assert not os.path.exists(paths[1])
