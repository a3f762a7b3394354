"""Open connections on their way from a worker of the predecessor to one of the successor: what is sent, and how.

A connection is sent as a descriptor with a `MovedConnection`, in one packet of a SEQPACKET queue. Nothing here waits: when
the queues are full, or the kernel holds too many descriptors on their way, the connection is served here for some more time.
"""

from __future__ import annotations

import errno
import hashlib
import socket
from array import array
from collections.abc import Sequence
from typing import Final

import msgspec

from pymosn.api.network import Passage
from pymosn.config.schema import FilterChain, Listener
from pymosn.server.upgrade.messages import MovedConnection

#: Changes when connections of an older version cannot be continued although their listeners are equal.
KEY_VERSION: Final = 1
#: Settings of HTTP that decide how requests are read.
PARSING: Final = (
    "profile",
    "encoded_slashes",
    "merge_slashes",
    "underscores_in_headers",
    "trust_forwarded",
    "trusted_hops",
    "connect",
)
_HTTP: Final = ("Http1", "Http2")
#: No room in the queue; too many descriptors on their way; no memory in the kernel; a packet that is too large for now.
_BUSY: Final = frozenset(
    (errno.EAGAIN, errno.EINTR, errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EMSGSIZE)
)


def key_of(listener: Listener) -> str:
    """What must be equal in both generations for a connection of this listener to move: a digest.

    A moved connection is read from the beginning of a message, by the settings of the successor. So most settings may
    differ: limits, timeouts, routes, certificates. But what was decided before must stay decided, such as the chain, the
    protocol, and whether the PROXY protocol or TLS came first.
    """
    proxy_protocol = listener.proxy_protocol
    facts = [
        KEY_VERSION,
        listener.network.lower() or "tcp",
        listener.use_original_dst,
        None if proxy_protocol is None else [sorted(proxy_protocol.trusted_prefixes), proxy_protocol.is_required],
        [listener.inspector, listener.http_inspector, listener.tls_uninspected_ports, listener.http_uninspected_ports],
        [_chain_facts(chain) for chain in listener.filter_chains],
    ]
    return hashlib.sha256(msgspec.json.encode(facts, order="deterministic")).hexdigest()[:32]


def _chain_facts(chain: FilterChain) -> list[object]:
    acting = chain.acting_filters()
    proxy = acting.proxy
    protocols = []
    for name in [] if proxy is None else proxy.protocols():
        settings = proxy.extend_config.of(name) if proxy is not None else {}
        is_http = name in _HTTP
        protocols.append([name, {key: value for key, value in settings.items() if key in PARSING or not is_http}])
    conditions = msgspec.to_builtins(chain.conditions())
    # The contents of certificates are references in a worker, so only their presence can be compared.
    has_tls = bool(chain.tls_contexts())
    return [
        chain.name,
        chain.is_default,
        conditions,
        has_tls,
        len(chain.connection_filters()),
        protocols,
        acting.tcp is None,
    ]


def message_of(listener: str, key: str, passage: Passage) -> MovedConnection:
    """The message about a connection of a listener with this key."""
    return MovedConnection(
        listener=listener,
        data=passage.data,
        remote=(passage.remote_ip, int(passage.remote_port)),
        local=(passage.local_ip, int(passage.local_port)),
        original_destination=passage.original_destination,
        bytes_read=int(passage.bytes_read),
        bytes_written=int(passage.bytes_written),
        requests=int(passage.requests),
        age=passage.age,
        idle=passage.idle,
        protocol=passage.protocol,
        step=int(passage.step),
        chain=int(passage.chain),
        key=key,
    )


def passage_of(message: MovedConnection) -> Passage:
    """The opposite of `message_of`."""
    passage = Passage(message.protocol, message.data)
    passage.remote_ip, passage.remote_port = message.remote
    passage.local_ip, passage.local_port = message.local
    passage.original_destination = message.original_destination
    passage.bytes_read, passage.bytes_written = message.bytes_read, message.bytes_written
    passage.requests = message.requests
    passage.age, passage.idle = message.age, message.idle
    passage.step, passage.chain = message.step, message.chain
    return passage


class SendingQueues:
    """The queues of the successor's workers, which take turns."""

    def __init__(self, descriptors: Sequence[int]) -> None:
        """Owns the descriptors from now on."""
        self._queues = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        self._next = 0

    @property
    def are_gone(self) -> bool:
        """Whether no worker receives anything any more."""
        return not self._queues

    def ends(self) -> list[socket.socket]:
        """The sending ends of all workers, by worker."""
        return list(self._queues)

    def send(self, message: object, descriptor: int) -> bool:
        """Sends a message with a descriptor to the next worker that has room. False: not now, or never (`are_gone`)."""
        content = msgspec.msgpack.encode(message)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [descriptor]))]
        for _ in range(len(self._queues)):
            self._next = (self._next + 1) % len(self._queues)
            queue = self._queues[self._next]
            try:
                queue.sendmsg([content], rights, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except OSError as error:
                if error.errno not in _BUSY:
                    self._remove(queue)
                    if not self._queues:
                        return False
            else:
                return True
        return False

    def _remove(self, queue: socket.socket) -> None:
        """Gives a queue up, whose workers are gone."""
        self._queues.remove(queue)
        queue.close()
        self._next = -1

    def close(self) -> None:
        """Closes these ends."""
        while self._queues:
            self._queues.pop().close()
