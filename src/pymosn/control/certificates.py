"""The certificates of TLS contexts: facts to show, their expiry, and the faults of their content.

`cryptography` is imported on first use: a process without TLS does not need it, and workers never do.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple, TypedDict, TypeVar

import msgspec

from pymosn.assembly.tls import client_settings, server_settings
from pymosn.assembly.tls_material import TlsMaterial
from pymosn.config.alpn import AlpnOffer
from pymosn.config.diagnostics import Diagnostic, Severity, error_at
from pymosn.config.schema import MosnConfig
from pymosn.config.schema.tls import TlsContext
from pymosn.config.tls_contexts import PEM_KEYS, PEM_MARK, PemText, pem_texts, tls_contexts
from pymosn.control.sample_certificates import MISTAKEN, is_mistaken
from pymosn.core.counters import GroupData
from pymosn.network.tls.contexts import server_context
from pymosn.network.tls.material import TlsFault
from pymosn.network.tls.openssl import UNUSABLE, openssl
from pymosn.network.tls.upstream import client_context
from pymosn.observe.text import one_line

if TYPE_CHECKING:
    from cryptography import x509

#: Certificates of which the expiry is a metric, and characters of a name in a label.
MAX_METRICS: Final = 500
LONGEST_LABEL: Final = 100
#: The recipes of contexts that could be built, so that a rotation builds only those that are new, and their maximum.
_built: Final[set[bytes]] = set()
MAX_BUILT: Final = 20_000

_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.S)
_DAY: Final = 86_400.0

T = TypeVar("T")


class CertificateView(TypedDict):
    """One certificate. Text in it is its issuer's choice. `serial`, `fingerprint` (SHA-256): hexadecimal.

    `not_before`, `not_after`: ISO 8601, in UTC. `days_left`: negative if it has expired. `file`: empty for PEM text in the
    configuration. `used_by`: the names of listeners and clusters with the key of each.
    """

    subject: str
    issuer: str
    names: list[str]
    serial: str
    fingerprint: str
    is_ca: bool
    not_before: str
    not_after: str
    days_left: float
    file: str
    used_by: list[str]


class Certificate(NamedTuple):
    """The facts of one certificate. `not_before`, `not_after`: seconds since 1970. `label`: a short name for it."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    serial: str
    fingerprint: str
    is_ca: bool
    not_before: float
    not_after: float
    label: str


class Used(NamedTuple):
    """A certificate in use. `file`: empty for PEM text in the configuration; `by`: see `CertificateView.used_by`."""

    certificate: Certificate
    file: str
    by: list[str]

    def view(self, now: float) -> CertificateView:
        """What is shown of it. `now`: seconds since 1970."""
        found = self.certificate
        return {
            "subject": found.subject,
            "issuer": found.issuer,
            "names": list(found.names),
            "serial": found.serial,
            "fingerprint": found.fingerprint,
            "is_ca": found.is_ca,
            "not_before": iso_time(found.not_before),
            "not_after": iso_time(found.not_after),
            "days_left": round((found.not_after - now) / _DAY, 2),
            "file": self.file,
            "used_by": self.by,
        }


def used_certificates(config: MosnConfig, material: TlsMaterial, file_of: Callable[[str], str]) -> list[Used]:
    """All certificates in use, those that expire first at the beginning. `file_of`: the absolute path of a configured one.

    Other content is ignored.
    """
    found: dict[tuple[str, str], Used] = {}
    for text in pem_texts(config):
        content = material.content(text.text)
        if content is None or text.key not in ("cert_chain", "ca_cert"):
            continue
        file = file_of(text.text) if text.is_path else ""
        for certificate in certificates_in(content):
            used = found.setdefault((certificate.fingerprint, file), Used(certificate, file, []))
            user = _user_of(config, text)
            if user not in used.by:
                used.by.append(user)
    return sorted(found.values(), key=lambda used: (used.certificate.not_after, used.certificate.fingerprint, used.file))


def metric_groups(used: Iterable[Used], now: float) -> list[GroupData]:
    """The seconds until each certificate expires, as gauges; of those that expire first if there are many."""
    found: dict[tuple[tuple[str, str], ...], GroupData] = {}
    for entry in used:
        labels = (("fingerprint", entry.certificate.fingerprint[:16]), ("name", entry.certificate.label))
        gauges = {"expires_in_seconds": int(entry.certificate.not_after - now)}
        found[labels] = {"type": "certificate", "labels": list(labels), "counters": {}, "gauges": gauges, "histograms": {}}
        if len(found) >= MAX_METRICS:
            break
    return list(found.values())


def _user_of(config: MosnConfig, text: PemText) -> str:
    """`listener a: cert_chain`."""
    place = [int(number) for number in re.findall(r"\[(\d+)\]", text.where)]
    if text.where.startswith("servers"):
        return f"listener {config.servers[0].listeners[place[1]].known_name()}: {text.key}"
    if text.where.startswith("cluster_manager.clusters"):
        return f"cluster {config.cluster_manager.clusters[place[0]].name}: {text.key}"
    return f"cluster_manager: {text.key}"


def find_faults(config: MosnConfig, material: TlsMaterial, now: float) -> list[Diagnostic]:
    """The faults of the content of all TLS contexts. Expired certificates are warnings, because others may accept them.

    What a listener with `fall_back` can start without is a warning too.
    """
    contexts = list(tls_contexts(config))
    faults = [Diagnostic(severity="warning", message=UNUSABLE)] if contexts and openssl() is None else []
    return faults + [fault for where, context in contexts for fault in _Checked(where, context, material).faults(now)]


class _Checked:
    """One context and its content."""

    def __init__(self, where: str, context: TlsContext, material: TlsMaterial) -> None:
        self._where = where
        self._context = context
        self._material = material
        self._is_server = where.startswith("servers[")

    def faults(self, now: float) -> Iterator[Diagnostic]:
        fault = self._build_fault()
        if fault is not None:
            yield fault
            return
        for leaf in _loaded(self._content("cert_chain"))[:1]:
            if is_mistaken(leaf, _loaded(self._content("ca_cert"))):
                yield self._fault("cert_chain", MISTAKEN, is_warning=True)
        yield from self._chain_faults()
        yield from self._crl_faults()
        for key in ("cert_chain", "ca_cert"):
            yield from self._validity_faults(key, certificates_in(self._content(key)), now)
        for end in _next_updates(self._content("crl")):
            if end < now:
                text = f"the list is out of date since {iso_time(end)}: certificates of its issuer are rejected"
                yield self._fault("crl", text, is_warning=True)

    def _chain_faults(self) -> Iterator[Diagnostic]:
        """Warnings about certificates that clients cannot use to find the CA."""
        chain = _loaded(self._content("cert_chain"))
        facts = certificates_in(self._content("cert_chain"))
        for i in range(1, len(chain)):
            if chain[i] != chain[i - 1] and chain[i].subject != chain[i - 1].issuer:
                place = f"certificate {i + 1} of {len(chain)}, {facts[i].label!r}"
                text = f"{place}, is not the issuer of the one before it: peers may reject the chain"
                yield self._fault("cert_chain", text, is_warning=True)

    def _crl_faults(self) -> Iterator[Diagnostic]:
        """Warnings about CAs without a revocation list, if there are lists."""
        lists = _crls(self._content("crl"))
        issuers = [crl.issuer for crl in lists]
        ca = self._content("ca_cert")
        for authority, fact in zip(_loaded(ca), certificates_in(ca), strict=True):
            if lists and fact.is_ca and authority.subject not in issuers:
                text = f"has no list of the CA {fact.label!r}: certificates that it has issued are rejected"
                yield self._fault("crl", text, is_warning=True)

    def _content(self, key: str) -> bytes:
        text = getattr(self._context, key)
        return (self._material.content(text) or b"") if text else b""

    def _build_fault(self) -> Diagnostic | None:
        """Why the context cannot be built; None if it can."""
        context = msgspec.structs.replace(self._context, key_log="")
        recipe = self._recipe(context)
        if recipe in _built:
            return None
        try:
            if self._is_server:
                server_context(server_settings(context, self._material.pem, AlpnOffer()))
            else:
                settings = client_settings(context, self._material.pem)
                assert settings is not None
                client_context(settings)
        except TlsFault as fault:
            is_warning = self._is_server and context.fall_back and fault.key in ("cert_chain", "private_key")
            text = getattr(context, fault.key, "")
            is_empty = text and fault.key in PEM_KEYS and not self._content(fault.key).strip()
            return self._fault(fault.key, "the file is empty" if is_empty else fault.text, is_warning)
        except (KeyError, ValueError) as error:
            return error_at(self._where, str(error))
        if len(_built) >= MAX_BUILT:
            _built.clear()
        _built.add(recipe)
        return None

    def _recipe(self, context: TlsContext) -> bytes:
        """Identifies what the context is built of."""
        found = sha256(msgspec.json.encode([self._is_server, context]))
        for key in PEM_KEYS:
            found.update(sha256(self._content(key)).digest())
        return found.digest()

    def _fault(self, key: str, message: str, is_warning: bool = False) -> Diagnostic:
        text = getattr(self._context, key, "") if key in PEM_KEYS else ""
        name = f"{text}: " if text and PEM_MARK not in text else ""
        severity: Severity = "warning" if is_warning else "error"
        return Diagnostic(severity=severity, path=f"{self._where}.{key}", message=f"{name}{message}")

    def _validity_faults(self, key: str, found: Iterable[Certificate], now: float) -> Iterator[Diagnostic]:
        for certificate in found:
            if certificate.not_after < now:
                text = f"the certificate {certificate.label!r} has expired on {iso_time(certificate.not_after)}"
                yield self._fault(key, text, is_warning=True)
            elif certificate.not_before > now:
                text = f"the certificate {certificate.label!r} is not valid before {iso_time(certificate.not_before)}"
                yield self._fault(key, text, is_warning=True)


@lru_cache(4096)
def certificates_in(pem: bytes) -> tuple[Certificate, ...]:
    """The certificates in a PEM text; none if one of them is damaged."""
    return tuple(_facts(loaded) for loaded in _loaded(pem))


@lru_cache(4096)
def _loaded(pem: bytes) -> tuple[x509.Certificate, ...]:
    from cryptography import x509

    blocks = [match.group() for match in _BLOCK.finditer(pem) if match.group(1) in (b"CERTIFICATE", b"X509 CERTIFICATE")]
    return _tolerant(lambda: tuple(x509.load_pem_x509_certificate(block) for block in blocks), ())


def _facts(loaded: x509.Certificate) -> Certificate:
    from cryptography.hazmat.primitives import hashes

    return Certificate(
        subject=_name(loaded.subject),
        issuer=_name(loaded.issuer),
        names=_names(loaded),
        serial=f"{loaded.serial_number:x}",
        fingerprint=loaded.fingerprint(hashes.SHA256()).hex(),
        is_ca=_is_ca(loaded),
        not_before=loaded.not_valid_before_utc.timestamp(),
        not_after=loaded.not_valid_after_utc.timestamp(),
        label=_label(loaded),
    )


def _label(loaded: x509.Certificate) -> str:
    """The common name, else the first alternative name, else the serial number; printable, and not too long."""
    from cryptography.x509.oid import NameOID

    common = [str(entry.value) for entry in loaded.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    text = next(filter(None, [*common, *_names(loaded)]), f"serial {loaded.serial_number:x}")
    return one_line(text)[:LONGEST_LABEL]


def _name(name: x509.Name) -> str:
    """As in RFC 4514; `?` if an attribute cannot be shown."""
    return _tolerant(name.rfc4514_string, "?")


def _names(loaded: x509.Certificate) -> tuple[str, ...]:
    """The subject alternative names: DNS names, IP addresses, URIs and mail addresses."""
    from cryptography import x509

    shown = (x509.DNSName, x509.IPAddress, x509.UniformResourceIdentifier, x509.RFC822Name)

    def read() -> tuple[str, ...]:
        extension = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return tuple(str(entry.value) for entry in extension.value if isinstance(entry, shown))

    return _tolerant(read, ())


def _is_ca(loaded: x509.Certificate) -> bool:
    from cryptography import x509

    return _tolerant(lambda: loaded.extensions.get_extension_for_class(x509.BasicConstraints).value.ca, False)


def _tolerant(read: Callable[[], T], default: T) -> T:
    """What `read` returns; `default` if that part of a certificate is missing or damaged."""
    try:
        return read()
    except Exception:  # cryptography raises others than ValueError too, depending on the damage
        return default


@lru_cache(256)
def _crls(pem: bytes) -> tuple[x509.CertificateRevocationList, ...]:
    """The revocation lists in a PEM text; none if one of them is damaged."""
    from cryptography import x509

    blocks = [match.group() for match in _BLOCK.finditer(pem) if match.group(1) == b"X509 CRL"]
    return _tolerant(lambda: tuple(x509.load_pem_x509_crl(block) for block in blocks), ())


def _next_updates(pem: bytes) -> tuple[float, ...]:
    """When each revocation list in a PEM text must have been replaced, in seconds since 1970, as far as they state it."""
    ends = [crl.next_update_utc for crl in _crls(pem)]
    return tuple(end.timestamp() for end in ends if end is not None)


def iso_time(seconds: float) -> str:
    """A time in ISO 8601, in UTC."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def as_text(views: Iterable[CertificateView]) -> str:
    """A readable list of certificates; foreign text in it is escaped."""
    lines: list[str] = []
    for view in views:
        left = view["days_left"]
        state = f"{left:.0f} days left" if left >= 0 else f"EXPIRED {-left:.0f} days ago"
        lines.append(f"{one_line(view['subject']) or '(no subject)'}: {state}, until {view['not_after']}")
        lines.append(f"  {'CA, ' if view['is_ca'] else ''}issued by {one_line(view['issuer']) or '(no issuer)'}")
        if view["names"]:
            lines.append(f"  for      {', '.join(map(one_line, view['names']))}")
        lines.append(f"  serial   {view['serial']}")
        lines.append(f"  SHA-256  {view['fingerprint']}")
        lines.append(f"  from     {view['file'] or 'the configuration'}")
        lines += [f"  used by  {one_line(user)}" for user in view["used_by"]]
    return "".join(f"{line}\n" for line in lines)
