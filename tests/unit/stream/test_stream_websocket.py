"""The opening handshake of WebSocket between the versions of HTTP (RFC 6455 section 1.3, RFC 8441 section 5)."""

from base64 import b64decode

import pytest

from pymosn.api.http import HttpRequest, HttpResponse
from pymosn.core.headers import HttpHeaders, wire_lines
from pymosn.stream.http.websocket import accept_for, accept_of, add_accept, add_key, remove_accept, without_key

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def asking(lines: bytes = b"", tunnel: bytes = b"websocket") -> HttpRequest:
    head = HttpRequest(HttpHeaders(b"host: a\r\n" + lines))
    head.raw_method = b"GET"
    head.raw_tunnel = tunnel
    return head


def agreeing(lines: bytes = b"", tunnel: bytes = b"websocket") -> HttpResponse:
    head = HttpResponse(101, b"", HttpHeaders(lines))
    head.raw_tunnel = tunnel
    return head


def test_the_digest_of_the_rfc() -> None:
    assert accept_of(KEY) == ACCEPT


def test_a_request_from_http2_gets_a_key_of_its_own() -> None:
    keys = set()
    for lines in (b"", b"Sec-WebSocket-Key: mine\r\n"):
        head = asking(lines)
        add_key(head)
        [key] = head.headers.get_all("sec-websocket-key")
        assert len(b64decode(key, validate=True)) == 16
        assert head.expected_accept == accept_of(key.encode())
        keys.add(key)
    assert len(keys) == 2
    assert "mine" not in keys


@pytest.mark.parametrize("tunnel", [b"", b"CONNECT", b"spdy/3.1"])
def test_other_requests_get_no_key(tunnel: bytes) -> None:
    head = asking(tunnel=tunnel)
    add_key(head)
    assert wire_lines(head.headers) == b"host: a\r\n"
    assert head.accepts_tunnel(agreeing())


def test_only_the_right_digest_opens_a_tunnel() -> None:
    head = asking()
    add_key(head)
    assert not head.accepts_tunnel(agreeing())
    assert not head.accepts_tunnel(agreeing(b"Sec-WebSocket-Accept: " + ACCEPT + b"\r\n"))
    assert head.accepts_tunnel(agreeing(b"Sec-WebSocket-Accept: " + head.expected_accept + b"\r\n"))
    assert not head.copy().accepts_tunnel(agreeing())


def test_a_request_is_sent_over_http2_without_its_key() -> None:
    head = asking(b"Sec-WebSocket-Key: k\r\nSec-WebSocket-Version: 13\r\n")
    sent = without_key(head)
    assert wire_lines(sent.headers) == b"host: a\r\nSec-WebSocket-Version: 13\r\n"
    assert sent.raw_tunnel == b"websocket"
    assert head.headers.has_raw(b"sec-websocket-key"), "kept for a host that speaks HTTP/1"
    for other in (asking(), asking(b"Sec-WebSocket-Key: k\r\n", b"")):
        assert without_key(other) is other


def test_a_response_from_http2_gets_the_digest_of_the_key() -> None:
    key = b"Sec-WebSocket-Key: " + KEY + b"\r\n"
    head = agreeing(b"Sec-WebSocket-Accept: theirs\r\n")
    add_accept(head, accept_for(asking(key)))
    assert head.headers.get_all("sec-websocket-accept") == [ACCEPT.decode()]
    for accept in (accept_for(asking()), accept_for(asking(key, b""))):
        head = agreeing()
        add_accept(head, accept)
        assert wire_lines(head.headers) == b"", "the client has sent no key"
    head = agreeing(tunnel=b"")
    add_accept(head, ACCEPT)
    assert wire_lines(head.headers) == b""


def test_a_response_is_sent_over_http2_without_the_digest() -> None:
    head = agreeing(b"Sec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: chat\r\n")
    remove_accept(head)
    assert wire_lines(head.headers) == b"Sec-WebSocket-Protocol: chat\r\n"
