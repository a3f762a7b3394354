"""X-Forwarded-Client-Cert, TLS variables and the scheme, for connections with TLS facts."""

import pytest
from tests.kit import DATE, Start, forward
from tests.kit.options import http1_policy, http_options
from tests.kit.tls_facts import FINGERPRINT, NOT_AFTER, certificate, tls_info

from pymosn.api import Exchange, StreamFilter
from pymosn.api.routing import Route
from pymosn.core.forwarding import (
    CERT_ALWAYS_FORWARD_ONLY,
    CERT_APPEND_FORWARD,
    CERT_BY_TRUST,
    CERT_FORWARD_ONLY,
    CERT_SANITIZE,
    CERT_SANITIZE_SET,
)
from pymosn.routing.actions import Redirect
from pymosn.routing.matchers import AnyRequest

pytestmark = pytest.mark.also_h2

OWN = f'Hash={FINGERPRINT};Subject="CN=client,O=Example"'.encode()
SAID = b"Hash=11;URI=spiffe://forged"

#: Mode, then what is sent for: an untrusted client without and with a verified certificate; a trusted one likewise.
TABLE = [
    (CERT_BY_TRUST, b"", OWN, SAID, SAID + b"," + OWN),
    (CERT_SANITIZE, b"", b"", b"", b""),
    (CERT_SANITIZE_SET, b"", OWN, b"", OWN),
    (CERT_APPEND_FORWARD, b"", OWN, b"", SAID + b"," + OWN),
    (CERT_FORWARD_ONLY, b"", b"", b"", SAID),
    (CERT_ALWAYS_FORWARD_ONLY, b"", b"", SAID, SAID),
]


@pytest.mark.parametrize(("mode", "plain", "mutual", "trusted", "trusted_mutual"), TABLE)
def test_modes(start: Start, mode: int, plain: bytes, mutual: bytes, trusted: bytes, trusted_mutual: bytes) -> None:
    for trusts, has_certificate, expected in (
        (False, False, plain),
        (False, True, mutual),
        (True, False, trusted),
        (True, True, trusted_mutual),
    ):
        http1 = http_options(policy=http1_policy(trusts_peer=trusts))
        talk = start(client_cert=int(mode), trusts_peer=trusts, http1=http1)
        client = talk.connect(tls=tls_info(certificate() if has_certificate else None))
        for _ in range(2):  # the second request of a connection gets the same
            client.sends(b"GET / HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-Client-Cert: " + SAID + b"\r\n\r\n")
            upstream = talk.upstreams[-1] if talk.upstreams else talk.expect_dial()
            line = b"x-forwarded-client-cert: " + expected + b"\r\n" if expected else b""
            if expected == SAID:
                line = b"X-Forwarded-Client-Cert: " + SAID + b"\r\n"
            upstream.receives(b"GET / HTTP/1.1\r\nHost: a.example\r\n" + line + b"\r\n")
            upstream.sends(b"HTTP/1.1 204 No Content\r\n\r\n")
            client.receives(b"HTTP/1.1 204 No Content\r\n" + DATE + b"\r\n")


SPOOFS = [
    b"X-Forwarded-Client-Cert: Hash=1\r\n",
    b"x-forwarded-client-cert:Hash=1\r\n",
    b"X-FORWARDED-CLIENT-CERT: Hash=1\r\nx-forwarded-client-cert: Hash=2\r\n",
    b"X_Forwarded_Client_Cert: Hash=1\r\n",
    b"x-forwarded_client-cert: Hash=1\r\n",
    b"X-Forwarded-Client-Cert: a,b;c=d,Hash=1\r\n",
    b"X-Forwarded-Client-Cert: \r\n",
    b"Connection: close, x-forwarded-client-cert\r\nX-Forwarded-Client-Cert: Hash=1\r\n",
]


@pytest.mark.parametrize("spoof", SPOOFS)
@pytest.mark.parametrize("is_mutual", [False, True])
def test_untrusted_clients_cannot_write_it(start: Start, spoof: bytes, is_mutual: bool) -> None:
    talk = start()
    client = talk.connect(tls=tls_info(certificate()) if is_mutual else None)
    client.sends(b"GET / HTTP/1.1\r\nHost: a.example\r\n" + spoof + b"\r\n")
    line = b"x-forwarded-client-cert: " + OWN + b"\r\n" if is_mutual else b""
    talk.expect_dial().receives(b"GET / HTTP/1.1\r\nHost: a.example\r\n" + line + b"\r\n")


@pytest.mark.parametrize("spoof", [SPOOFS[3], SPOOFS[4]])
def test_variants_with_underscores_do_not_pass_even_from_trusted_proxies(start: Start, spoof: bytes) -> None:
    talk = start(trusts_peer=True, http1=http_options(policy=http1_policy(trusts_peer=True)))
    client = talk.connect()
    client.sends(b"GET / HTTP/1.1\r\nHost: a.example\r\n" + spoof + b"\r\n")
    talk.expect_dial().receives(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")


@pytest.mark.parametrize("mode", [mode for mode, *_ in TABLE])
def test_a_request_that_bypassed_the_trusted_proxies_does_not_keep_it(start: Start, mode: int) -> None:
    http1 = http_options(policy=http1_policy(trusts_peer=True))
    talk = start(trusts_peer=True, trusted_hops=1, client_cert=int(mode), http1=http1)
    client = talk.connect()
    client.sends(b"GET / HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-Client-Cert: Hash=1\r\n\r\n")
    talk.expect_dial().receives(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")


def test_several_lines_of_a_trusted_proxy_are_one_list(start: Start) -> None:
    talk = start(trusts_peer=True, http1=http_options(policy=http1_policy(trusts_peer=True)))
    client = talk.connect(tls=tls_info(certificate()))
    client.sends(
        b"GET / HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-Client-Cert: Hash=1\r\nX-Forwarded-Client-Cert: Hash=2\r\n\r\n"
    )
    talk.expect_dial().receives(
        b"GET / HTTP/1.1\r\nHost: a.example\r\nx-forwarded-client-cert: Hash=1,Hash=2," + OWN + b"\r\n\r\n"
    )


def test_a_certificate_that_is_not_verified_is_not_forwarded(start: Start) -> None:
    talk = start()
    client = talk.connect(tls=tls_info(certificate(is_verified=False)))
    client.sends(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
    talk.expect_dial().receives(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")


class Seen(StreamFilter):
    """Keeps what a filter sees of the connection."""

    def __init__(self) -> None:
        super().__init__(None)
        self.values: dict[str, str | None] = {}
        self.headers: list[str] = []

    def on_request(self, exchange: Exchange) -> None:
        tls = exchange.connection.tls
        assert tls is not None
        assert tls.certificate is not None
        self.values = {name: exchange.variable(name) for name in NAMES}
        self.headers = exchange.request.headers.get_all("x-forwarded-client-cert")


NAMES = {
    "requested_server_name": "a.example",
    "downstream_tls_version": "TLSv1.3",
    "downstream_tls_cipher": "TLS_AES_128_GCM_SHA256",
    "downstream_tls_resumed": "false",
    "downstream_alpn": None,
    "downstream_alpn_offered": "h2,http/1.1",
    "tls_ja3_fingerprint": "3a" * 16,
    "tls_ja4_fingerprint": "t13d1516h2_8daaf6152771_b0da82dd1658",
    "downstream_peer_verified": "true",
    "downstream_peer_fingerprint_256": FINGERPRINT,
    "downstream_peer_subject": "CN=client,O=Example",
    "downstream_peer_issuer": "CN=ca",
    "downstream_peer_serial": "1f",
    "downstream_peer_dns_san": "a.example,b.example",
    "downstream_peer_uri_san": "urn:x,spiffe://a.example/ns/one",
    "downstream_peer_spiffe_id": "spiffe://a.example/ns/one",
    "downstream_peer_cert_v_end": "2030-01-02T03:04:05Z",
    "x-mosn-scheme": "https",
}


def test_filters_see_the_facts_and_the_header(start: Start) -> None:
    seen = Seen()
    talk = start(filters={"seen": seen}, x_forwarded=True)
    found = certificate(uris=["urn:x", "spiffe://a.example/ns/one"], dns_names=["a.example", "b.example"])
    assert found.not_after == NOT_AFTER
    client = talk.connect(tls=tls_info(found, own_uris=["spiffe://a.example/proxy"]))
    client.sends(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
    assert seen.values == NAMES
    element = (
        f'By=spiffe://a.example/proxy;Hash={FINGERPRINT};Subject="CN=client,O=Example"'
        ";URI=urn:x;URI=spiffe://a.example/ns/one;DNS=a.example;DNS=b.example"
    )
    assert seen.headers == [element]
    talk.expect_dial().receives(
        b"GET / HTTP/1.1\r\nHost: a.example\r\nx-forwarded-client-cert: " + element.encode() + b"\r\n"
        b"x-forwarded-for: 192.0.2.7\r\nx-forwarded-proto: https\r\n\r\n"
    )


def test_what_an_unverified_certificate_says_is_nobodys_name(start: Start) -> None:
    seen = Seen()
    talk = start(filters={"seen": seen}, routes=forward())
    found = certificate(uris=["spiffe://a.example/ns/one"], dns_names=["a.example"], is_verified=False)
    talk.connect(tls=tls_info(found)).sends(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
    talk.expect_dial().receives(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
    known = {name: value for name, value in seen.values.items() if name.startswith("downstream_peer") and value}
    assert known == {"downstream_peer_verified": "false", "downstream_peer_fingerprint_256": FINGERPRINT}


@pytest.mark.http1_only("absolute targets")
@pytest.mark.parametrize(
    ("target", "is_tls", "status"),
    [
        (b"https://a.example/x", True, 204),
        (b"HTTPS://a.example/x", True, 204),
        (b"http://a.example/x", True, 400),
        (b"https://a.example/x", False, 400),
        (b"http://a.example/x", False, 204),
    ],
)
def test_the_scheme_of_an_absolute_target_is_the_connections(start: Start, target: bytes, is_tls: bool, status: int) -> None:
    talk = start()
    client = talk.connect(tls=tls_info() if is_tls else None)
    client.sends(b"GET " + target + b" HTTP/1.1\r\nHost: a.example\r\n\r\n")
    if status == 400:
        assert talk.reasons() == ["bad_target"]
        assert client.takes().startswith(b"HTTP/1.1 400 ")
        return
    talk.expect_dial().receives(b"GET /x HTTP/1.1\r\nHost: a.example\r\n\r\n")


def test_redirects_go_to_https(start: Start) -> None:
    talk = start(routes=[Route("r", AnyRequest(), Redirect(302, "", "", "/new"), None)])
    client = talk.connect(tls=tls_info())
    client.sends(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
    assert b"location: https://a.example/new\r\n" in client.takes()
