import asyncio
import os
from pathlib import Path

from tests.kit import FakeClock, Lines

from pymosn.config.schema import AccessLog, Listener, MosnConfig, Server
from pymosn.core.log import Log
from pymosn.observe.roller import Policy
from pymosn.server.rolling import LogRolling

NOW = 1_700_000_000.0


def writing(*paths: str) -> MosnConfig:
    """A configuration with access logs at `paths`."""
    logs = [AccessLog(log_path=path) for path in paths]
    return MosnConfig(servers=[Server(default_log_path="stdout", listeners=[Listener(name="l", access_logs=logs)])])


def test_a_file_that_is_due_is_rotated_once_and_reopened_by_all(tmp_path: Path) -> None:
    big, small = tmp_path / "big.log", tmp_path / "small.log"
    big.write_text("x" * 100)
    small.write_text("x")
    reopened: list[int] = []
    paths = [str(big), str(small), "stdout"]
    rolling = LogRolling(
        writing(*paths), str(tmp_path), Policy(size=50, keep=3), lambda: reopened.append(1), FakeClock(wall_time=NOW), Log()
    )
    asyncio.run(rolling.check())
    asyncio.run(rolling.check())
    assert reopened == [1]
    assert not big.exists()
    assert small.exists()
    assert len(os.listdir(tmp_path)) == 2


def test_trouble_is_logged_and_nothing_else_happens(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    log = folder / "a.log"
    log.write_text("x" * 100)
    lines = Lines()
    reopened: list[int] = []
    config = writing(str(log / "not-a-folder"))
    rolling = LogRolling(config, str(tmp_path), Policy(size=50), lambda: reopened.append(1), FakeClock(wall_time=NOW), lines)
    asyncio.run(rolling.check())
    assert reopened == []
    assert lines.lines[0].startswith(f"log file {log}/not-a-folder cannot be rotated")
