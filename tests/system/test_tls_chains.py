"""Several filter chains and TLS contexts per listener, on the real program over real sockets."""

import json
import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from process_fixtures import Start
from pymosn_process import PATIENCE, READY, Upstream, free_ports
from tests.kit.certificates import ca, client, issue, server
from tls_peers import (
    answer,
    client_context,
    config_of,
    context_for,
    exchange,
    listener_of,
    opened,
    plain_answer,
    proxy_filter,
    table_of,
)

pytestmark = pytest.mark.once


def test_curl_over_tls(start: Start, upstream: Upstream, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    chain = {"tls_context": context_for(server()), "filters": [proxy_filter("r")]}
    config = config_of([listener_of("l", port, [chain])], [table_of("r", cluster="c")], {"c": f"127.0.0.1:{upstream.port}"})
    proxy = start(config)
    proxy.wait_for(READY)
    (tmp_path / "ca.pem").write_bytes(ca().certificate)
    url = f"https://localhost:{port}/x"
    command = ["curl", "-sS", "--fail", "--max-time", "30", "--cacert", str(tmp_path / "ca.pem"), url]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.stdout == "hello from upstream, /x\n", (made.stderr, proxy.output)
    assert plain_answer(port)[0] == 400


def chain_of(table: str, match: dict[str, Any] | None = None, **tls: Any) -> dict[str, Any]:
    return {"name": table, "match": match or {}, "filters": [proxy_filter(table)], **tls}


#: Certificates of clients are demanded of these contexts, by this CA.
SERVER = context_for(server())
MUTUAL = context_for(server(), demands=ca())


def test_the_choice_of_the_chain(start: Start) -> None:
    port, other = free_ports(2)
    chains = [
        chain_of("exact", {"server_names": ["a.wild.test"]}, tls_context=SERVER),
        chain_of("wildcard", {"server_names": ["*.wild.test"]}, tls_context=SERVER),
        chain_of("h2-only", {"application_protocols": ["custom"]}, tls_context=SERVER),
        chain_of("source", {"source_prefixes": ["127.0.0.2/32"]}, tls_context=SERVER),
        chain_of("plain", {"transport_protocol": "raw_buffer"}),
        chain_of("rest", {}, tls_context=SERVER),
    ]
    only = [chain_of("exact", {"server_names": ["a.wild.test"]}, tls_context=SERVER)]
    tables = [table_of(chain["name"], chain["name"]) for chain in chains]
    proxy = start(config_of([listener_of("l", port, chains), listener_of("only", other, only)], tables))
    proxy.wait_for(READY)
    assert answer(port, "a.wild.test") == (200, b"exact")
    assert answer(port, "A.WILD.TEST") == (200, b"exact")
    assert answer(port, "b.a.wild.test") == (200, b"wildcard")
    assert answer(port, "a.wild.test", alpn=("custom",)) == (200, b"exact")  # the name decides before ALPN
    assert answer(port, "server.test", alpn=("x", "custom")) == (200, b"h2-only")
    assert answer(port, "server.test", source="127.0.0.2") == (200, b"source")
    assert answer(port, "") == (200, b"rest")
    assert plain_answer(port) == (200, b"plain")
    # No chain: an alert for TLS, a reset for plain text.
    status, reason = answer(other, "server.test")
    assert (status, reason) == (0, b"TLSV1_UNRECOGNIZED_NAME")
    assert plain_answer(other)[0] == 0


def test_an_inspector_serves_plain_text_too(start: Start) -> None:
    port, strict = free_ports(2)
    chain = chain_of("r", tls_context=SERVER)
    listeners = [listener_of("both", port, [chain], inspector=True), listener_of("tls", strict, [chain])]
    start(config_of(listeners, [table_of("r", "r")])).wait_for(READY)
    assert answer(port) == plain_answer(port) == (200, b"r")
    assert answer(strict) == (200, b"r")
    status, body = plain_answer(strict)
    assert status == 400
    assert b"HTTPS" in body


def test_a_listener_without_a_usable_certificate_falls_back(start: Start, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    (tmp_path / "bad.pem").write_text("no certificate")
    unusable = {"status": True, "fall_back": True, "cert_chain": str(tmp_path / "bad.pem"), "private_key": "missing"}
    chain = chain_of("r", tls_context=unusable)
    proxy = start(config_of([listener_of("l", port, [chain])], [table_of("r", "r")]))
    proxy.wait_for(READY)
    assert "fall_back" in proxy.output
    assert plain_answer(port) == (200, b"r")
    assert answer(port)[0] == 0


@pytest.mark.parametrize("key", ["verify_client", "require_client_cert"])
def test_no_fall_back_where_certificates_are_demanded(start: Start, tmp_path: Path, key: str) -> None:
    (port,) = free_ports(1)
    context = {**SERVER, "fall_back": True, key: True, "ca_cert": ca().certificate.decode()}
    proxy = start(config_of([listener_of("l", port, [chain_of("r", tls_context=context)])], [table_of("r", "r")]))
    assert proxy.exit_code() != 0
    assert "fall_back" in proxy.output


def test_the_order_of_a_context_set(start: Start) -> None:
    (port,) = free_ports(1)
    first = issue("first", ca(), names=("*.wild.test",))
    exact = issue("exact", ca(), names=("a.wild.test",))
    by_protocol = issue("protocol", ca(), names=("p.test",))
    contexts = [
        context_for(first, alpn="http/1.1"),
        context_for(exact, alpn="http/1.1"),
        context_for(by_protocol, alpn="sofa"),
    ]
    start(config_of([listener_of("l", port, [chain_of("r", tls_context_set=contexts)])], [table_of("r", "r")])).wait_for(
        READY
    )
    for name, protocols, expected in (
        ("b.wild.test", (), "first"),
        ("a.wild.test", (), "exact"),
        ("p.test", ("http/1.1",), ""),  # its context speaks another protocol: the fatal alert
        ("p.test", ("sofa",), "protocol"),
        ("none.test", ("sofa",), "protocol"),
        ("none.test", (), "first"),
        ("none.test", ("unknown",), ""),
    ):
        if not expected:
            assert b"no application protocol" in answer(port, name, alpn=protocols)[1]
            continue
        with opened(port, name, alpn=protocols) as secured:
            assert ("commonName", expected) in [pair[0] for pair in secured.getpeercert()["subject"]], (name, protocols)


def mutual_listener(port: int, **more: Any) -> dict[str, Any]:
    """`open.test` demands nothing, `closed.test` a certificate, by contexts; `chain.test` one, by a chain of its own."""
    contexts = [
        context_for(issue("open", ca(), names=("open.test", "also.test"))),
        context_for(issue("c", ca(), names=("closed.test",)), demands=ca()),
    ]
    chains = [chain_of("r", tls_context_set=contexts), chain_of("own", {"server_names": ["chain.test"]}, tls_context=MUTUAL)]
    return listener_of("l", port, chains, **more)


def test_requests_for_hosts_with_other_demands(start: Start) -> None:
    (port,) = free_ports(1)
    start(config_of([mutual_listener(port, inspector=True)], [table_of("r", "r"), table_of("own", "own")])).wait_for(READY)
    for name, host, expected in (
        ("open.test", "open.test", 200),
        ("open.test", "also.test", 200),  # equal demands: browsers reuse connections
        ("open.test", "unknown.test", 200),
        ("open.test", None, 200),
        ("open.test", "closed.test", 421),
        ("open.test", "closed.test:8443", 421),
        ("open.test", "CLOSED.test", 421),
        ("open.test", "closed.test.", 421),
        ("open.test", "closed.test.:443", 421),
        ("open.test", "chain.test", 421),
        ("open.test", "127.0.0.1", 200),
        ("open.test", "[::1]:443", 200),
        ("", "closed.test", 421),
        ("", "open.test", 200),
    ):
        assert answer(port, name, host)[0] == expected, (name, host)
    for host, expected in (("open.test", 200), ("closed.test", 421), ("chain.test", 421), (None, 200)):
        assert plain_answer(port, host)[0] == expected, host
    # The connection stays usable. In the absolute form the target decides, not the field.
    with opened(port, "open.test") as secured:
        assert exchange(secured, "closed.test")[0] == 421
        assert exchange(secured, "closed.test", "https://closed.test/")[0] == 421
        assert exchange(secured, "open.test") == (200, b"r")
        assert exchange(secured, "open.test", "https://closed.test/")[0] == 421
    # With a certificate, a host of the other demand needs a connection of its own.
    assert answer(port, "closed.test", "closed.test", certificate=client()) == (200, b"r")
    assert answer(port, "closed.test", "chain.test", certificate=client()) == (200, b"r")  # of the same demand
    assert answer(port, "closed.test", "open.test", certificate=client())[0] == 421
    assert answer(port, "closed.test", "closed.test")[0] == 0


def test_a_host_whose_chain_is_for_other_clients(start: Start) -> None:
    (port,) = free_ports(1)
    inner = {"server_names": ["inner.test"]}
    chains = [
        chain_of("r", {}, tls_context=SERVER),
        chain_of("far", inner | {"source_prefixes": ["127.9.0.0/16"]}, tls_context=MUTUAL),
        chain_of("alpn", {"server_names": ["alpn.test"], "application_protocols": ["sofa"]}, tls_context=MUTUAL),
    ]
    tables = [table_of(name, name) for name in ("r", "far", "alpn")]
    start(config_of([listener_of("l", port, chains)], tables)).wait_for(READY)
    assert answer(port, "open.test", "open.test") == (200, b"r")
    for host in ("inner.test", "INNER.test:443", "alpn.test"):
        assert answer(port, host, host)[0] == 0
        assert answer(port, "open.test", host)[0] == 421, host
        assert answer(port, "", host)[0] == 421, host


@pytest.mark.parametrize("inspector", [False, True])
def test_open_connections_do_not_outlive_a_new_demand(start: Start, tmp_path: Path, inspector: bool) -> None:
    (port,) = free_ports(1)

    def config(context: dict[str, Any]) -> dict[str, Any]:
        chain = chain_of("r", tls_context=context)
        return config_of([listener_of("l", port, [chain], inspector=inspector)], [table_of("r", "r")])

    proxy = start(config(SERVER))
    proxy.wait_for(READY)
    with opened(port) as secured, socket.create_connection(("127.0.0.1", port), PATIENCE) as plain:
        assert exchange(secured)[0] == 200
        if inspector:
            assert exchange(plain)[0] == 200
        (tmp_path / "conf" / "mosn.json").write_text(json.dumps(config(MUTUAL)))
        assert proxy.post("/api/v1/reload")[0] == 200
        assert exchange(secured)[0] == 421
        if inspector:
            assert exchange(plain)[0] == 421
    assert answer(port)[0] == 0
    assert plain_answer(port)[0] == 400
    assert answer(port, certificate=client()) == (200, b"r")


def test_a_session_does_not_carry_a_client_past_a_demand(start: Start) -> None:
    (port,) = free_ports(1)
    start(config_of([mutual_listener(port)], [table_of("r", "r"), table_of("own", "own")])).wait_for(READY)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = client_context()
        context.maximum_version = version
        with opened(port, "open.test", context=context) as secured:
            assert exchange(secured, "open.test")[0] == 200
            session = secured.session
        with opened(port, "open.test", context=context, session=session) as secured:
            assert exchange(secured, "open.test")[0] == 200
            assert secured.session_reused
        for name in ("closed.test", "chain.test"):
            assert answer(port, name, name, context=context, session=session)[0] == 0


class Greeter(socketserver.BaseRequestHandler):
    """A server that speaks first."""

    def handle(self) -> None:
        self.request.sendall(b"220 ready\r\n")


@pytest.fixture
def greeter() -> Iterator[int]:
    """The port of a server that speaks first."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Greeter) as listening:
        listening.daemon_threads = True
        threading.Thread(target=listening.serve_forever, args=(0.05,), daemon=True).start()
        yield listening.server_address[1]
        listening.shutdown()


def test_a_silent_client_gets_the_chain_for_plain_text(start: Start, greeter: int) -> None:
    port, strict = free_ports(2)
    chain = {"tls_context": SERVER, "filters": [{"type": "tcp_proxy", "config": {"cluster": "c"}}]}
    listeners = [
        listener_of("l", port, [chain], inspector=True, tls_handshake_timeout="1s"),
        listener_of("strict", strict, [chain], tls_handshake_timeout="1s"),
    ]
    start(config_of(listeners, [table_of("r", "r")], {"c": f"127.0.0.1:{greeter}"})).wait_for(READY)
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as silent:
        assert silent.recv(100) == b"220 ready\r\n"
    with opened(port) as secured:
        assert secured.recv(100) == b"220 ready\r\n"
    with socket.create_connection(("127.0.0.1", strict), PATIENCE) as silent:
        assert silent.recv(100) == b""


def test_a_chain_forwards_tls_without_terminating_it(start: Start) -> None:
    """The first hop chooses by server name, the second one terminates TLS: its certificate reaches the client."""
    port, behind = free_ports(2)
    passing = {"name": "pass", "match": {"server_names": ["server.test"]}}
    passing["filters"] = [{"type": "tcp_proxy", "config": {"cluster": "c"}}]
    own = issue("own", ca(), names=("own.test",))
    chains = [passing, chain_of("r", tls_context=context_for(own))]
    listeners = [listener_of("l", port, chains), listener_of("b", behind, [chain_of("behind", tls_context=SERVER)])]
    tables = [table_of("r", "r"), table_of("behind", "behind")]
    start(config_of(listeners, tables, {"c": f"127.0.0.1:{behind}"})).wait_for(READY)
    assert answer(port, "server.test") == (200, b"behind")
    assert answer(port, "own.test", "own.test") == (200, b"r")
