"""Messages between two generations of supervisors, over a socket pair, and between their workers.

**Order.** The predecessor starts the successor and sends `Estate`, all `Held`, all `Carried`, then `Complete`. The successor
builds everything, serves the sockets as well, and sends `Ready`; or `Refused`, and exits. The predecessor answers with the
state that has changed meanwhile (`Carried`) and `Take`. The successor serves its admin API and answers with `Taken`. Until
then the predecessor serves as if nothing happened, and if the successor ends, or is not ready in time, nothing has. After
`Taken` the predecessor stops accepting, and moves or drains its connections; it sends `Carried` (metrics) and `Leaving`
until its end.

**Versions.** The two sides may be different versions of pymosn. VERSION grows with each change that an older side would
misunderstand. New fields have defaults, and unknown ones are ignored, as are unknown kinds of `Carried`. An older version
than OLDEST is refused. Values are never removed or given another meaning. `tests/fixtures/upgrade` has the bytes of old
versions.
"""

from typing import Final

import msgspec

#: The version of these messages, and the oldest one that is understood.
VERSION: Final = 1
OLDEST: Final = 1


class Message(msgspec.Struct, tag=True, frozen=True):
    """Base of all messages; the class name is the tag on the wire."""


class Estate(Message, frozen=True):
    """The first message of the predecessor.

    `version`: of the messages. `program`: the version of pymosn, for the log. `generation`: the successor's number; the
    first process is 1. `main_pid`: the process that the outside knows, which stays the same. `keeps_config`: use the
    active configuration (`Carried` "config") instead of the file. `pid`, `started`, `workers`: of the predecessor, for
    `/api/v1/upgrade`; seconds since 1970.
    """

    version: int
    program: str
    generation: int
    main_pid: int
    keeps_config: bool = False
    pid: int = 0
    started: float = 0.0
    workers: int = 0


class HeldSocket(msgspec.Struct, frozen=True):
    """One bound socket. `owner`: "listener", "admin", "admin_unix", "pprof" or "demo upstream".

    `name`: of the listener. `network`, `address`, `is_transparent`: its `Binding`. `index`: its position in the group of
    sockets that share the address. `is_shared`: one socket for all workers, such as a unix socket. `inode`: device and inode
    of its file, if this process has made one. `is_kept`: the service manager has it too, and its file is that one's.
    """

    owner: str
    name: str = ""
    network: str = "tcp"
    address: str = ""
    is_transparent: bool = False
    index: int = 0
    is_shared: bool = False
    inode: tuple[int, int] | None = None
    is_kept: bool = False


class Held(Message, frozen=True):
    """Sockets, sent as descriptors with this message in the same order; there may be several such messages."""

    sockets: list[HeldSocket]


class Carried(Message, frozen=True):
    """State of one kind (`carried.py`), which replaces what was sent of this kind before."""

    kind: str
    content: bytes


class CarriedPart(Message, frozen=True):
    """A part of a content that is too large for one message. The next `Carried` of this kind is the last part.

    Versions without this message refuse the upgrade.
    """

    kind: str
    content: bytes


class Complete(Message, frozen=True):
    """All has been sent: start."""


class Progress(Message, frozen=True):
    """What the successor is doing, for who asked for the upgrade."""

    text: str


class Refused(Message, frozen=True):
    """The successor cannot start, because of these `lines`, and exits. `is_config_fault`: the configuration is invalid."""

    lines: list[str]
    is_config_fault: bool = False


class Ready(Message, frozen=True):
    """The successor's workers serve. Sent with a descriptor for each worker: the sending end of its queue of `Moved`.

    `listeners`: of each listener that takes open connections, what they must match (`moving.key_of`).
    """

    version: int
    program: str
    listeners: dict[str, str] = {}


class Take(Message, frozen=True):
    """The successor is the one from now on."""


class Taken(Message, frozen=True):
    """It is; the predecessor leaves.

    `dropped`: the inodes of the predecessor's sockets that the successor has closed, because it does not serve their
    addresses.
    """

    dropped: list[int] = []


class OlderGeneration(msgspec.Struct, frozen=True):
    """A generation before the predecessor that still drains; see `Estate` and `Leaving`."""

    generation: int
    pid: int
    program: str
    started: float
    workers: int
    connections: dict[str, int]
    seconds: float


class Stopping(Message, frozen=True):
    """The successor shuts down after all, so older generations have no reason to wait for idle connections."""


class Leaving(Message, frozen=True):
    """What the predecessor still waits for: connections by kind ("http1", "websocket", ...), and seconds that are left.

    `older`: what its own predecessor reports, the oldest first; it stays until that one has gone.
    """

    connections: dict[str, int]
    seconds: float
    older: list[OlderGeneration] = []


FromPredecessor = Estate | Held | Carried | CarriedPart | Complete | Take | Leaving
FromSuccessor = Progress | Refused | Ready | Taken | Stopping

FROM_PREDECESSOR: Final[msgspec.msgpack.Decoder[FromPredecessor]] = msgspec.msgpack.Decoder(FromPredecessor)
FROM_SUCCESSOR: Final[msgspec.msgpack.Decoder[FromSuccessor]] = msgspec.msgpack.Decoder(FromSuccessor)


class MovedConnection(Message, frozen=True):
    """An open connection, sent as a descriptor from a worker of the predecessor to one of the successor, in one SEQPACKET.

    `listener`: its name. `data`: bytes that were read and belong to no message that was handled. `remote`, `local`: IP
    address and port as the connection had them, which the PROXY protocol may have set. `original_destination`: `ip:port`,
    empty if it was not redirected. `bytes_read`, `bytes_written`, `requests`: so far. `age`, `idle`: seconds since it was
    accepted, if its age is limited, and of its present timeout. `protocol`: the one that was detected, empty if none yet.
    `step`: how many steps before the choice of the filter chain are done, such as the PROXY protocol. `chain`: the index of
    the chosen chain; -1 if none was. `key`: of the listener that it was accepted by, as in `Ready`.
    """

    listener: str
    data: bytes = b""
    remote: tuple[str, int] = ("", 0)
    local: tuple[str, int] = ("", 0)
    original_destination: str = ""
    bytes_read: int = 0
    bytes_written: int = 0
    requests: int = 0
    age: float = 0.0
    idle: float = 0.0
    protocol: str = ""
    step: int = 0
    chain: int = -1
    key: str = ""


class MovedSession(Message, frozen=True):
    """A UDP session with its upstream socket as descriptor. `client`, `host`: IP address and port.

    `index`: of the listener's socket that its datagrams arrive at. `cluster`: of the host. `age`, `idle`: seconds.
    `host_address`: as configured. `socket`: the SO_COOKIE of the listener's socket. `flow`, `scope`: of an IPv6 address.
    `local_ip`: where the client sends to, and `control`: ancillary data for replies from there; empty if the socket has
    only one address. `attempts`: hosts that were tried. `sent`, `answered`: seconds since the first datagram to the host and
    its first reply; negative if there was none.
    """

    listener: str
    index: int
    client: tuple[str, int]
    host: tuple[str, int]
    cluster: str
    bytes_received: int = 0
    bytes_sent: int = 0
    age: float = 0.0
    idle: float = 0.0
    host_address: str = ""
    socket: int = 0
    flow: int = 0
    scope: int = 0
    local_ip: str = ""
    control: list[tuple[int, int, bytes]] = []
    attempts: int = 1
    sent: float = -1.0
    answered: float = -1.0


class SessionsMoved(Message, frozen=True):
    """All sessions of a UDP listener's socket have been sent: the successor reads it from now on.

    `socket`: its SO_COOKIE.
    """

    listener: str
    index: int
    socket: int = 0


Moved = MovedConnection | MovedSession | SessionsMoved
MOVED: Final[msgspec.msgpack.Decoder[Moved]] = msgspec.msgpack.Decoder(Moved)
