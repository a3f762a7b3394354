import asyncio
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pymosn.core.log import Log
from pymosn.server.pid_file import PidFile


@contextmanager
def running(path: Path) -> Iterator[None]:
    pid_file = PidFile(str(path), Log(), os.getpid())
    asyncio.run(pid_file.start())
    yield
    asyncio.run(pid_file.stop())


def test_it_holds_the_pid_while_the_process_runs(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "mosn.pid"
    with running(path):
        assert path.read_text() == f"{os.getpid()}\n"
        assert path.stat().st_mode & 0o777 == 0o644
        assert os.listdir(path.parent) == ["mosn.pid"]
    assert not path.exists()


def test_the_file_of_a_later_process_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "mosn.pid"
    with running(path):
        path.write_text("1\n")
    assert path.read_text() == "1\n"


def test_a_link_at_its_path_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("text")
    path = tmp_path / "mosn.pid"
    path.symlink_to(tmp_path / "precious")
    with running(path):
        assert path.read_text() == f"{os.getpid()}\n"
    assert (tmp_path / "precious").read_text() == "text"


def test_a_device_at_its_path_stays(tmp_path: Path) -> None:
    path = tmp_path / "null"
    os.mkfifo(path)
    with running(path):
        assert stat.S_ISFIFO(path.lstat().st_mode)
    assert os.listdir(tmp_path) == ["null"]
