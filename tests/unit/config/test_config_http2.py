"""`extend_config.Http2`, and what a listener offers by ALPN."""

import json
from typing import Any

import pytest

from pymosn.config.alpn import alpn_offer
from pymosn.config.load import Loaded, load_text
from pymosn.config.schema import FilterChain, ProxyConfig


def loaded(spoken: str, extend: dict[str, Any]) -> Loaded:
    """A listener with these settings."""
    proxy = {"downstream_protocol": spoken, "router_config_name": "r", "extend_config": extend}
    chains = [{"filters": [{"type": "proxy", "config": proxy}]}]
    listener = {"address": "127.0.0.1:1", "bind_port": True, "filter_chains": chains}
    table = {"router_config_name": "r", "virtual_hosts": []}
    return load_text(json.dumps({"servers": [{"listeners": [listener], "routers": [table]}]}), "c.json")


def faults_of(spoken: str, extend: dict[str, Any]) -> list[str]:
    """Those in the settings of the proxy."""
    faults = [fault for fault in loaded(spoken, extend).faults if ".config." in fault.path]
    return [f"{fault.severity} {fault.path.rpartition('.config.')[2]}" for fault in faults]


def chain_of(spoken: str, extend: dict[str, Any]) -> FilterChain:
    config = loaded(spoken, extend).config
    assert config is not None
    return config.servers[0].listeners[0].filter_chains[0]


def proxy_of(chain: FilterChain) -> ProxyConfig:
    found = chain.acting_filters().proxy
    assert found is not None
    return found


@pytest.mark.parametrize("extend", [{"max_header_size": 9, "http2_use_stream": True}, {"Http2": {"max_header_size": 9}}])
def test_the_block_is_keyed_or_flat(extend: dict[str, Any]) -> None:
    settings = proxy_of(chain_of("Http2", extend)).extend_config
    assert (settings.Http2.max_header_size, settings.Http1.max_header_size) == (9, 8192)
    assert settings.of("Http2")["max_header_size"] == 9
    assert faults_of("Http2", extend) == []


@pytest.mark.parametrize("spoken", ["Auto", "Http1,Http2", "Http2"])
def test_the_old_flat_key_is_accepted(spoken: str) -> None:
    assert faults_of(spoken, {"http2_use_stream": False}) == []
    assert faults_of(spoken, {"http2_use_stream": True}) == []


@pytest.mark.parametrize(
    ("spoken", "extend", "faults"),
    [
        ("Auto", {"Http2": {"max_concurrent_streams": 5}}, []),
        ("Http1", {"Http2": {"max_concurrent_streams": 5}}, ["warning extend_config.Http2"]),
        ("Http2", {"max_frame_size": 20}, ["error extend_config.Http2.max_frame_size"]),
        ("Http2", {"initial_stream_window_size": 2**31}, ["error extend_config.Http2.initial_stream_window_size"]),
        ("Http2", {"header_table_size": 2**21}, ["error extend_config.Http2.header_table_size"]),
        ("Http2", {"connect": "on"}, ["error extend_config.Http2.connect"]),
        ("Http2", {"upgrades": ["h2c"]}, ["error extend_config.Http2.upgrades[0]"]),
        ("Http2", {"max_connection_age_grace": "1s"}, ["warning extend_config.Http2.max_connection_age_grace"]),
        ("Http2", {"max_connection_age_grace": "1s", "max_connection_age": "5m"}, []),
        ("Http2", {"keepalive_timeout": "1s"}, ["warning extend_config.Http2.keepalive_timeout"]),
        ("Http2", {"keepalive_timeout": "1s", "keepalive_interval": "5m"}, []),
    ],
)
def test_checks(spoken: str, extend: dict[str, Any], faults: list[str]) -> None:
    assert faults_of(spoken, extend) == faults


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gRPC", 'unknown protocol; gRPC needs Http2 (value "gRPC")'),
        ("h2c", 'unknown protocol; the name of HTTP/2 is Http2 (value "h2c")'),
        ("http2", 'unknown protocol (value "http2"); did you mean "Http2"?'),
    ],
)
def test_other_names_of_a_protocol(name: str, message: str) -> None:
    assert any(message in fault.text() for fault in loaded(name, {}).faults)


@pytest.mark.parametrize("spoken", ["Http1,Http2", "Auto"])
def test_a_flat_key_with_several_protocols_is_reported_with_its_place(spoken: str) -> None:
    faults = loaded(spoken, {"max_concurrent_streams": 5, "max_header_size": 9, "max_hea": 1}).faults
    assert [fault.message for fault in faults if ".config." in fault.path] == [
        "unknown key, ignored: with several protocols it must be in the object of one, Http2",
        "unknown key, ignored: with several protocols it must be in the object of one, Http1 or Http2",
        "unknown key, ignored",
    ]


@pytest.mark.parametrize(
    ("upstream", "alpn", "offered"),
    [
        ("Http1", "h2", "http/1.1"),
        ("Http2", "http/1.1", "h2"),
        ("Http2", "h2,http/1.1", ""),
        ("", "h2", ""),
        ("Http2", "", ""),
    ],
)
def test_alpn_of_a_cluster_that_its_protocol_overrides(upstream: str, alpn: str, offered: str) -> None:
    context = {"status": True, "insecure_skip": True, "alpn": alpn}
    cluster = {"name": "c", "upstream_protocol": upstream, "tls_context": context, "hosts": [{"address": "127.0.0.1:1"}]}
    faults = load_text(json.dumps({"cluster_manager": {"clusters": [cluster]}}), "c.json").faults
    found = [fault.message for fault in faults if fault.path.endswith(".alpn")]
    expected = f"has no effect with upstream_protocol {upstream}: {offered} is offered to the hosts"
    assert found == ([expected] if offered else [])


@pytest.mark.parametrize(
    ("spoken", "configured", "negotiated"),
    [
        ("Http1", "", ()),
        ("Http2", "", ("h2",)),
        ("Http1,Http2", "", ("h2", "http/1.1")),
        ("Auto", "", ("h2", "http/1.1")),
        ("bolt", "", ()),
        ("Http1", "h2,http/1.1", ("http/1.1",)),
        ("Http1", "h2", ()),
        ("Http2,Http1", "http/1.1, H2", ("http/1.1", "h2")),
        ("bolt", "sofa,http/1.1", ("sofa",)),
        ("Auto", "sofa,spdy", ("sofa",)),
        (
            "Http1,Http2",
            "istio-h2,istio-http/1.1,istio-http/1.0,istio",
            ("istio-h2", "istio-http/1.1", "istio-http/1.0", "istio"),
        ),
        ("Http1", "istio-h2,istio-http/1.0,istio", ("istio-http/1.0", "istio")),
        ("Http2", "istio-peer-exchange,h2", ("h2",)),
    ],
)
def test_what_is_negotiated(spoken: str, configured: str, negotiated: tuple[str, ...]) -> None:
    assert alpn_offer(chain_of(spoken, {})).of(configured) == negotiated


def test_a_chain_that_passes_bytes_on_negotiates_what_is_configured() -> None:
    offer = alpn_offer(FilterChain())
    assert (offer.of(""), offer.of("h2,http/1.1")) == ((), ("h2", "http/1.1"))
