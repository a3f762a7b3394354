"""The facts of a completed handshake, for routes, filters, variables and logs."""

from __future__ import annotations

import hashlib
import ssl
from typing import Any, Final

from pymosn.api.network import Connection
from pymosn.api.tls import ClientCertificate, TlsInfo
from pymosn.core.addresses import normal_ip
from pymosn.core.counters import TlsStats
from pymosn.network.tls.contexts import ServerHandshake

# Versions and ciphers are few: every connection refers to the same strings.
_KNOWN: Final[dict[str, str]] = {}
_KNOWN_LIMIT: Final = 256

#: RFC 4514's short names of the attributes of a distinguished name, by OpenSSL's long names.
_SHORT: Final[dict[str, str]] = {
    "commonName": "CN",
    "countryName": "C",
    "stateOrProvinceName": "ST",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "streetAddress": "STREET",
    "domainComponent": "DC",
    "userId": "UID",
}
_SPECIAL: Final = frozenset('",+;<>\\')


def server_facts(engine: Any, handshake: ServerHandshake) -> TlsInfo:
    """What the handshake with a client has agreed on. `engine`: `TlsTransport.engine`."""
    info = _facts(engine)
    hello = handshake.hello
    info.server_name = hello.server_name
    info.offered_protocols = hello.protocols
    info.fingerprints = hello
    context = handshake.context
    info.client_demand = context.demand
    settings = context.settings
    if settings.verifies or settings.requires:  # otherwise none was asked for
        info.certificate = certificate_of(engine, is_verified=settings.verifies)
        info.own_uris = context.own_uris
    return info


def upstream_facts(
    engine: Any, server_name: str, certificate: ClientCertificate | None = None, own_uris: tuple[str, ...] = ()
) -> TlsInfo:
    """What the handshake with a host has agreed on. `certificate`: the host's, if it is known."""
    info = _facts(engine)
    info.server_name = server_name
    info.certificate = certificate
    info.own_uris = own_uris
    return info


def _facts(engine: Any) -> TlsInfo:
    info = TlsInfo()
    info.version = _known(engine.version())
    cipher = engine.cipher()
    info.cipher = _known(cipher[0]) if cipher is not None else ""
    info.is_resumed = bool(engine.session_reused)
    return info


def _known(text: str) -> str:
    found = _KNOWN.get(text)
    if found is None:
        found = text
        if len(_KNOWN) < _KNOWN_LIMIT:
            _KNOWN[text] = text
    return found


def certificate_of(engine: Any, *, is_verified: bool) -> ClientCertificate | None:
    """The peer's certificate; None if it has sent none.

    One with a field that Python's `ssl` cannot read, such as a name that is not UTF-8, has no fields and is not verified.
    """
    der: bytes | None = engine.getpeercert(True)
    if not der:
        return None
    fields: dict[str, Any] = {}
    not_after = 0.0
    try:
        fields = engine.getpeercert(False) or {}
        ends = fields.get("notAfter")
        not_after = float(ssl.cert_time_to_seconds(ends)) if ends else 0.0
    except (ValueError, OverflowError, ssl.SSLError):
        fields = {}
        is_verified = False
    names: list[str] = []
    uris: list[str] = []
    ips: list[str] = []
    emails: list[str] = []
    for kind, value in fields.get("subjectAltName", ()):
        if kind == "DNS":
            names.append(value)
        elif kind == "URI":
            uris.append(value)
        elif kind == "IP Address":
            ips.append(normal_ip(value.strip()) or value)
        elif kind == "email":
            emails.append(value)
    return ClientCertificate(
        is_verified=is_verified,
        subject=_distinguished(fields.get("subject", ())),
        issuer=_distinguished(fields.get("issuer", ())),
        serial=str(fields.get("serialNumber", "")).lower(),
        fingerprint=hashlib.sha256(der).hexdigest(),
        dns_names=tuple(names),
        uris=tuple(uris),
        ips=tuple(ips),
        emails=tuple(emails),
        not_after=not_after,
        der=der,
    )


def _distinguished(name: Any) -> str:
    """A distinguished name as in RFC 4514: the last part first."""
    parts = ["+".join(f"{_SHORT.get(key, key)}={_escaped(value)}" for key, value in part) for part in name]
    parts.reverse()
    return ",".join(parts)


def _escaped(value: str) -> str:
    """A value of a distinguished name with the escapes of RFC 4514 section 2.4."""
    text = "".join(f"\\{char}" if char in _SPECIAL else "\\00" if char == "\0" else char for char in value)
    if text[:1] in (" ", "#"):
        text = "\\" + text
    if len(text) > 1 and text.endswith(" "):
        text = text[:-1] + "\\ "
    return text


def note_handshake(connection: Connection, engine: Any, info: TlsInfo, stats: TlsStats) -> None:
    """Counts a completed handshake, and notes its facts on the connection."""
    stats.handshakes.value += 1
    if info.is_resumed:
        stats.resumed.value += 1
    connection.scheme = "https"
    connection.alpn = engine.selected_alpn_protocol() or ""
    connection.tls = info
