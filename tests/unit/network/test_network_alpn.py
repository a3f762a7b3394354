"""ALPN of listeners: what is negotiated, and that HTTP/2 is not where TLS may end in what RFC 9113 section 9.2 prohibits."""

import contextlib
import ssl
from typing import Any

import pytest
from tests.kit import certificates as made

from pymosn.network.tls.contexts import ServerContext, ServerHandshake, server_context
from pymosn.network.tls.settings import ServerSettings, TlsSettings
from pymosn.network.tls.tickets import TicketSecrets
from pymosn.protocol.tls.hello import read_hello

STRONG = "ECDHE-ECDSA-AES256-GCM-SHA384"
WEAK = "ECDHE-ECDSA-AES256-SHA"
BOTH = ("h2", "http/1.1")


def context_of(*, default: bool = False, alpn: tuple[str, ...] = BOTH, **changes: Any) -> ServerContext:
    tls = TlsSettings(certificate=made.server().certificate, key=made.server().key, alpn=alpn, **changes)
    return server_context(ServerSettings(tls, has_default_alpn=default), TicketSecrets())


def client(*offered: str, version: str = "1.3", ciphers: str = "") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=made.ca().certificate.decode())
    context.maximum_version = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[version]
    if ciphers:
        context.set_ciphers(ciphers)
    if offered:
        context.set_alpn_protocols(list(offered))
    return context


def negotiate(server: ServerContext, peer: ssl.SSLContext) -> tuple[str, str, bool]:
    """Shakes hands. Returns the protocol, the suite, and whether the handshake was one without a common protocol."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    end = peer.wrap_bio(to_client, to_server, server_hostname="server.test")
    with pytest.raises(ssl.SSLWantReadError):
        end.do_handshake()
    data = to_server.read()
    hello = read_hello(data)
    assert hello is not None
    handshake = ServerHandshake(server, hello)
    to_server.write(data)
    engine = handshake.ssl_context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(3):
        for side in (engine, end):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    cipher = engine.cipher()
    assert cipher is not None
    return engine.selected_alpn_protocol() or "", cipher[0], handshake.has_no_common


@pytest.mark.parametrize(
    ("offered", "protocol", "has_no_common"),
    [
        (("h2", "http/1.1"), "h2", False),
        (("http/1.1", "h2"), "h2", False),
        (("http/1.1",), "http/1.1", False),
        (("x", "http/1.1"), "http/1.1", False),
        (("x",), "", True),
        ((), "", False),
    ],
)
def test_the_listener_prefers(offered: tuple[str, ...], protocol: str, has_no_common: bool) -> None:
    server = context_of()
    assert server.weak is None
    found = negotiate(server, client(*offered))
    assert (found[0], found[2]) == (protocol, has_no_common)


@pytest.mark.parametrize(
    ("version", "ciphers", "protocol"),
    [
        ("1.3", "", "h2"),
        ("1.3", WEAK, "h2"),
        ("1.2", STRONG, "h2"),
        ("1.2", f"{STRONG}:{WEAK}", "http/1.1"),
        ("1.2", WEAK, "http/1.1"),
    ],
)
def test_no_http2_where_tls_may_be_too_weak(version: str, ciphers: str, protocol: str) -> None:
    server = context_of(ciphers=f"{WEAK}:{STRONG}")
    found, suite, _ = negotiate(server, client(*BOTH, version=version, ciphers=ciphers))
    assert found == protocol
    assert found != "h2" or suite != WEAK


def test_no_http2_without_tls_1_2() -> None:
    server = context_of(min_version="TLSv1.0")
    assert server.weak is not None
    assert negotiate(server, client(*BOTH))[0] == "h2"
    assert negotiate(server, client(*BOTH, version="1.2", ciphers=STRONG))[0] == "h2"


def test_a_weak_client_that_speaks_only_http2_has_no_protocol() -> None:
    server = context_of(alpn=("h2",), ciphers=f"{WEAK}:{STRONG}", max_version="TLSv1.2")
    assert negotiate(server, client("h2", version="1.2", ciphers=f"{STRONG}:{WEAK}")) == ("", WEAK, True)


def test_contexts_are_not_chosen_by_the_default() -> None:
    assert context_of().has_protocol(("h2",))
    assert not context_of(default=True).has_protocol(("h2",))


def test_a_context_without_http2_has_one_openssl_context() -> None:
    assert context_of(alpn=("http/1.1",), ciphers=WEAK).weak is None
