"""Messages of old and of later versions of pymosn: `tests/fixtures/upgrade` has those that were sent once."""

import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.kit import FakeClock, Lines

from pymosn.control.health import HealthChecks
from pymosn.core.counters import GroupData
from pymosn.observe.logs import LogSet
from pymosn.observe.totals import sum_of
from pymosn.server.draining import Draining
from pymosn.server.ejections import KnownEjections
from pymosn.server.logs import adopt_orders
from pymosn.server.messages import SetEjections, SetLogLevel
from pymosn.server.run_options import ConfigSource
from pymosn.server.ticket_keys import SIZE, TicketKeys
from pymosn.server.upgrade.inheritance import VARIABLE, InheritanceError, inherit
from pymosn.server.upgrade.kept_config import CONFIG, load_kept
from pymosn.server.upgrade.messages import (
    FROM_PREDECESSOR,
    FROM_SUCCESSOR,
    MOVED,
    OLDEST,
    VERSION,
    Carried,
    Complete,
    Estate,
    Held,
    Leaving,
    MovedConnection,
    MovedSession,
    Ready,
    SessionsMoved,
    Take,
    Taken,
)
from pymosn.server.upgrade.totals import GenerationTotals

FOLDER = Path(__file__).parents[2] / "fixtures" / "upgrade"
VERSIONS = list(range(OLDEST, VERSION + 1))
#: What was recorded.
KINDS = ["config", "drain", "ejections", "health", "logs", "tickets", "totals"]


def lines(version: int, side: str) -> list[bytes]:
    return [bytes.fromhex(line) for line in (FOLDER / f"v{version}" / f"{side}.hex").read_text().split()]


def with_more(value: Any) -> Any:
    """The same from a later version, which knows more fields in each object."""
    if isinstance(value, dict):
        return {**{key: with_more(item) for key, item in value.items()}, "later": [1]}
    return [with_more(item) for item in value] if isinstance(value, list) else value


def content(version: int, kind: str) -> bytes:
    """What was last sent of a kind."""
    messages = [FROM_PREDECESSOR.decode(line) for line in lines(version, "predecessor")]
    return [one.content for one in messages if isinstance(one, Carried) and one.kind == kind][-1]


@pytest.mark.parametrize("version", VERSIONS)
def test_all_messages_of_each_version_are_read(version: int) -> None:
    messages = [FROM_PREDECESSOR.decode(line) for line in lines(version, "predecessor")]
    estate, held = messages[0], messages[1]
    assert isinstance(estate, Estate)
    assert (estate.version, estate.generation, estate.main_pid, estate.keeps_config) == (version, 2, 1000, True)
    assert isinstance(held, Held)
    assert {(one.owner, one.name, one.network) for one in held.sockets} >= {
        ("listener", "tcp", "tcp"),
        ("listener", "unix", "unix"),
    }
    assert {type(one) for one in messages[2:]} == {Carried, Complete, Take, Leaving}
    assert sorted({one.kind for one in messages if isinstance(one, Carried)}) == KINDS
    *_, ready, taken = [FROM_SUCCESSOR.decode(line) for line in lines(version, "successor")]
    assert isinstance(ready, Ready)
    assert ready.version == version
    assert sorted(ready.listeners) == ["tcp", "unix"]
    assert isinstance(taken, Taken)
    connection, session, moved = [MOVED.decode(line) for line in lines(version, "moved")]
    assert isinstance(connection, MovedConnection)
    assert (connection.listener, connection.data, connection.remote) == ("tcp", b"GET / HT", ("192.0.2.1", 4000))
    assert isinstance(session, MovedSession)
    assert (session.cluster, session.host, session.age) == ("dns", ("192.0.2.4", 53), 3.5)
    assert moved == SessionsMoved("udp", 1, 7)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("side", "decoder"), [("predecessor", FROM_PREDECESSOR), ("successor", FROM_SUCCESSOR), ("moved", MOVED)]
)
def test_fields_of_later_versions_are_ignored(version: int, side: str, decoder: "msgspec.msgpack.Decoder[Any]") -> None:
    for line in lines(version, side):
        message = msgspec.msgpack.decode(line)
        if "listeners" in message:  # names of listeners, not fields
            continue
        if "connections" not in message:
            assert decoder.decode(msgspec.msgpack.encode(with_more(message))) == decoder.decode(line)
        assert decoder.decode(msgspec.msgpack.encode({**message, "later": 1})) == decoder.decode(line)


def test_recordings_have_no_secrets_and_nothing_of_a_machine() -> None:
    for file in FOLDER.rglob("*.hex"):
        for line in file.read_text().split():
            assert not any(word in bytes.fromhex(line) for word in (b"/tmp", b"/home", b"/root", b"/work"))
    for version in VERSIONS:
        assert msgspec.msgpack.decode(content(version, "tickets"))["secret"] == bytes(SIZE)


def adopt(kind: str, found: bytes, folder: Path) -> Any:
    """Adopts the content of a kind with the code of today; returns what became of it."""
    log, clock = Lines(), FakeClock(1000.0, wall_time=1_000_000.0)
    if kind == "tickets":
        keys = TicketKeys(lambda command: None, clock, log)
        keys.adopt(found)
        return keys.command().secret
    if kind == "health":
        checks = HealthChecks(lambda cluster, hosts: None, clock, log)
        checks.adopt(found)
        return {cluster for cluster, _ in checks._adopted}
    if kind == "ejections":
        sent: list[SetEjections] = []
        KnownEjections(1, clock, lambda worker_id, command: sent.append(command)).adopt(found)
        return [(one[0], one[3]) for command in sent for one in command.ejections]
    if kind == "drain":
        draining = Draining(lambda command: None, lambda names: None, lambda delay, call: None, log, clock)
        draining.adopt(found)
        return draining.is_active
    if kind == "logs":
        orders: list[Any] = []
        logs = LogSet(str(folder / "log"))
        adopt_orders(found, ["stdout"], logs, orders.append)
        logs.close()
        return orders
    totals = GenerationTotals()
    totals.adopt(found)
    groups: list[GroupData] = sum_of(totals.all())
    return {group["type"] for group in groups}


EXPECTED = {
    "tickets": bytes(SIZE),
    "health": {"down"},
    "ejections": [("failing", 1)],
    "drain": True,
    "logs": [SetLogLevel("stdout", "DEBUG")],
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", EXPECTED)
@pytest.mark.parametrize("changed", [lambda value: value, with_more], ids=["as recorded", "of a later version"])
def test_each_kind_of_state_is_adopted(version: int, kind: str, changed: Callable[[Any], Any], tmp_path: Path) -> None:
    found = content(version, kind)
    if kind != "health":  # its keys are names
        found = msgspec.msgpack.encode(changed(msgspec.msgpack.decode(found)))
    assert adopt(kind, found, tmp_path) == EXPECTED[kind]


@pytest.mark.parametrize("version", VERSIONS)
def test_metrics_are_adopted(version: int, tmp_path: Path) -> None:
    messages = [FROM_PREDECESSOR.decode(line) for line in lines(version, "predecessor")]
    found = [adopt("totals", one.content, tmp_path) for one in messages if isinstance(one, Carried) and one.kind == "totals"]
    assert set().union(*found) >= {"downstream", "upstream", "healthcheck", "worker"}
    later = [{**group, "later": 1} for group in msgspec.msgpack.decode(content(version, "totals"))]
    assert adopt("totals", msgspec.msgpack.encode(later), tmp_path)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_configuration_is_adopted(version: int) -> None:
    loaded, files = load_kept(ConfigSource("/srv/pymosn/conf/pymosn.json"), content(version, CONFIG))
    assert loaded.config is not None, loaded.errors
    assert [listener.name for listener in loaded.config.servers[0].listeners] == ["tcp", "unix"]
    assert loaded.places["servers[0].listeners[0].name"].file == "/srv/pymosn/conf/pymosn.json"
    assert "/srv/pymosn/conf/pymosn.json" in files


def test_later_values_of_an_ejection_are_ignored(tmp_path: Path) -> None:
    workers = msgspec.msgpack.decode(content(1, "ejections"))
    more = [[[*ejection, "later"] for ejection in ejections] for ejections in workers]
    assert adopt("ejections", msgspec.msgpack.encode(more), tmp_path) == EXPECTED["ejections"]


def taken_over(*payloads: bytes) -> tuple[str, bytes]:
    """What the process reports that is sent these messages, and what it answers."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours:
        for payload in payloads:
            ours.sendall(struct.pack("!IB", len(payload), 0) + payload)
        with pytest.raises(InheritanceError) as caught:
            inherit({VARIABLE: str(theirs.detach())})
        ours.settimeout(10)
        return str(caught.value), ours.recv(65536)


def estate(version: int) -> bytes:
    return msgspec.msgpack.encode(Estate(version, "0.0.1", 2, os.getpid()))


@pytest.mark.parametrize("version", [OLDEST - 1, VERSION + 1])
def test_a_version_that_is_not_understood_is_refused(version: int) -> None:
    text, answer = taken_over(estate(version), msgspec.msgpack.encode(Complete()))
    assert text.startswith("the old process cannot be taken over: ")
    assert f"version {version} of the messages" in text
    assert text.encode() in answer


@pytest.mark.parametrize(
    "payload", [b"\xc1", b"", msgspec.msgpack.encode({"type": "Unknown"}), msgspec.msgpack.encode(Take())]
)
def test_an_invalid_first_message_is_refused(payload: bytes) -> None:
    text, answer = taken_over(payload)
    assert text.startswith("the old process cannot be taken over: ")
    assert text.encode() in answer
