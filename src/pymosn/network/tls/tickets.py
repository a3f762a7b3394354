"""Session tickets: keys that are the same in all workers, and different for contexts with different demands.

Every worker has the same secret from the supervisor. The keys of a context are derived from it and from the context's
identity: what it demands of certificates (CAs and revocation lists included), and its names. So a ticket is
valid in every worker, and never in a context that demands something else. With new secrets the tickets of before end, and
their clients make one full handshake.
"""

from __future__ import annotations

import hmac
import ssl
from hashlib import sha256, sha512
from typing import Final
from weakref import WeakKeyDictionary

from pymosn.network.tls.openssl import SESSION_CONTEXT_SIZE, TICKET_KEYS_SIZE, OpenSsl, openssl

#: Seconds in which a session may be resumed.
LIFETIME: Final = 3600
#: TLS 1.3: tickets per full handshake, as of OpenSSL.
TICKETS: Final = 2


class TicketSecrets:
    """The secret of a worker's tickets, and the contexts that use it."""

    def __init__(self) -> None:
        self._secret = b""
        self._contexts: WeakKeyDictionary[ssl.SSLContext, bytes] = WeakKeyDictionary()

    def set(self, secret: bytes) -> None:
        """Replaces the secret, also in existing contexts."""
        self._secret = secret
        library = openssl()
        if library is not None:
            for context, identity in list(self._contexts.items()):
                self._apply(library, context, identity)

    def use(self, context: ssl.SSLContext, identity: bytes, *, verifies: bool = False) -> None:
        """Makes a context of a listener issue and accept tickets. Without a secret only the same context accepts them.

        `verifies`: it verifies clients, who must do so again in time: see `OpenSsl.limit_sessions`.
        """
        library = openssl()
        if library is None:
            refuse_tickets(context)
            return
        library.disable_session_cache(context)
        library.set_session_timeout(context, LIFETIME)
        if not library.set_session_context(context, sha256(identity).digest()[:SESSION_CONTEXT_SIZE]):
            refuse_tickets(context)
            return
        if verifies:
            library.limit_sessions(context, LIFETIME)
        context.num_tickets = TICKETS
        self._contexts[context] = identity
        self._apply(library, context, identity)

    def _apply(self, library: OpenSsl, context: ssl.SSLContext, identity: bytes) -> None:
        if self._secret and not library.set_ticket_keys(context, ticket_keys(self._secret, identity)):
            refuse_tickets(context)


def refuse_tickets(context: ssl.SSLContext) -> None:
    """Disables resumption by tickets."""
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0


def ticket_keys(secret: bytes, identity: bytes) -> bytes:
    """The keys of one context."""
    parts = [hmac.digest(secret, b"pymosn ticket keys" + bytes([part]) + identity, sha512) for part in range(2)]
    return b"".join(parts)[:TICKET_KEYS_SIZE]
