"""Files are read only if they are regular, and never waited for."""

import os
import socket
from pathlib import Path

import pytest

from pymosn.core.files import read_regular


def test_a_regular_file_and_a_link_to_one(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"text")
    (tmp_path / "b").symlink_to("a")
    assert read_regular(str(tmp_path / "b")) == b"text"
    assert read_regular(str(tmp_path / "a"), 4) == b"text"


def test_a_file_above_the_limit(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    with pytest.raises(OSError, match="larger than 4 bytes"):
        read_regular(str(tmp_path / "a"), 4)


def test_other_kinds_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "socket"))
        kinds = {"fifo": "a FIFO", "link": "a FIFO", "socket": "a socket", ".": "a folder"}
        for name, kind in kinds.items():
            with pytest.raises(OSError, match=f"not a regular file but {kind}"):
                read_regular(str(tmp_path / name))
    with pytest.raises(OSError, match="not a regular file but a device"):
        read_regular("/dev/zero")


def test_a_pipe_is_read_to_its_end_if_allowed() -> None:
    reading, writing = os.pipe()
    try:
        os.write(writing, b"text")
        os.close(writing)
        with pytest.raises(OSError, match="not a regular file but a pipe"):
            read_regular(f"/dev/fd/{reading}")
        assert read_regular(f"/dev/fd/{reading}", pipe=True) == b"text"
    finally:
        os.close(reading)


def test_a_fifo_with_a_name_is_never_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="not a regular file but a FIFO"):
        read_regular(str(tmp_path / "fifo"), pipe=True)
