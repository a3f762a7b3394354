"""The client's address behind other trusted proxies: `trusted_hops`."""

import pytest
from tests.kit import GET, Start, Talk, forward
from tests.kit.options import http1_policy, http_options

from pymosn.api import Exchange, StreamFilter
from pymosn.api.http import HttpRequest
from pymosn.core.headers import headers_from
from pymosn.routing.hashing import HashSourceIp, hash_value

pytestmark = pytest.mark.also_h2

PEER = "192.0.2.7"
OK = b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 0\r\n\r\n"


class Seen(StreamFilter):
    """Keeps what a filter, a log line, a hash and an expression would see of the client."""

    def __init__(self) -> None:
        super().__init__(None)
        self.clients: list[str] = []
        self.addresses: list[str | None] = []
        self.sources: list[bytes | None] = []
        self.hashes: set[int] = set()

    def on_request(self, exchange: Exchange) -> None:
        self.clients.append(exchange.remote_ip)
        self.addresses.append(exchange.variable("downstream_remote_address"))
        self.addresses.append(exchange.variable("downstream_direct_remote_address"))
        self.sources.append(HashSourceIp().part(exchange))
        self.hashes.add(int(hash_value([], exchange)))


def begin(start: Start, hops: int) -> tuple[Talk, Seen]:
    seen = Seen()
    http1 = http_options(policy=http1_policy(trusts_peer=hops > 0))
    talk = start(
        x_forwarded=True, trusted_hops=hops, trusts_peer=hops > 0, http1=http1, filters={"seen": seen}, routes=forward()
    )
    return talk, seen


@pytest.mark.parametrize(
    ("hops", "said", "client", "told"),
    [
        (0, [b"9.9.9.9"], PEER, b"9.9.9.9, 192.0.2.7"),
        (1, [b"9.9.9.9"], "9.9.9.9", b"9.9.9.9, 192.0.2.7"),
        (1, [b"evil, 9.9.9.9"], "9.9.9.9", b"9.9.9.9, 192.0.2.7"),
        (1, [b"8.8.8.8, 9.9.9.9"], "9.9.9.9", b"9.9.9.9, 192.0.2.7"),
        (1, [b"8.8.8.8", b"9.9.9.9"], "9.9.9.9", b"9.9.9.9, 192.0.2.7"),
        (1, [b"9.9.9.9 ,\t"], "9.9.9.9", b"9.9.9.9, 192.0.2.7"),
        (1, [b"2001:DB8:0::1"], "2001:db8::1", b"2001:DB8:0::1, 192.0.2.7"),
        (1, [b"::ffff:9.9.9.9"], "9.9.9.9", b"::ffff:9.9.9.9, 192.0.2.7"),
        (2, [b"8.8.8.8, 9.9.9.9, 10.0.0.1"], "9.9.9.9", b"9.9.9.9, 10.0.0.1, 192.0.2.7"),
        (2, [b"9.9.9.9, whatever"], "9.9.9.9", b"9.9.9.9, whatever, 192.0.2.7"),
        # Fewer than there are proxies, or not an address: no trusted proxy has written it.
        (2, [b"9.9.9.9"], PEER, b"192.0.2.7"),
        (1, [b""], PEER, b"192.0.2.7"),
        (1, [b",,"], PEER, b"192.0.2.7"),
        (1, [b"unknown"], PEER, b"192.0.2.7"),
        (1, [b"9.9.9.9, _hidden"], PEER, b"192.0.2.7"),
        # Some proxies append the port of their peer, or write brackets.
        (1, [b"9.9.9.9:80"], "9.9.9.9", b"9.9.9.9:80, 192.0.2.7"),
        (1, [b"evil, [2001:DB8::1]"], "2001:db8::1", b"[2001:DB8::1], 192.0.2.7"),
        (1, [b"[2001:db8::1]:4711"], "2001:db8::1", b"[2001:db8::1]:4711, 192.0.2.7"),
        (2, [b"8.8.8.8, 9.9.9.9:80, 10.0.0.1:5"], "9.9.9.9", b"9.9.9.9:80, 10.0.0.1:5, 192.0.2.7"),
        (1, [b"9.9.9.9:"], PEER, b"192.0.2.7"),
        (1, [b"9.9.9.9:x"], PEER, b"192.0.2.7"),
        (1, [b"[9.9.9.9]:80"], PEER, b"192.0.2.7"),
        (1, [b"[2001:db8::1"], PEER, b"192.0.2.7"),
        (1, [b"[fe80::1%eth0]"], PEER, b"192.0.2.7"),
        (1, [b"09.9.9.9"], PEER, b"192.0.2.7"),
        (1, [b"9.9.9"], PEER, b"192.0.2.7"),
        (1, [b"9.9.9.9\xff"], PEER, b"192.0.2.7"),
        (1, [b"\xd9\xa9.9.9.9"], PEER, b"192.0.2.7"),
        (3, [b"1.1.1.1, 2.2.2.2"], PEER, b"192.0.2.7"),
    ],
)
def test_the_client(start: Start, hops: int, said: list[bytes], client: str, told: bytes) -> None:
    talk, seen = begin(start, hops)
    peer, upstream = talk.opening(
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X-Forwarded-For: %b\r\n" % line for line in said) + b"\r\n", ip=PEER
    )
    upstream.receives(b"GET / HTTP/1.1\r\nHost: a\r\nx-forwarded-for: " + told + b"\r\nx-forwarded-proto: http\r\n\r\n")
    assert seen.clients == [client]
    shown = f"[{client}]" if ":" in client else client
    assert (seen.addresses[0] or "").rpartition(":")[0] == shown
    assert (seen.addresses[0] or "").endswith(":0") == (client != PEER)
    assert (seen.addresses[1] or "").startswith(PEER)
    assert seen.sources == [client.encode()]
    upstream.sends(OK)
    peer.receives(OK)
    # The next request of the same connection may be another client's.
    peer.sends(GET)
    upstream.receives(GET[:-2] + b"x-forwarded-for: 192.0.2.7\r\nx-forwarded-proto: http\r\n\r\n")
    assert seen.clients[1] == PEER
    assert len(seen.hashes) == (1 if client == PEER else 2)


def test_the_word_of_a_trusted_proxy_about_the_scheme(start: Start) -> None:
    talk, _ = begin(start, 1)
    peer = talk.connect(PEER)
    peer.sends(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n")
    talk.expect_dial().receives(
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\nx-forwarded-for: 9.9.9.9, 192.0.2.7\r\n\r\n"
    )


def test_no_field_at_all_is_the_socket(start: Start) -> None:
    talk, seen = begin(start, 1)
    peer = talk.connect(PEER)
    peer.sends(GET)
    talk.expect_dial().receives(GET[:-2] + b"x-forwarded-for: 192.0.2.7\r\nx-forwarded-proto: http\r\n\r\n")
    assert seen.clients == [PEER]


def test_a_look_alike_is_ignored(start: Start) -> None:
    talk, seen = begin(start, 1)
    peer = talk.connect(PEER)
    peer.sends(b"GET / HTTP/1.1\r\nHost: a\r\nX_Forwarded_For: 9.9.9.9\r\n\r\n")
    talk.expect_dial().takes()
    assert seen.clients == [PEER]


def test_the_function_alone() -> None:
    head = HttpRequest(headers_from([("x-forwarded-for", "1.1.1.1, 2.2.2.2")]))
    assert head.forwarded_ip(1) == "", "the codec has seen no such field"
    head.has_forwarded_for = True
    assert [head.forwarded_ip(hops) for hops in (1, 2, 3)] == ["2.2.2.2", "1.1.1.1", ""]


def test_a_client_that_has_not_come_through_the_proxies_is_believed_where_all_are(start: Start) -> None:
    """In a mesh X-Forwarded-For may be missing, and what sidecars say about each other must not get lost."""
    seen = Seen()
    http1 = http_options(policy=http1_policy(trusts_peer=True))
    talk = start(
        trusted_hops=1,
        trusts_peer=True,
        forwarding={"trusts_all": True, "adds_proto": True},
        http1=http1,
        filters={"seen": seen},
        routes=forward(),
    )
    peer, upstream = talk.opening(b"GET / HTTP/1.1\r\nHost: a\r\nx-envoy-attempt-count: 1\r\nx-forwarded-host: b\r\n\r\n")
    upstream.receives(
        b"GET / HTTP/1.1\r\nHost: a\r\nx-envoy-attempt-count: 1\r\nx-forwarded-host: b\r\nx-forwarded-proto: http\r\n\r\n"
    )
    assert seen.addresses[:1] == [f"{PEER}:40000"]
    upstream.sends(OK)
    peer.receives(OK)
    peer.sends(b"GET / HTTP/1.1\r\nHost: a\r\nx-forwarded-for: 9.9.9.9\r\nx-forwarded-proto: https\r\n\r\n")
    upstream.receives(b"GET / HTTP/1.1\r\nHost: a\r\nx-forwarded-for: 9.9.9.9\r\nx-forwarded-proto: https\r\n\r\n")
