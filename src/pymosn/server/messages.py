"""What the supervisor and a worker say to each other: orders go down, reports come up."""

from typing import Final

import msgspec

from pymosn.config.diagnostics import Diagnostic
from pymosn.core.counters import GroupData


class Message(msgspec.Struct, tag=True, frozen=True):
    """Base of all messages; the class name is the tag on the wire."""


class Sockets(Message, frozen=True):
    """Listening sockets, as descriptors beside the message, in the order of `listeners` (their names)."""

    listeners: list[str]


class Configure(Message, frozen=True):
    """Build this configuration (`config.transport`) and serve; sent once, after all sockets.

    `config_dir`: what filters' paths are relative to. `base_dir`: where `logs/` is. `workers`: how many share the limits,
    `worker`: which of them this is, from 0. `log_ceiling`: the most talkative level allowed in the process log.
    """

    config: bytes
    config_dir: str
    base_dir: str
    workers: int
    log_ceiling: str | None = None
    worker: int = -1


class Prepare(Message, frozen=True):
    """Build this configuration beside the one in force, without effect yet; answered with `Prepared` of the same number.

    Sockets of listeners that are new come before it. Its keys are those of `Configure`.
    """

    change: int
    config: bytes
    config_dir: str
    base_dir: str


class Commit(Message, frozen=True):
    """Put the prepared configuration in force; answered with `Committed`."""

    change: int


class Abandon(Message, frozen=True):
    """Forget what was prepared."""

    change: int


class Retire(Message, frozen=True):
    """Stop accepting on listeners that the last change removed; cut what is left of them after `timeout` seconds."""

    timeout: float


class SetHosts(Message, frozen=True):
    """The hosts of one cluster have changed; `cluster` is its whole new configuration (`config.transport`)."""

    cluster: bytes


class HostHealth(Message, frozen=True):
    """What the active checks say of hosts of a cluster: address -> healthy. Hosts not named keep their state."""

    cluster: str
    hosts: dict[str, bool]


class GetStats(Message, frozen=True):
    """Answer with `Stats` of the same ticket."""

    ticket: int


class SetLogLevel(Message, frozen=True):
    """Changes the level ("INFO") of the log at a path."""

    path: str
    level: str


class SwitchLog(Message, frozen=True):
    """Switches the log at a path on or off."""

    path: str
    enabled: bool


class ReopenLogs(Message, frozen=True):
    """Opens all log files anew, after somebody renamed them."""


class Drain(Message, frozen=True):
    """Stop accepting on one group of listeners and let their connections end; answered with `Drained`."""

    group: int


class Stop(Message, frozen=True):
    """End every connection, send the last `Stats` and exit with 0."""


class Ready(Message, frozen=True):
    """The worker serves. `drain_groups`: how many `Drain` orders empty it."""

    drain_groups: int


class Failed(Message, frozen=True):
    """The configuration cannot be built here; the worker exits with 1."""

    faults: list[Diagnostic]


class Prepared(Message, frozen=True):
    """The configuration was built, or cannot be for these faults."""

    change: int
    faults: list[Diagnostic]


class Committed(Message, frozen=True):
    """The prepared configuration is in force. `drain_groups`: as in `Ready`."""

    change: int
    drain_groups: int


class Stats(Message, frozen=True):
    """All metrics of the worker. `ticket`: of the `GetStats` it answers, 0 when sent unasked."""

    ticket: int
    groups: list[GroupData]


class Drained(Message, frozen=True):
    """No connection of that group is left."""

    group: int


class Blocked(Message, frozen=True):
    """The worker's loop stood still. `stack`: where, the innermost call first; `filter`: whose code that is."""

    seconds: float
    filter: str
    stack: list[str]


class TraceAllocations(Message, frozen=True):
    """Trace for `seconds` what filters allocate and keep; answered with `Allocations` of the same ticket."""

    ticket: int
    seconds: float


class Allocations(Message, frozen=True):
    """What was allocated in each line of filters' files, and is still there: `file:line`, bytes, blocks."""

    ticket: int
    lines: list[tuple[str, int, int]]


ChangeCommand = Prepare | Commit | Abandon | Retire | SetHosts | HostHealth
Command = (
    Sockets | Configure | ChangeCommand | GetStats | SetLogLevel | SwitchLog | ReopenLogs | TraceAllocations | Drain | Stop
)
Report = Ready | Failed | Prepared | Committed | Stats | Drained | Blocked | Allocations

#: Orders for logs; a worker that starts later gets them too.
LogCommand = SetLogLevel | SwitchLog

COMMANDS: Final[msgspec.msgpack.Decoder[Command]] = msgspec.msgpack.Decoder(Command)
REPORTS: Final[msgspec.msgpack.Decoder[Report]] = msgspec.msgpack.Decoder(Report)
