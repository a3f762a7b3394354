"""Messages between supervisor and workers: commands down, reports up."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from pymosn.api.tracing import TraceRecord
from pymosn.assembly.packed_config import PackedCluster
from pymosn.config.diagnostics import Diagnostic
from pymosn.core.counters import GroupData, GroupKey
from pymosn.observe.tap_options import TapOptions
from pymosn.upstream.ejection import Ejection

#: The exit code of a worker with filters that could not be stopped.
STOP_FAILED: Final = 4


class Message(msgspec.Struct, tag=True, frozen=True):
    """Base of all messages; the class name is the tag on the wire."""


class Sockets(Message, frozen=True):
    """Listening sockets, sent as descriptors with this message; `listeners` has their names in the same order.

    A listener that serves several sockets is named several times. `kept`: those whose sockets another process keeps open.
    `waiting`: UDP listeners whose sessions come from another process; until `ReadDatagrams` only the sockets are read whose
    sessions have all come (`upgrade/sessions.py`).
    """

    listeners: list[str]
    kept: list[str] = []
    waiting: list[str] = []


class Own(Message, frozen=True):
    """This process has taken over the sockets that another one kept open, except those of the listeners in `kept`."""

    kept: list[str] = []


class ReadDatagrams(Message, frozen=True):
    """Read all sockets of UDP listeners: no more sessions come from another process."""


class Part(Message, frozen=True):
    """A part of the configuration that follows (`assembly.packed_config`), unless the worker has it already."""

    digest: bytes
    content: bytes


class Guard(Message, frozen=True):
    """The page of `network/progress.py` and the receiving end of the queue of `server/guardian.py`, sent as descriptors."""


class UseLedger(Message, frozen=True):
    """The file of `core/ledger.py` for the worker's counters, sent as a descriptor, before all other commands."""


class Receive(Message, frozen=True):
    """The receiving end of this worker's queue of connections from another generation (`upgrade/queues.py`), as descriptor.

    Sent before `Serve`, if this process has been started by an upgrade.
    """


class Configure(Message, frozen=True):
    """Build this configuration (`assembly.packed_config`); answered with `Built`. Sent once, after all sockets and parts.

    `config_dir`, `base_dir`, `log_ceiling`: as in `RunOptions`. `workers`: how many share the limits. `worker_index`: this
    worker's index among them, from 0. `services`: IP address and port of each service of the supervisor, such as the admin
    API, which must not be a client's destination. `incarnation`: how many workers the supervisor has configured before.
    """

    config: bytes
    config_dir: str
    base_dir: str
    workers: int
    log_ceiling: str | None = None
    worker_index: int = -1
    services: list[tuple[str, int]] = []
    incarnation: int = 0


class SetTicketSecret(Message, frozen=True):
    """The secret of TLS session tickets (`server/ticket_keys.py`); sent before `Serve`, and whenever it is replaced."""

    secret: bytes


class Serve(Message, frozen=True):
    """Listen and accept; answered with `Ready`."""


class Probe(Message, frozen=True):
    """Answer on the connection that is sent as a descriptor, as if it had been accepted (`server/probes.py`)."""


class Check(Message, frozen=True):
    """Check the configuration after a change, without running code of filters and without creating anything.

    `difference`: from the configuration that the commands before have made (`assembly.packed_change`); its parts have been
    sent. Answered with `Checked`.
    """

    change: int
    difference: bytes


class Prepare(Message, frozen=True):
    """Build the checked configuration, whose new sockets have been sent; answered with `Prepared`."""

    change: int


class Activate(Message, frozen=True):
    """Activate the prepared configuration; answered with `Activated`."""

    change: int


class Abandon(Message, frozen=True):
    """Discard the prepared configuration."""

    change: int


class Retire(Message, frozen=True):
    """Stop accepting on listeners that the last change removed; abort their last connections after `timeout` seconds."""

    timeout: float


class SetHosts(Message, frozen=True):
    """The hosts of one cluster have changed; its new parts have been sent."""

    name: str
    cluster: PackedCluster


class HostHealth(Message, frozen=True):
    """Results of active health checks in one cluster: address -> healthy. Hosts not listed keep their state."""

    cluster: str
    hosts: dict[str, bool]


class SetEjections(Message, frozen=True):
    """Continue these ejections of hosts by a worker that this one replaces; see `upstream.ejection.Ejection`."""

    ejections: list[Ejection]


class GetStats(Message, frozen=True):
    """Answer with `Stats` that carry the same ticket."""

    ticket: int


class SetLogLevel(Message, frozen=True):
    """Set the level ("INFO") of the log at a path."""

    path: str
    level: str


class SwitchLog(Message, frozen=True):
    """Enable or disable the log at a path."""

    path: str
    enabled: bool


class ReopenLogs(Message, frozen=True):
    """Reopen all log files after they were renamed."""


class SetDrain(Message, frozen=True):
    """Drain these listeners while the worker keeps running, and close those; by name, and all of them each time.

    Sent to each worker, also to later ones. A listener that is not drained any more serves as before.
    """

    drained: list[str]
    closed: list[str]


class Drain(Message, frozen=True):
    """Stop accepting on one group of listeners and let their connections finish; answered with `Drained`."""

    group: int


class Depart(Message, frozen=True):
    """Another generation serves the sockets from now on: stop accepting, without a trace on the shared sockets.

    Idle connections are moved through the sending ends of the queues that are sent as descriptors, if the listener's key is
    the same as in `listeners` (`upgrade.messages.Ready`); all others are drained, for `timeout` seconds. Answered with
    `Departing` each second, at last with an empty one. `dropped`: the inodes of sockets that the other generation does not
    serve, which end as if the listener were removed.
    """

    timeout: float
    listeners: dict[str, str] = {}
    dropped: list[int] = []


class Finish(Message, frozen=True):
    """After `Depart`: the other generation shuts down, so drain what is left as at a shutdown."""


class Stop(Message, frozen=True):
    """Close every connection, send the last `Stats` and exit with 0, or STOP_FAILED if filters could not be stopped."""


class Built(Message, frozen=True):
    """The first configuration has been built, and nothing listens yet.

    `shortage`: why the worker has too little memory for serving (`server/capacity.py`); empty if it has enough.
    """

    shortage: str = ""


class Ready(Message, frozen=True):
    """The worker is serving. `drain_groups`: number of `Drain` commands that empty it.

    `marks`: the secret fields of its filters, see `config.dump.Marks`.
    """

    drain_groups: int
    marks: dict[str, frozenset[tuple[str, ...]]] = {}


class Failed(Message, frozen=True):
    """The first configuration cannot be built in this worker, which exits with 1."""

    faults: list[Diagnostic]


class Checked(Message, frozen=True):
    """The configuration has been checked; `faults` prevent it from being built."""

    change: int
    faults: list[Diagnostic]


class Prepared(Message, frozen=True):
    """The configuration has been built, or cannot be built because of `faults`. `marks`: as in `Ready`."""

    change: int
    faults: list[Diagnostic]
    marks: dict[str, frozenset[tuple[str, ...]]] = {}


class Activated(Message, frozen=True):
    """The prepared configuration is active. `drain_groups`: as in `Ready`."""

    change: int
    drain_groups: int


class Stats(Message, frozen=True):
    """Groups of metrics that have changed since they were last reported. A report of many groups has several messages.

    `ticket`: that of the `GetStats` which this message, the last one of its report, answers; otherwise 0. `removed`: groups
    that no longer exist.
    """

    ticket: int
    groups: list[GroupData]
    removed: list[GroupKey] = []


class Ejections(Message, frozen=True):
    """All recent ejections of hosts by this worker; sent after they have changed."""

    ejections: list[Ejection]


class Departing(Message, frozen=True):
    """Connections by kind that are still open after `Depart`; empty: none, and the worker is done."""

    connections: dict[str, int]


class Drained(Message, frozen=True):
    """The listeners of this group have no connections left."""

    group: int


class Blocked(Message, frozen=True):
    """The worker's event loop was blocked. `stack`: where, innermost call first; `filter`: the filter whose code that is."""

    seconds: float
    filter: str
    stack: list[str]


class HandshakesFailed(Message, frozen=True):
    """The last failed handshakes of listeners since the last message.

    Each: listener, seconds since 1970, IP address of the client, the word of the failure, details.
    """

    failures: list[tuple[str, float, str, str, str]]


class FilterFaults(Message, frozen=True):
    """Errors of filters since the last message, at most one for each filter; sent before the answer to `GetStats`."""

    faults: list[tuple[str, float, str, str, list[str]]]


class Traces(Message, frozen=True):
    """Finished traces of sampled exchanges (`trace_report.py`); none is sent twice, and some may be lost."""

    traces: list[TraceRecord]


class TraceAllocations(Message, frozen=True):
    """Trace memory allocated by filters for `seconds`; answered with `Allocations` that carry the same ticket."""

    ticket: int
    seconds: float


class Allocations(Message, frozen=True):
    """Memory allocated per line of the filters' files and still in use: `file:line`, bytes, blocks."""

    ticket: int
    lines: list[tuple[str, int, int]]


class RecordCpu(Message, frozen=True):
    """Write the stacks of all threads to the descriptor that is sent with it, `hertz` times in each second of CPU.

    Ends after `seconds`, or with `EndRecording`; only a failure is answered (`Recorded`).
    """

    ticket: int
    hertz: int
    seconds: float


class EndRecording(Message, frozen=True):
    """End the recording of CPU, if there is one."""


class RecordHeap(Message, frozen=True):
    """Trace all allocations for `seconds`; answered with `Recorded`."""

    ticket: int
    seconds: float


class GetStacks(Message, frozen=True):
    """Answer with the stacks of all threads and tasks in `Recorded`."""

    ticket: int


class Recorded(Message, frozen=True):
    """The answer to a command of a profile; `error`: why there is none.

    `traces`: bytes, blocks, and file and line of the calls; `stacks`: name, and file, line and function of the calls. The
    innermost call is the first.
    """

    ticket: int
    error: str = ""
    traces: list[tuple[int, int, list[tuple[str, int]]]] = []
    stacks: list[tuple[str, list[tuple[str, int, str]]]] = []


class GetExchanges(Message, frozen=True):
    """Report the kept stories of exchanges (`proxy/stories.py`), `limit` of each kind; answered with `Exchanges`."""

    ticket: int
    limit: int


class Exchanges(Message, frozen=True):
    """The failed exchanges, the newest first, and the slowest ones, as `Story.shown` has them; `missed`: not kept.

    `ticket`: that of the `GetExchanges` that this answers.
    """

    ticket: int
    failed: list[dict[str, Any]]
    slow: list[dict[str, Any]]
    missed: int = 0


class StartTap(Message, frozen=True):
    """Copy the exchanges that meet these conditions, until `StopTap`; reported with `Tapped`."""

    tap: int
    options: TapOptions


class StopTap(Message, frozen=True):
    """End a tap."""

    tap: int


class Tapped(Message, frozen=True):
    """Records of a tap, each as JSON. `dropped`: exchanges since the last report of which nothing is recorded.

    `started`: the first report; the tap has been started.
    """

    tap: int
    records: list[bytes]
    dropped: int
    started: bool = False


#: Commands of profiles (`recordings.py`).
ProfileCommand = RecordCpu | EndRecording | RecordHeap | GetStacks
#: Commands that change logs; workers that start later get them too.
LogCommand = SetLogLevel | SwitchLog
_Change = Check | Prepare | Activate | Abandon | Retire
_Setup = UseLedger | Sockets | Own | Part | Guard | Receive | Configure | Serve | Probe | ReadDatagrams
Command = (
    _Setup
    | _Change
    | SetTicketSecret
    | SetHosts
    | HostHealth
    | SetEjections
    | LogCommand
    | ReopenLogs
    | GetStats
    | TraceAllocations
    | ProfileCommand
    | GetExchanges
    | StartTap
    | StopTap
    | SetDrain
    | Drain
    | Depart
    | Finish
    | Stop
)
_Observed = (
    Stats | Ejections | Blocked | FilterFaults | HandshakesFailed | Traces | Allocations | Recorded | Exchanges | Tapped
)
_State = Built | Ready | Failed | Drained | Departing
Report = _State | Checked | Prepared | Activated | _Observed

#: Commands with the descriptors sent along with each, for the worker with the given id.
CommandsFor = Callable[[int], Sequence[tuple[Command, Sequence[int]]]]

COMMANDS: Final[msgspec.msgpack.Decoder[Command]] = msgspec.msgpack.Decoder(Command)
REPORTS: Final[msgspec.msgpack.Decoder[Report]] = msgspec.msgpack.Decoder(Report)
