"""Messages for the service manager, with a fake clock and a list instead of a socket."""

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.kit import Lines

from pymosn.server.notify import Notifier
from pymosn.server.upgrade.keeper import notify

SOCKET = {"NOTIFY_SOCKET": "/run/notify"}


class Manager:
    """Collects what is sent, and the timers."""

    def __init__(self, environment: dict[str, str], failure: str = "") -> None:
        self.sent: list[str] = []
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.failure = failure
        self.log = Lines()
        self.notifier = Notifier(self._send, environment, 42, self._call_later, self.log, lambda: 12.5)

    def _send(self, text: str) -> str:
        self.sent.append(text)
        return self.failure

    def _call_later(self, seconds: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        self.timers.append((seconds, call))
        return asyncio.new_event_loop().call_later(seconds, call)


def test_a_run_with_a_reload() -> None:
    manager = Manager(SOCKET)
    manager.notifier.ready("Serving.")

    async def reload() -> None:
        async with manager.notifier.reload():
            assert manager.sent[1:] == ["RELOADING=1\nMONOTONIC_USEC=12500000\nSTATUS=Reloading the configuration."]

    asyncio.run(reload())
    manager.notifier.stopping("Draining.")
    manager.notifier.stopping("Draining.")
    manager.notifier.ready("Serving.")
    assert [text.partition("\n")[0] for text in manager.sent] == ["READY=1", "RELOADING=1", "READY=1", "STOPPING=1"]


def test_a_reload_that_raises_is_over_too() -> None:
    manager = Manager(SOCKET)

    async def reload() -> None:
        async with manager.notifier.reload():
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(reload())
    assert manager.sent[-1] == "READY=1\nSTATUS=Serving."


@pytest.mark.parametrize(
    ("environment", "interval"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "42"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "43"}, 0),
        ({"WATCHDOG_USEC": "soon"}, 0),
        ({}, 0),
    ],
)
def test_signs_of_life(environment: dict[str, str], interval: float) -> None:
    manager = Manager(SOCKET | environment)
    asyncio.run(manager.notifier.start())
    assert manager.sent == ["WATCHDOG=1"] * (interval > 0)
    if interval:
        assert manager.timers[0][0] == interval
        manager.timers[0][1]()
        manager.notifier.leave()
        manager.timers[1][1]()
        assert manager.sent == ["WATCHDOG=1"] * 2
        assert len(manager.timers) == 2


def test_without_a_service_manager_nothing_is_sent() -> None:
    manager = Manager({"WATCHDOG_USEC": "3000000"})
    asyncio.run(manager.notifier.start())
    manager.notifier.ready("Serving.")
    assert manager.sent == []


def test_a_failure_is_logged_once() -> None:
    manager = Manager(SOCKET, "gone")
    manager.notifier.ready("Serving.")
    manager.notifier.reloading("Upgrading.")
    assert [line for line in manager.log.lines if "notified" in line] == ["the service manager cannot be notified: gone"]


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_both_kinds_of_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    name = f"@pymosn-test-{os.getpid()}" if kind == "abstract" else str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0"))
        assert notify(b"READY=1") == ""
        assert manager.recv(100) == b"READY=1"
    assert "refused" in notify(b"READY=1")


def test_other_addresses_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "vsock:2:9999")
    assert notify(b"READY=1") == "NOTIFY_SOCKET=vsock:2:9999 is not a unix socket"
