"""TLS contexts of the configuration as those of the data path."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from pymosn.assembly.tls_material import resolve
from pymosn.config.alpn import AlpnOffer, alpn_offer
from pymosn.config.schema.server import FilterChain
from pymosn.config.schema.tls import SNI_VERIFY, TlsContext, fingerprint
from pymosn.network.tls.contexts import ServerContext, ServerContexts, fallen_back, server_context
from pymosn.network.tls.material import TlsFault
from pymosn.network.tls.names import MAX_VERSION, MIN_VERSION, alpn_of, ciphers_of, groups_of, version_of
from pymosn.network.tls.sans import NamePattern
from pymosn.network.tls.settings import ClientSettings, ServerSettings, TlsSettings
from pymosn.network.tls.tickets import TicketSecrets

#: The PEM text that a value refers to, empty for none; KeyError if it has not been read.
Resolve = Callable[[str], bytes]


def resolver(parts: Mapping[bytes, bytes]) -> Resolve:
    """Resolves references to parts of a packed configuration."""
    return lambda text: resolve(text, parts)


def uris_of(context: TlsContext) -> tuple[str, ...]:
    """The URIs of which a peer's certificate must have one; empty for no such demand."""
    if context.type != SNI_VERIFY:
        return ()
    uris = context.extend_verify.match_subject_alt_names
    return tuple(uri for uri in ([uris] if isinstance(uris, str) else uris) if uri)


def _rules(context: TlsContext) -> tuple[tuple[NamePattern, ...], tuple[str, ...]]:
    """The names and fingerprints that are demanded of a peer's certificate."""
    return tuple(name.pattern() for name in context.subject_alt_names), tuple(map(fingerprint, context.certificate_hashes))


def is_waiting(context: TlsContext) -> bool:
    """Whether a secret that the context needs has not been received."""
    source = context.sds_source
    if source is None:
        return False
    lacks_certificate = source.CertificateConfig is not None and not (context.cert_chain and context.private_key)
    return lacks_certificate or (source.ValidationConfig is not None and not context.ca_cert)


def _tls_settings(context: TlsContext, find: Resolve, alpn: tuple[str, ...]) -> TlsSettings:
    """Raises KeyError for a text that has not been read, ValueError for unknown names."""
    ciphers = ciphers_of(context.cipher_suites)
    return TlsSettings(
        certificate=find(context.cert_chain),
        key=find(context.private_key),
        ca=find(context.ca_cert),
        crl=find(context.crl),
        min_version=version_of(context.min_version, MIN_VERSION),
        max_version=version_of(context.max_version, MAX_VERSION),
        ciphers=ciphers.ciphers,
        suites=ciphers.suites,
        groups=groups_of(context.ecdh_curves),
        alpn=alpn,
        key_log=context.key_log,
    )


def server_settings(context: TlsContext, find: Resolve, offer: AlpnOffer) -> ServerSettings:
    """The settings of a context of a listener. `offer`: of its chain. Raises KeyError and ValueError."""
    names, hashes = _rules(context)
    return ServerSettings(
        tls=_tls_settings(context, _without_unread(context, find) if context.fall_back else find, offer.of(context.alpn)),
        verifies=context.verify_client,
        requires=context.require_client_cert,
        server_name=context.server_name.lower(),
        uris=uris_of(context),
        has_default_alpn=not context.alpn.strip(),
        serves_without_alpn=not context.alpn_required,
        names=names,
        hashes=hashes,
        is_waiting=is_waiting(context),
    )


def _without_unread(context: TlsContext, find: Resolve) -> Resolve:
    """Of a context with `fall_back`, a certificate or key that could not be read counts as none."""

    def found(text: str) -> bytes:
        try:
            return find(text)
        except KeyError:
            if text in (context.cert_chain, context.private_key):
                return b""
            raise

    return found


def client_settings(context: TlsContext | None, find: Resolve) -> ClientSettings | None:
    """The settings of the context of a cluster, None without TLS. Raises KeyError and ValueError."""
    if context is None or not context.status:
        return None
    names, hashes = _rules(context) if not context.insecure_skip else ((), ())
    return ClientSettings(
        tls=_tls_settings(context, find, alpn_of(context.alpn)),
        server_name=context.server_name,
        is_verified=not context.insecure_skip,
        uris=uris_of(context) if not context.insecure_skip else (),
        falls_back=context.fall_back,
        names=names,
        hashes=hashes,
        checks_name=context.verify_server_name,
        is_waiting=is_waiting(context),
    )


class TlsStore:
    """The contexts of a worker's listeners; equal settings share one. `tickets`: the secret of their session tickets."""

    def __init__(self) -> None:
        self.tickets = TicketSecrets()
        self._made: dict[ServerSettings, ServerContext] = {}

    def contexts(self, chain: FilterChain, find: Resolve, on_fault: Callable[[str, str], None]) -> ServerContexts | None:
        """The contexts of a filter chain; None if it does not terminate TLS.

        Unusable ones with `fall_back` are left out. If no other is left, the result has one that is not used for handshakes
        (`ServerSettings.is_plain`). `on_fault`: called with the key below the chain, and the message, of each error.
        """
        contexts: list[ServerContext] = []
        offer = alpn_offer(chain)
        plain: ServerSettings | None = None
        for key, context in chain.keyed_contexts():
            if not context.status:
                continue
            try:
                settings = server_settings(context, find, offer)
            except (KeyError, ValueError) as error:
                on_fault(key, str(error))
                continue
            try:
                contexts.append(self._get(settings))
            except TlsFault as fault:
                if context.fall_back and not (context.verify_client or context.require_client_cert):
                    plain = settings
                else:
                    on_fault(f"{key}.{fault.key}", fault.text)
        if not contexts and plain is not None:
            contexts.append(fallen_back(plain))
        return ServerContexts(contexts) if contexts else None

    def _get(self, settings: ServerSettings) -> ServerContext:
        found = self._made.get(settings)
        if found is None:
            found = self._made[settings] = server_context(settings, self.tickets)
        return found

    def keep(self, used: Iterable[ServerContexts | None]) -> None:
        """Forgets the contexts that are not among those in `used`."""
        if self._made:
            kept = {context.settings for contexts in used if contexts is not None for context in contexts.contexts}
            self._made = {settings: context for settings, context in self._made.items() if settings in kept}
