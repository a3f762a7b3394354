"""The check of filter chains: conditions, names, and chains that match the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.kit.certificates import ca, server

from pymosn.config.chains import network
from pymosn.config.load import load_text

TLS = {"status": True, "cert_chain": server().certificate.decode(), "private_key": server().key.decode()}


def chain(match: Any = None, *, name: str = "", tls: bool = True, tcp: bool = False) -> dict[str, Any]:
    proxy = {"type": "proxy", "config": {"downstream_protocol": "Http1", "router_config_name": "r"}}
    bytes_only = {"type": "tcp_proxy", "config": {"cluster": "c"}}
    made: dict[str, Any] = {"filters": [bytes_only if tcp else proxy]}
    if match is not None:
        made["match"] = match
    if name:
        made["name"] = name
    return made | {"tls_context": TLS} if tls else made


def faults(*chains: dict[str, Any], **listener: Any) -> list[str]:
    """Severity, path below the listener, and message of each fault."""
    made = {"name": "l", "address": "127.0.0.1:8443", "bind_port": True, "filter_chains": list(chains), **listener}
    host = {"name": "v", "domains": ["*"], "routers": [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}]}
    config = {
        "servers": [{"listeners": [made], "routers": [{"router_config_name": "r", "virtual_hosts": [host]}]}],
        "cluster_manager": {"clusters": [{"name": "c", "hosts": [{"address": "127.0.0.1:1"}]}]},
    }
    loaded = load_text(json.dumps(config), "f")
    start = "servers[0].listeners[0]."
    return [f"{fault.severity} {fault.path.removeprefix(start)}: {fault.message}" for fault in loaded.faults]


def test_valid_chains() -> None:
    several = [
        chain({"server_names": ["a.test", "*.b.test"], "application_protocols": ["h2"], "destination_port": 8443}),
        chain({"source_prefixes": ["10.0.0.0/8", "::1", "10.1.2.3/16"]}),
        chain({"transport_protocol": "raw_buffer"}, tls=False),
        chain({"server_names": ["pass.test"]}, tls=False, tcp=True),
        chain({}),
    ]
    assert faults(*several) == []


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ({"server_names": ["*"]}, "error filter_chains[0].match.server_names[0]: not a server name"),
        ({"server_names": [""]}, "error filter_chains[0].match.server_names[0]: not a server name"),
        ({"server_names": ["a.*.test"]}, "error filter_chains[0].match.server_names[0]: not a server name"),
        ({"source_prefixes": ["10.0.0.0/33"]}, "error filter_chains[0].match.source_prefixes[0]: not a network"),
        ({"application_protocols": [""]}, "error filter_chains[0].match.application_protocols[0]: must not be empty"),
        ({"destination_port": 80}, "warning filter_chains[0].match.destination_port: never matches"),
        ({"transport_protocol": "raw_buffer"}, "error filter_chains[0].match.transport_protocol: a chain with TLS"),
        ("anything", "warning filter_chains[0].match: a text has no effect, as in MOSN"),
    ],
)
def test_conditions(match: Any, expected: str) -> None:
    found = faults(chain(match))
    assert len(found) == 1
    assert found[0].startswith(expected)


def test_conditions_that_never_match() -> None:
    plain = {"transport_protocol": "raw_buffer", "server_names": ["a.test"]}
    assert any("plain text has neither server names nor ALPN" in fault for fault in faults(chain(plain, tls=False)))
    found = faults(chain({"source_prefixes": ["10.0.0.0/8"]}), network="unix", address="/tmp/x.sock")
    assert any("ends of a unix socket have neither" in fault for fault in found)
    assert any("cannot read" in fault for fault in faults(chain({"server_names": ["a.test"]}, tls=False)))
    assert faults(chain({"destination_port": 80}), use_original_dst="redirect") == []


def test_a_header_of_the_proxy_protocol_may_have_any_port_and_source() -> None:
    match = {"destination_port": 80, "source_prefixes": ["10.0.0.0/8"]}
    assert faults(chain(match), proxy_protocol={"trusted_prefixes": ["10.0.0.0/8"]}) == []
    assert faults(chain(match), network="unix", address="/tmp/x.sock", proxy_protocol={}) == []


@pytest.mark.parametrize(
    ("first", "second", "what"),
    [
        ({}, {}, "both have no conditions"),
        ("", {}, "both have no conditions"),
        ({"server_names": ["a.test", "b.test"]}, {"server_names": ["B.test."]}, "server name b.test"),
        ({"source_prefixes": ["10.1.0.0/8"]}, {"source_prefixes": ["10.0.0.0/8"]}, "source 10.0.0.0/8"),
        ({"application_protocols": ["h2", "x"]}, {"application_protocols": ["x"]}, "protocol x"),
        ({"destination_port": 8443}, {"destination_port": 8443}, "port 8443"),
    ],
)
def test_chains_that_match_the_same(first: Any, second: Any, what: str) -> None:
    found = faults(chain(first, name="one"), chain(second))
    assert len(found) == 1
    assert found[0].startswith("error filter_chains[1]: filter_chains[1] matches the same connections as one in line ")
    assert found[0].endswith(what)


def test_names() -> None:
    found = faults(chain({}, name="x"), chain({"server_names": ["a.test"]}, name="x"))
    assert len(found) == 1
    assert "error filter_chains[1].name: duplicate name" in found[0]


def test_an_inspector_where_certificates_are_required() -> None:
    demands = {"ca_cert": ca().certificate.decode(), "verify_client": True, "require_client_cert": True}
    demanding = chain() | {"tls_context": TLS | demands}
    assert any("plain text is refused" in fault for fault in faults(demanding, inspector=True))
    assert faults(demanding) == []


def test_an_inspector_without_tls() -> None:
    assert any("no filter chain has TLS" in fault for fault in faults(chain(tls=False), inspector=True))
    assert faults(chain(), inspector=True) == []


def test_mapped_networks_match_ipv4_addresses_and_their_ipv4_form() -> None:
    chains = (chain({"source_prefixes": ["::ffff:10.0.0.0/104"]}, name="one"), chain({"source_prefixes": ["10.0.0.0/8"]}))
    assert faults(*chains)[0].endswith("source 10.0.0.0/8")
    assert [str(network(text)) for text in ("::ffff:10.0.0.7/104", "::ffff:10.0.0.7", "::/0")] == [
        "10.0.0.0/8",
        "10.0.0.7/32",
        "::/0",
    ]
