"""The TLS contexts of listeners, and the choice among those of one filter chain.

The context of a connection is chosen from its ClientHello, before the handshake: a context that is switched to in the middle
of it would not apply its demands on the client's certificate.
"""

from __future__ import annotations

import ssl
from hashlib import sha256
from typing import Final

from pymosn.api.alpn import plain_name
from pymosn.api.network import Security
from pymosn.api.tls import ClientCertificate
from pymosn.core.failure import (
    CLIENT_CERTIFICATE_EXPIRED,
    CLIENT_CERTIFICATE_INVALID,
    NO_CLIENT_CERTIFICATE,
    Failure,
)
from pymosn.core.server_names import wildcards_for
from pymosn.network.tls.base import is_old, new_context
from pymosn.network.tls.material import CA, CERTIFICATE, MemoryFile, TlsFault, load_ca, load_crl, names_of, uris_in
from pymosn.network.tls.names import DEFAULT_CIPHERS
from pymosn.network.tls.openssl import openssl
from pymosn.network.tls.sans import PeerRules
from pymosn.network.tls.settings import ServerSettings, TlsSettings
from pymosn.network.tls.tickets import TicketSecrets, refuse_tickets
from pymosn.protocol.tls.hello import ClientHello

#: The ALPN protocol of HTTP/2.
H2: Final = "h2"
BEST_VERSION: Final = "TLSv1.3"
#: Versions on the wire.
TLS_1_2: Final = 0x0303
TLS_1_3: Final = 0x0304


class ServerContext:
    """One context, ready for handshakes. Immutable; a change of its certificate makes another one."""

    def __init__(
        self,
        settings: ServerSettings,
        ssl_context: ssl.SSLContext,
        demand: bytes,
        names: tuple[str, ...] = (),
        weak: Weak | None = None,
    ) -> None:
        """`demand`: identifies what is demanded of client certificates; see `TlsInfo.client_demand`.

        `names`: of the certificate, in lower case, with those of `settings`. `weak`: None if HTTP/2 is not offered, or
        may be negotiated with every version and suite.
        """
        self.settings = settings
        self.ssl_context = ssl_context
        self.weak = weak
        self.demand = demand
        self.names = names
        #: URIs in its certificate.
        self.own_uris = uris_in(settings.tls.certificate) if settings.tls.certificate else ()
        #: Whether clients need a valid certificate.
        self.needs_certificate = settings.verifies and settings.requires
        self._names = frozenset([name for name in (*names, settings.server_name.lower()) if name])
        self._protocols = frozenset() if settings.has_default_alpn else frozenset(settings.tls.alpn)
        self._rules = PeerRules(settings.uris, settings.names, settings.hashes)
        #: Whether a client that offers protocols, but none that is spoken here, is refused.
        self.needs_common = not (settings.has_default_alpn or settings.serves_without_alpn)

    def has_name(self, name: str) -> bool:
        """Whether a server name, in lower case, is one of this context."""
        return name in self._names

    def has_wildcard(self, name: str) -> bool:
        """Whether this context has a wildcard for a server name: `*.example.com`, or `*.com` for any number of labels."""
        return not self._names.isdisjoint(wildcards_for(name))

    def has_protocol(self, protocols: tuple[str, ...]) -> bool:
        """Whether one of the protocols that a client offers is spoken here."""
        return any(protocol.lower() in self._protocols for protocol in protocols)

    def fault_of(self, certificate: ClientCertificate | None, now: float) -> Failure | None:
        """Why a client whose handshake is complete is refused all the same; None if it is not.

        To be called after every handshake. One that resumed a session has not verified the certificate again, which may
        have expired. `now`: seconds since 1970.
        """
        settings = self.settings
        if not settings.verifies:
            return None
        if certificate is None:
            return NO_CLIENT_CERTIFICATE if settings.requires else None
        if not certificate.is_verified:
            return CLIENT_CERTIFICATE_INVALID
        if certificate.not_after < now:
            return CLIENT_CERTIFICATE_EXPIRED
        return None if self._rules.accepts(certificate) else CLIENT_CERTIFICATE_INVALID


class Weak:
    """The versions and suites of a context that are too weak for HTTP/2 (RFC 9113 section 9.2).

    A handshake that may end in one of these uses `ssl_context`, which does not offer `h2`.
    """

    def __init__(self, suites: frozenset[int], has_best: bool, ssl_context: ssl.SSLContext) -> None:
        """`suites`: prohibited ones, as on the wire. `has_best`: TLS 1.3 is allowed."""
        self.ssl_context = ssl_context
        self._suites = suites
        self._has_best = has_best

    def may_serve(self, hello: ClientHello) -> bool:
        """Whether the handshake with this client may end in one of them."""
        if self._has_best and TLS_1_3 in hello.versions:
            return False
        return TLS_1_2 not in hello.versions or not self._suites.isdisjoint(hello.ciphers())


def server_context(settings: ServerSettings, tickets: TicketSecrets | None = None) -> ServerContext:
    """The context for `settings`. Raises TlsFault. `tickets`: None for a context without them."""
    if settings.is_waiting:
        return ServerContext(settings, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), b"waiting")
    tls = settings.tls
    if not tls.certificate or not tls.key:
        raise TlsFault("private_key" if tls.certificate else CERTIFICATE, "is missing: a listener needs both")
    names = names_of(tls.certificate)
    demand = demand_of(settings)
    context = _ssl_context(settings, tls, demand, names, tickets)
    weak: Weak | None = None
    others = tls._replace(alpn=tuple([name for name in tls.alpn if plain_name(name) != H2]))
    suites = _weak_suites(context) if others.alpn != tls.alpn else frozenset()
    if others.alpn != tls.alpn and (suites or is_old(tls.min_version)):
        weak = Weak(suites, tls.max_version == BEST_VERSION, _ssl_context(settings, others, demand, names, tickets))
    return ServerContext(settings, context, demand, names, weak)


def _weak_suites(context: ssl.SSLContext) -> frozenset[int]:
    """The suites of a context that HTTP/2 prohibits; by their numbers on the wire."""
    found = [cipher for cipher in context.get_ciphers() if cipher["protocol"] != BEST_VERSION]
    return frozenset([cipher["id"] & 0xFFFF for cipher in found if cipher["name"] not in DEFAULT_CIPHERS])


def _ssl_context(
    settings: ServerSettings, tls: TlsSettings, demand: bytes, names: tuple[str, ...], tickets: TicketSecrets | None
) -> ssl.SSLContext:
    context = new_context(tls, is_server=True)
    library = openssl()
    if settings.verifies:
        if not tls.ca:
            raise TlsFault(CA, "is missing: verify_client needs the CA of the clients' certificates")
        context.verify_mode = ssl.CERT_REQUIRED if settings.requires else ssl.CERT_OPTIONAL
        load_ca(context, tls.ca)
        if tls.crl:
            load_crl(context, tls.crl)
        if library is not None:
            with MemoryFile(tls.ca) as path:
                library.name_client_cas(context, path)
    elif settings.requires and library is not None:
        library.request_unverified(context)
    if tickets is not None:
        identity = _digest(demand, settings.server_name.lower().encode(), *(name.encode() for name in names))
        tickets.use(context, identity, verifies=settings.verifies)
    else:
        refuse_tickets(context)
    return context


def fallen_back(settings: ServerSettings) -> ServerContext:
    """A placeholder in a chain that serves plain text because its certificates are unusable; not for handshakes."""
    return ServerContext(settings._replace(is_plain=True), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), b"")


def demand_of(settings: ServerSettings) -> bytes:
    """Identifies what a context demands of client certificates; equal for all that demand none."""
    if not settings.verifies:
        return b"requested" if settings.requires else b""
    uris = b"\0".join(sorted(uri.lower().encode() for uri in settings.uris))
    demand = _digest(b"required" if settings.requires else b"optional", settings.tls.ca, settings.tls.crl, uris)
    return demand if not (settings.names or settings.hashes) else _digest(demand, _rules_text(settings))


def _rules_text(settings: ServerSettings) -> bytes:
    names = [f"{name.kind}\0{name.how}\0{name.value}\0{name.ignores_case}" for name in settings.names]
    return "\1".join([*sorted(names), *sorted(settings.hashes)]).encode()


def _digest(*parts: bytes) -> bytes:
    found = sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "big"))
        found.update(part)
    return found.digest()


class ServerContexts:
    """The contexts of one filter chain, at least one, in the order of the configuration."""

    def __init__(self, contexts: list[ServerContext]) -> None:
        self.contexts = contexts

    def choose(self, hello: ClientHello) -> ServerContext:
        """The context for a client: the first one that has its server name, else a wildcard for it, else one of its ALPN
        protocols; else the first one.
        """
        return self._find(hello.server_name, hello.protocols)

    def for_host(self, host: str, protocols: tuple[str, ...] = ()) -> ServerContext:
        """The context for a client that sends `host` as its server name, and `protocols` by ALPN."""
        return self._find(host.lower(), protocols)

    def _find(self, name: str, protocols: tuple[str, ...]) -> ServerContext:
        name = name.rstrip(".")
        for context in self.contexts:
            if context.has_name(name):
                return context
        for context in self.contexts:
            if context.has_wildcard(name):
                return context
        for context in self.contexts:
            if context.has_protocol(protocols):
                return context
        return self.contexts[0]


class ServerHandshake(Security):
    """The handshake to be made with one client."""

    def __init__(self, context: ServerContext, hello: ClientHello) -> None:
        super().__init__()
        self.context = context
        self.hello = hello
        #: The OpenSSL context for it.
        self.ssl_context = context.ssl_context
        #: Whether the client offers protocols, and none of them is negotiated.
        self.has_no_common = False
        preferred = context.settings.tls.alpn
        if preferred and hello.protocols:
            weak = context.weak
            is_weak = weak is not None and weak.may_serve(hello)
            if weak is not None and is_weak:
                self.ssl_context = weak.ssl_context
            common = [name for name in preferred if name in hello.protocols and not (is_weak and plain_name(name) == H2)]
            self.has_no_common = not common
