"""Settings of TLS contexts as plain values, which compare equal if nothing has changed. Created by the assembly."""

from __future__ import annotations

from typing import NamedTuple

from pymosn.network.tls.sans import NamePattern


class TlsSettings(NamedTuple):
    """What contexts of listeners and of clusters have in common.

    `certificate`, `key`, `ca`, `crl`: PEM text, empty for none. `min_version`, `max_version`: `TLSv1.2`. `ciphers`: for
    TLS 1.2 and earlier, `suites`: for TLS 1.3, `groups`: key exchange; in OpenSSL's notation, empty for the default.
    `alpn`: the protocols in order of preference. `key_log`: path of a key log, empty for none.
    """

    certificate: bytes = b""
    key: bytes = b""
    ca: bytes = b""
    crl: bytes = b""
    min_version: str = "TLSv1.2"
    max_version: str = "TLSv1.3"
    ciphers: str = ""
    suites: str = ""
    groups: str = ""
    alpn: tuple[str, ...] = ()
    key_log: str = ""


class ServerSettings(NamedTuple):
    """One context of a listener.

    `verifies`, `requires`: MOSN's `verify_client` and `require_client_cert`. `server_name`: one more name, besides those of
    the certificate. `uris`: a client's certificate must have one of them, unless empty. `is_plain`: `fall_back` is
    set, and there is no usable certificate. `has_default_alpn`: none is configured, so that a client without a common
    protocol is not refused, and contexts are not chosen by protocol. `serves_without_alpn`: it is not refused either.
    `names`, `hashes`: see `PeerRules`. `is_waiting`: its certificate or CA has not been received; clients are refused.
    """

    tls: TlsSettings
    verifies: bool = False
    requires: bool = False
    server_name: str = ""
    uris: tuple[str, ...] = ()
    is_plain: bool = False
    has_default_alpn: bool = False
    serves_without_alpn: bool = False
    names: tuple[NamePattern, ...] = ()
    hashes: tuple[str, ...] = ()
    is_waiting: bool = False


class ClientSettings(NamedTuple):
    """TLS of a cluster. `server_name`: empty for that of each host. `is_verified`: False for `insecure_skip`.

    `uris`: the host's certificate must have one of them, instead of the name, unless empty. `falls_back`: a host whose
    handshake fails is connected to again without TLS. `names`, `hashes`: see `PeerRules`; `names` also instead of the name.
    `checks_name`: False if any name is accepted. `is_waiting`: the certificate or CA has not been received, so that no host
    is accepted.
    """

    tls: TlsSettings
    server_name: str = ""
    is_verified: bool = True
    uris: tuple[str, ...] = ()
    falls_back: bool = False
    names: tuple[NamePattern, ...] = ()
    hashes: tuple[str, ...] = ()
    checks_name: bool = True
    is_waiting: bool = False

    def has_rules(self) -> bool:
        """Whether more is demanded of a certificate than what OpenSSL verifies."""
        return bool(self.uris or self.names or self.hashes)
