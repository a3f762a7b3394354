"""TLS towards hosts."""

from __future__ import annotations

import ssl

from pymosn.api.network import Transport
from pymosn.api.tls import ClientCertificate
from pymosn.core.addresses import UNIX, address_host
from pymosn.core.counters import MetricGroup, TlsStats
from pymosn.core.failure import UPSTREAM_BAD_CERTIFICATE, UPSTREAM_CERTIFICATE_EXPIRED, UPSTREAM_NAME_MISMATCH, Failure
from pymosn.network.tls.base import new_context
from pymosn.network.tls.material import load_ca, load_crl, uris_in
from pymosn.network.tls.sans import PeerRules
from pymosn.network.tls.settings import ClientSettings


class ClientTls(Transport):
    """TLS of a cluster's hosts. Immutable; `Peer.server_name` has the name that is sent and verified."""

    def __init__(self, settings: ClientSettings, ssl_context: ssl.SSLContext, stats: TlsStats | None = None) -> None:
        """`stats`: the cluster's."""
        super().__init__(scheme="https")
        self.settings = settings
        self.ssl_context = ssl_context
        self.stats = stats or TlsStats(MetricGroup("tls", ()))
        self._rules = PeerRules(settings.uris, settings.names, settings.hashes)
        self._own_uris: tuple[str, ...] | None = None

    def own_uris(self) -> tuple[str, ...]:
        """The URIs in its own certificate; read when they are first asked for."""
        found = self._own_uris
        if found is None:
            certificate = self.settings.tls.certificate
            try:
                found = uris_in(certificate) if certificate else ()
            except OSError:
                return ()  # no descriptor is free
            self._own_uris = found
        return found

    def fault_of(self, certificate: ClientCertificate | None, now: float) -> Failure | None:
        """Why a host whose handshake is complete is refused all the same; None if it is not.

        To be called after every handshake, because one that resumed a session has not verified the certificate again.
        `now`: seconds since 1970.
        """
        if not self.settings.is_verified:
            return None
        if certificate is None or not certificate.is_verified:
            return UPSTREAM_BAD_CERTIFICATE
        if not self._rules.accepts(certificate):
            return UPSTREAM_NAME_MISMATCH
        return UPSTREAM_CERTIFICATE_EXPIRED if certificate.not_after < now else None


def client_context(settings: ClientSettings) -> ssl.SSLContext:
    """The context for `settings`. Raises TlsFault."""
    context = new_context(settings.tls, is_server=False)
    if settings.is_waiting:
        return context  # which trusts no CA, so that every handshake fails
    if not settings.is_verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    context.check_hostname = settings.checks_name and not settings.uris and not settings.names
    context.verify_mode = ssl.CERT_REQUIRED
    if settings.tls.ca:
        load_ca(context, settings.tls.ca)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if settings.tls.crl:
        load_crl(context, settings.tls.crl)
    return context


class ClientContexts:
    """The contexts of a worker's clusters: clusters with equal settings share one, and its memory."""

    def __init__(self) -> None:
        self._made: dict[ClientSettings, ssl.SSLContext] = {}

    def get(self, settings: ClientSettings) -> ssl.SSLContext:
        """The context for these settings. Raises TlsFault."""
        found = self._made.get(settings)
        if found is None:
            found = self._made[settings] = client_context(settings)
        return found

    def keep(self, used: set[ClientSettings]) -> None:
        """Forgets all others."""
        for settings in [settings for settings in self._made if settings not in used]:
            del self._made[settings]


def server_name_of(settings: ClientSettings, hostname: str, address: str) -> str:
    """The name that a host must have: of the settings, else its own, else its address without the port."""
    return settings.server_name or host_name(hostname, address)


def host_name(hostname: str, address: str) -> str:
    """The name of a host whose cluster sets none: its own, else its address without the port; empty for a unix socket."""
    name = hostname or address
    if name.startswith(UNIX):
        return ""
    is_bare = name.count(":") > 1 and not name.startswith("[")  # an IPv6 address, which has no port
    return (name if is_bare else address_host(name)).rstrip(".")
