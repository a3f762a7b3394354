"""The dialogue with a MOSN that is replaced, over real sockets; MOSN's side is a stand-in."""

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kit.old_mosn import PATIENCE, OldMosnStandIn

from pymosn.server.upgrade import mosn
from pymosn.server.upgrade.mosn import DEFAULT_FOLDER, OldMosn, TakeoverError, find, socket_folder


@pytest.fixture
def sockets(tmp_path: Path) -> Iterator[list[socket.socket]]:
    """Of each kind that MOSN has: TCP on one address and on all, UDP, unix."""
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        both = stack.enter_context(socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        unix = stack.enter_context(socket.socket(socket.AF_UNIX))
        unix.bind(str(tmp_path / "listener.sock"))
        unix.listen()
        spare = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        yield [one, both, udp, unix, spare]


def found_in(folder: Path, *, wants_config: bool = False) -> OldMosn:
    old = find(str(folder), wants_config)
    assert old is not None
    return old


def port(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


def test_the_sockets_are_found_by_address(tmp_path: Path, sockets: list[socket.socket]) -> None:
    stand_in = OldMosnStandIn(tmp_path, sockets)
    old = found_in(tmp_path)
    one, both, udp, unix, spare = sockets
    assert old.find("tcp", "127.0.0.2", port(one)) is None
    assert old.find("udp", "127.0.0.1", port(one)) is None
    wanted = [
        ("tcp", "127.0.0.1", port(one), one),
        ("tcp", "0.0.0.0", port(both), both),  # Go listens on [::] for it
        ("udp", "127.0.0.1", port(udp), udp),
        ("unix", str(tmp_path / "listener.sock"), 0, unix),
    ]
    for network, host, number, sock in wanted:
        found = old.find(network, host, number)
        assert found is not None
        assert os.path.sameopenfile(found.sock.fileno(), sock.fileno())
    assert [found.address for found in old.unused()] == [f"127.0.0.1:{port(spare)}"]
    assert old.confirm() == ""
    assert stand_in.done.wait(PATIENCE)
    assert stand_in.outcome == "replaced"
    old.close()
    stand_in.close()
    # A later start must not ask the old one again, which is ending.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["listener.sock"]


def test_it_goes_on_if_its_successor_does_not_confirm(tmp_path: Path, sockets: list[socket.socket]) -> None:
    stand_in = OldMosnStandIn(tmp_path, sockets)
    old = found_in(tmp_path)
    received = [found.sock for found in old.sockets]
    old.close()
    assert stand_in.done.wait(PATIENCE)
    assert stand_in.outcome == "not replaced"
    assert [sock.fileno() for sock in received] == [-1] * 5
    assert (tmp_path / "reconfig.sock").exists()
    with socket.create_connection(sockets[0].getsockname()):
        pass  # it still listens
    stand_in.close()


def test_a_missing_acknowledgment_is_an_error(
    tmp_path: Path, sockets: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mosn, "ACKNOWLEDGE_TIME", 0.05)
    monkeypatch.setattr(mosn, "_DYING_TIME", 0.05)
    stand_in = OldMosnStandIn(tmp_path, sockets, acknowledges=False)
    old = found_in(tmp_path)
    with pytest.raises(TakeoverError, match=r"did not acknowledge that it is replaced: no answer in time"):
        old.confirm()
    old.close()
    assert stand_in.done.wait(PATIENCE)
    assert stand_in.outcome == "refused"
    stand_in.close()


def test_a_mosn_that_sends_nothing_is_an_error(
    tmp_path: Path, sockets: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mosn, "SEND_TIME", 0.05)
    stand_in = OldMosnStandIn(tmp_path, sockets, sends=False)
    with pytest.raises(TakeoverError, match=r"did not send its sockets .it may be ending"):
        find(str(tmp_path), False)
    stand_in.close()
    assert {path.name for path in tmp_path.iterdir()} == {"listener.sock", "reconfig.sock"}


@pytest.mark.parametrize("size", [10, 3_000_000])
@pytest.mark.parametrize("wants_config", [True, False])
def test_the_configuration_is_received_or_discarded(
    tmp_path: Path, sockets: list[socket.socket], wants_config: bool, size: int
) -> None:
    """MOSN sends it because of its own key; unread it would wait for ever."""
    content = json.dumps({"pid": "x" * size}).encode()
    stand_in = OldMosnStandIn(tmp_path, sockets, config=content)
    old = found_in(tmp_path, wants_config=wants_config)
    assert old.config == (content if wants_config else b"")
    assert old.confirm() == ""
    old.close()
    assert stand_in.done.wait(PATIENCE)
    assert stand_in.outcome == "replaced"
    stand_in.close()


def test_a_configuration_that_is_not_sent_is_an_error(
    tmp_path: Path, sockets: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mosn, "SEND_TIME", 0.05)
    stand_in = OldMosnStandIn(tmp_path, sockets)
    with pytest.raises(TakeoverError, match=r"did not send its configuration .is `inherit_old_mosnconfig` true there"):
        find(str(tmp_path), True)
    assert stand_in.done.wait(PATIENCE)
    assert stand_in.outcome == "not replaced"
    stand_in.close()


def test_without_a_living_mosn_there_is_nothing_to_take_over(tmp_path: Path) -> None:
    assert find(str(tmp_path), False) is None
    assert find(str(tmp_path / "missing"), False) is None
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "reconfig.sock"))
    assert find(str(tmp_path), True) is None
    assert [path.name for path in tmp_path.iterdir()] == ["reconfig.sock"]
    (tmp_path / "reconfig.sock").unlink()
    (tmp_path / "reconfig.sock").write_text("a file")
    assert find(str(tmp_path), False) is None


def test_a_socket_of_another_user_is_not_trusted(
    tmp_path: Path, sockets: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = OldMosnStandIn(tmp_path, sockets)
    monkeypatch.setattr(mosn, "_is_trusted", lambda uid: False)
    with pytest.raises(TakeoverError, match=r"reconfig.sock belongs to user \d+, who is not trusted"):
        find(str(tmp_path), False)
    assert not stand_in.done.is_set()
    assert {path.name for path in tmp_path.iterdir()} == {"listener.sock", "reconfig.sock"}
    stand_in.close()


def test_files_that_are_no_sockets_are_left_alone(tmp_path: Path, sockets: list[socket.socket]) -> None:
    stand_in = OldMosnStandIn(tmp_path, sockets)
    (tmp_path / "listen.sock").write_text("a file")
    with pytest.raises(TakeoverError, match=r"listen.sock is not a socket"):
        find(str(tmp_path), False)
    assert (tmp_path / "listen.sock").read_text() == "a file"
    stand_in.close()


def test_the_folder_is_where_mosn_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert socket_folder("conf/mosn.json", "") == str(tmp_path / "conf")
    assert socket_folder("/etc/mosn/mosn.json", "") == "/etc/mosn"
    assert socket_folder("/etc/mosn/mosn.json", "/run/mosn") == "/run/mosn"
    assert socket_folder("/etc/mosn/mosn.json", "run") == str(tmp_path / "run")
    # Its `InitDefaultPath` looks at none of them then.
    assert socket_folder("/etc/mosn.json", "/run/mosn") == DEFAULT_FOLDER
    assert socket_folder("/mosn.json", "") == DEFAULT_FOLDER
