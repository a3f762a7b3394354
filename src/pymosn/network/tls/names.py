"""Names of TLS versions, cipher suites, groups and ALPN protocols: MOSN's, and what OpenSSL calls them."""

from __future__ import annotations

from typing import Final, NamedTuple

#: MOSN's versions, in lower case; `tls_auto` is the default.
VERSIONS: Final = {"tlsv1_0": "TLSv1.0", "tlsv1_1": "TLSv1.1", "tlsv1_2": "TLSv1.2", "tlsv1_3": "TLSv1.3"}
AUTO: Final = "tls_auto"
#: All of them in ascending order, and the first one that is not deprecated (RFC 8996).
ORDER: Final = ("TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3")
MIN_VERSION: Final = "TLSv1.2"
MAX_VERSION: Final = "TLSv1.3"

#: The default of TLS 1.2: forward secrecy and authenticated encryption, in MOSN's order.
DEFAULT_CIPHERS: Final = (
    *("ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384"),
    *("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"),
    *("ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305"),
)
#: What TLS 1.0 and 1.1 need, because they have no authenticated encryption; added to the default if these are enabled.
OLD_CIPHERS: Final = (
    *("ECDHE-ECDSA-AES256-SHA", "ECDHE-RSA-AES256-SHA", "ECDHE-ECDSA-AES128-SHA", "ECDHE-RSA-AES128-SHA"),
    *("AES256-SHA", "AES128-SHA"),
)
#: MOSN's names that differ from OpenSSL's.
_MOSN_CIPHERS: Final = {
    "ECDHE-ECDSA-WITH-CHACHA20-POLY1305": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-WITH-CHACHA20-POLY1305": "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-RSA-AES256-CBC-SHA": "ECDHE-RSA-AES256-SHA",
    "ECDHE-RSA-AES128-CBC-SHA": "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-CBC-SHA": "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-ECDSA-AES128-CBC-SHA": "ECDHE-ECDSA-AES128-SHA",
    "RSA-AES256-CBC-SHA": "AES256-SHA",
    "RSA-AES128-CBC-SHA": "AES128-SHA",
    "ECDHE-RSA-3DES-EDE-CBC-SHA": "ECDHE-RSA-DES-CBC3-SHA",
    "RSA-3DES-EDE-CBC-SHA": "DES-CBC3-SHA",
}
_CIPHERS: Final = frozenset((*DEFAULT_CIPHERS, *OLD_CIPHERS, *_MOSN_CIPHERS.values()))
#: Suites of TLS 1.3. MOSN's first two are OpenSSL's names of other suites, which MOSN does not have.
_SUITES: Final = {
    "AES256-GCM-SHA384": "TLS_AES_256_GCM_SHA384",
    "AES128-GCM-SHA256": "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384": "TLS_AES_256_GCM_SHA384",
    "TLS_AES_128_GCM_SHA256": "TLS_AES_128_GCM_SHA256",
    "TLS_CHACHA20_POLY1305_SHA256": "TLS_CHACHA20_POLY1305_SHA256",
}
#: Every name that `cipher_suites` may have.
CIPHER_NAMES: Final = (*DEFAULT_CIPHERS, *OLD_CIPHERS, *_MOSN_CIPHERS, *_SUITES)

#: MOSN's curves, in lower case.
GROUPS: Final = {"x25519": "X25519", "p256": "P-256", "p384": "P-384", "p521": "P-521"}
DEFAULT_GROUPS: Final = "X25519:P-256:P-384"

#: MOSN's ALPN protocols, and those by which Istio's sidecars tell each other that they speak mutual TLS. Others are ignored.
PROTOCOLS: Final = ("h2", "http/1.1", "sofa", "istio", "istio-http/1.0", "istio-http/1.1", "istio-h2")
#: Protocols by which Istio's proxies exchange metadata before the first byte, which is not implemented.
UNSUPPORTED: Final = frozenset(("istio-peer-exchange",))
#: Bytes of a protocol's name (RFC 7301 section 3.1).
LONGEST_ALPN: Final = 255


class UnknownName(ValueError):
    """An unknown name. `name`: the name; `known`: the known ones."""

    def __init__(self, what: str, name: str, known: tuple[str, ...]) -> None:
        super().__init__(f"unknown {what} {name!r}")
        self.name = name
        self.known = known


class Ciphers(NamedTuple):
    """Suites in OpenSSL's notation: those of TLS 1.2 and earlier, and those of TLS 1.3; empty for the default."""

    ciphers: str = ""
    suites: str = ""


def version_of(text: str, default: str) -> str:
    """The version with MOSN's name `text`, such as `TLSv1.2`. Raises UnknownName."""
    name = text.strip().lower()
    if name in ("", AUTO):
        return default
    found = VERSIONS.get(name)
    if found is None:
        raise UnknownName("TLS version", text, ("TLSv1_0", "TLSv1_1", "TLSv1_2", "TLSv1_3", AUTO))
    return found


def ciphers_of(text: str) -> Ciphers:
    """The suites of `cipher_suites`. Raises UnknownName."""
    ciphers: list[str] = []
    suites: list[str] = []
    for part in text.split(":") if text.strip() else ():
        name = part.strip().upper()
        suite = _SUITES.get(name)
        cipher = _MOSN_CIPHERS.get(name, name)
        if suite is not None:
            suites.append(suite)
        elif cipher in _CIPHERS:
            ciphers.append(cipher)
        else:
            raise UnknownName("cipher suite", part.strip(), CIPHER_NAMES)
    return Ciphers(":".join(ciphers), ":".join(suites))


def weak_ciphers(ciphers: str) -> list[str]:
    """Those of `Ciphers.ciphers` that a modern server does not offer: CBC, 3DES, or no forward secrecy."""
    return [name for name in ciphers.split(":") if name and name not in DEFAULT_CIPHERS]


def groups_of(text: str) -> str:
    """The groups of `ecdh_curves`; empty for the default. Raises UnknownName."""
    groups: list[str] = []
    for part in text.split(",") if text.strip() else ():
        group = GROUPS.get(part.strip().lower())
        if group is None:
            raise UnknownName("curve", part.strip(), ("x25519", "p256", "p384", "p521"))
        groups.append(group)
    return ":".join(groups)


def alpn_names(text: str) -> list[str]:
    """The protocols of `alpn` in lower case, known or not."""
    return [name for part in text.split(",") if (name := part.strip().lower())]


def alpn_of(text: str) -> tuple[str, ...]:
    """The known protocols of `alpn`, in order of preference."""
    names = dict.fromkeys(alpn_names(text))
    return tuple([name for name in names if name in PROTOCOLS])
