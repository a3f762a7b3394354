"""Orders for logs that the admin API gave, and the next generation."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from pymosn.observe.logs import LogSet
from pymosn.server.logs import adopt_orders, export_orders
from pymosn.server.messages import SetLogLevel, SwitchLog


def test_without_orders_nothing_is_carried() -> None:
    assert export_orders([]) is None


def test_orders_are_followed_here_and_in_all_workers(tmp_path: Path) -> None:
    path, access = str(tmp_path / "mosn.log"), "/var/log/access.log"
    content = export_orders([SetLogLevel(path, "DEBUG"), SwitchLog(access, False), SwitchLog("/gone.log", False)])
    assert content is not None
    logs, sent = LogSet(path), []
    adopt_orders(content, [path, access], logs, sent.append)
    assert logs.levels() == {path: "DEBUG"}
    assert sent == [SetLogLevel(path, "DEBUG"), SwitchLog(access, False)]
    logs.close()


def test_a_process_log_that_was_switched_off_stays_off(tmp_path: Path) -> None:
    path = str(tmp_path / "mosn.log")
    content = export_orders([SwitchLog(path, False)])
    assert content is not None
    logs, sent = LogSet(path), []
    adopt_orders(content, [path], logs, sent.append)
    logs.process_log.write(1, "not written")
    logs.close()
    assert (tmp_path / "mosn.log").read_text() == ""
    assert sent == [SwitchLog(path, False)]


def test_an_unknown_level_is_refused(tmp_path: Path) -> None:
    logs, sent = LogSet(str(tmp_path / "mosn.log")), []
    orders: list[dict[str, Any]] = [{"path": str(tmp_path / "mosn.log"), "level": "LOUD", "later": 1}]
    with pytest.raises(ValueError, match="LOUD"):
        adopt_orders(msgspec.msgpack.encode(orders), [str(tmp_path / "mosn.log")], logs, sent.append)
    assert sent == []
    logs.close()
