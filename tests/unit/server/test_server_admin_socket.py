import os
import socket
import stat
import threading
from pathlib import Path

import pytest

from pymosn.server.admin_socket import AdminSocket, open_folder, short_address
from pymosn.server.sockets import BindError


def is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def serving(path: str) -> AdminSocket:
    """A new socket that listens, as when its server has started."""
    made = AdminSocket(path)
    made.sock.listen()
    return made


def left_over(path: Path) -> None:
    """A socket file of a process that was killed."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_only_the_owner_has_access_whatever_the_umask_is(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        made = serving(str(tmp_path / "s"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o600
    assert is_served(tmp_path / "s")
    made.close()
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_a_listener_is_replaced(tmp_path: Path) -> None:
    left_over(tmp_path / "s")
    made = serving(str(tmp_path / "s"))
    assert is_served(tmp_path / "s")
    made.close()


def test_a_living_owner_is_named_and_left_alone(tmp_path: Path) -> None:
    owner = serving(str(tmp_path / "s"))
    with pytest.raises(BindError, match=rf"another pymosn \(pid {os.getpid()}\) already serves {tmp_path}/s"):
        AdminSocket(str(tmp_path / "s"))
    assert is_served(tmp_path / "s")
    owner.close()


def test_an_owner_that_does_not_serve_yet_is_left_alone(tmp_path: Path) -> None:
    owner = AdminSocket(str(tmp_path / "s"))
    with pytest.raises(BindError, match=rf"another process already serves {tmp_path}/s, or is about to"):
        AdminSocket(str(tmp_path / "s"))
    owner.sock.listen()
    assert is_served(tmp_path / "s")
    owner.close()


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_not_a_socket_is_left_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "s"
    if kind == "file":
        path.write_text("kept")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BindError, match="is not a socket"):
        AdminSocket(str(path))
    assert os.path.lexists(path)
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_that_was_replaced_stays(tmp_path: Path) -> None:
    made = serving(str(tmp_path / "s"))
    (tmp_path / "s").unlink()
    other = serving(str(tmp_path / "s"))
    made.close()
    assert is_served(tmp_path / "s")
    other.close()


def test_a_long_path_works_and_a_long_name_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 120)
    folder.mkdir()
    path = folder / "mosn.admin.sock"
    made = serving(str(path))
    with socket.socket(socket.AF_UNIX) as client, open_folder(str(path)) as descriptor:
        client.connect(short_address(descriptor, str(path)))
    made.close()
    assert not path.exists()
    with pytest.raises(OSError, match="too long"):
        AdminSocket(str(folder / ("n" * 100)))


@pytest.mark.parametrize("path", ["/nowhere/s", "/proc/s", "/dev/null/s"])
def test_a_folder_that_cannot_hold_it(path: str) -> None:
    with pytest.raises(OSError, match=r"\[Errno"):
        AdminSocket(path)


def test_of_many_that_start_at_once_over_a_left_over_file_one_wins(tmp_path: Path) -> None:
    path = tmp_path / "s"
    for _ in range(10):
        left_over(path)
        made: list[AdminSocket] = []
        refused: list[BindError] = []
        gate = threading.Barrier(4)

        def create(
            gate: threading.Barrier = gate, made: list[AdminSocket] = made, refused: list[BindError] = refused
        ) -> None:
            gate.wait(10)
            try:
                made.append(serving(str(path)))
            except BindError as error:
                refused.append(error)

        threads = [threading.Thread(target=create) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert (len(made), len(refused)) == (1, 3)
        assert is_served(path)
        made[0].close()
