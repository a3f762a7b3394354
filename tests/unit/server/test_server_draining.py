"""Draining while the process runs: what is sent to the workers, and what a worker does with it."""

from collections.abc import Callable, Collection
from typing import Any

from tests.kit import FakeClock, Lines

from pymosn.config.schema import Listener, MosnConfig, Server
from pymosn.server.draining import Draining
from pymosn.server.messages import SetDrain
from pymosn.server.worker_drain import DrainMode


def config(*listeners: tuple[str, str]) -> MosnConfig:
    made = [Listener(name=name, type=kind, address="127.0.0.1:1") for name, kind in listeners]
    return MosnConfig(servers=[Server(listeners=made, graceful_timeout=45.0)])


class Rig:
    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.later: list[tuple[float, Callable[[], None]]] = []
        self.clock = FakeClock(100.0)
        self.draining = Draining(
            self.send, self.close, lambda delay, call: self.later.append((delay, call)), Lines(), self.clock
        )
        self.draining.follow(config(("in", "ingress"), ("out", "egress")))

    def send(self, command: object) -> None:
        self.sent.append(command)

    def close(self, names: Collection[str]) -> None:
        if names:
            self.sent.append(f"close {' '.join(names)}")


def test_nothing_is_drained_at_first() -> None:
    rig = Rig()
    assert rig.sent == []
    assert rig.draining.command() == SetDrain([], [])
    assert not rig.draining.is_active


def test_a_graceful_drain_closes_the_listeners_after_its_time() -> None:
    rig = Rig()
    rig.draining.drain(False, True, False)
    assert rig.sent == [SetDrain(["in", "out"], [])]
    assert rig.draining.is_active
    ((delay, end),) = rig.later
    assert delay == 45.0
    end()
    # First the supervisor's copies: a worker's socket is the last one.
    assert rig.sent[1:] == ["close in out", SetDrain(["in", "out"], ["in", "out"])]


def test_skip_exit_never_closes_them() -> None:
    rig = Rig()
    rig.draining.drain(False, True, True)
    assert rig.later == []
    assert rig.sent == [SetDrain(["in", "out"], [])]


def test_the_next_generation_drains_for_the_rest_of_the_time() -> None:
    before, after = Rig(), Rig()
    assert before.draining.export() is None
    before.draining.drain(True, True, False)
    before.clock.now += 30.0
    content = before.draining.export()
    assert content is not None
    after.draining.adopt(content)
    after.draining.adopt(content)  # once more when it is ready
    assert after.draining.is_active
    assert after.draining.command() == SetDrain(["in"], [])
    ((delay, end),) = after.later
    assert delay == 15.0
    end()
    assert after.sent[-2:] == ["close in", SetDrain(["in"], ["in"])]


def test_the_next_generation_keeps_closed_what_is_closed() -> None:
    before, after = Rig(), Rig()
    before.draining.drain(False, False, False)
    before.draining.set_failing(True)
    content = before.draining.export()
    assert content is not None
    after.draining.adopt(content)
    assert after.sent == ["close in out", SetDrain(["in", "out"], ["in", "out"])]
    after.draining.set_failing(False)
    assert after.draining.is_active


def test_only_inbound_listeners() -> None:
    rig = Rig()
    rig.draining.drain(True, True, False)
    rig.later[0][1]()
    assert rig.sent == [SetDrain(["in"], []), "close in", SetDrain(["in"], ["in"])]


def test_without_grace_they_are_closed_at_once() -> None:
    rig = Rig()
    rig.draining.drain(True, False, False)
    assert rig.sent == ["close in", SetDrain(["in"], ["in"])]
    rig.draining.drain(False, False, False)
    assert rig.sent[2:] == ["close in out", SetDrain(["in", "out"], ["in", "out"])]


def test_a_second_drain_may_widen_the_first_but_has_no_second_end() -> None:
    rig = Rig()
    rig.draining.drain(True, True, False)
    rig.draining.drain(False, True, False)
    rig.draining.drain(True, True, False)
    assert rig.sent == [SetDrain(["in"], []), SetDrain(["in", "out"], []), SetDrain(["in", "out"], [])]
    assert len(rig.later) == 1


def test_later_listeners_are_drained_too() -> None:
    rig = Rig()
    rig.draining.drain(False, True, False)
    rig.draining.follow(config(("in", "ingress"), ("new", "")))
    assert rig.sent[-1] == SetDrain(["in", "new"], [])
    rig.later[0][1]()
    rig.draining.follow(config(("newer", "")))
    assert rig.sent[-2:] == ["close newer", SetDrain(["newer"], ["newer"])]


def test_a_failing_health_check_drains_until_it_is_ok() -> None:
    rig = Rig()
    rig.draining.set_failing(True)
    assert rig.draining.is_active
    rig.draining.set_failing(False)
    assert rig.sent == [SetDrain(["in", "out"], []), SetDrain([], [])]
    assert not rig.draining.is_active


class FakeListener:
    def __init__(self, name: str) -> None:
        self.name = name
        self.is_draining = False
        self.calls: list[str] = []

    def drain(self) -> None:
        self.is_draining = True
        self.calls.append("drain")

    def stop_accepting(self) -> None:
        self.calls.append("stop_accepting")


def close_all(listeners: list[Any]) -> None:
    for listener in listeners:
        listener.stop_accepting()


def test_a_worker_drains_closes_and_serves_again() -> None:
    mode, one, two = DrainMode(close_all), FakeListener("one"), FakeListener("two")
    listeners: list[Any] = [one, two]
    mode.set(SetDrain(["one"], []), listeners)
    mode.apply(listeners)
    assert (one.calls, two.calls) == (["drain"], [])
    mode.set(SetDrain([], []), listeners)
    assert not one.is_draining
    mode.set(SetDrain(["two"], ["two"]), listeners)
    assert two.calls == ["stop_accepting", "drain"]
    later = FakeListener("two")
    mode.apply([later])  # type: ignore[list-item]
    assert later.calls == ["stop_accepting", "drain"]
