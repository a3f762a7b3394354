"""`extend_config.Http2`, and what a listener offers by ALPN."""

import json
from typing import Any

import pytest

from pymosn.config.alpn import alpn_offer
from pymosn.config.load import load_text
from pymosn.config.schema import FilterChain, ProxyConfig


def loaded(spoken: str, extend: dict[str, Any], **more: Any) -> tuple[FilterChain, list[str]]:
    """The chain of a listener, and its faults about HTTP/2."""
    proxy = {"downstream_protocol": spoken, "router_config_name": "r", "extend_config": extend, **more}
    chains = [{"filters": [{"type": "proxy", "config": proxy}]}]
    listener = {"address": "127.0.0.1:1", "bind_port": True, "filter_chains": chains}
    table = {"router_config_name": "r", "virtual_hosts": []}
    result = load_text(json.dumps({"servers": [{"listeners": [listener], "routers": [table]}]}), "c.json")
    faults = [
        f"{fault.severity} {fault.path.rpartition('.config.')[2]}" for fault in result.faults if "config." in fault.path
    ]
    assert result.config is not None
    return result.config.servers[0].listeners[0].filter_chains[0], faults


def proxy_of(chain: FilterChain) -> ProxyConfig:
    found = chain.acting_filters().proxy
    assert found is not None
    return found


@pytest.mark.parametrize("extend", [{"max_header_size": 9, "http2_use_stream": True}, {"Http2": {"max_header_size": 9}}])
def test_the_block_is_keyed_or_flat(extend: dict[str, Any]) -> None:
    chain, faults = loaded("Http2", extend)
    settings = proxy_of(chain).extend_config
    assert (settings.Http2.max_header_size, settings.Http1.max_header_size) == (9, 8192)
    assert settings.of("Http2")["max_header_size"] == 9
    assert faults == []


@pytest.mark.parametrize("spoken", ["Auto", "Http1,Http2", "Http2"])
def test_the_old_flat_key_is_accepted(spoken: str) -> None:
    assert loaded(spoken, {"http2_use_stream": False})[1] == []
    assert loaded(spoken, {"http2_use_stream": True})[1] == []


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
    ],
)
def test_checks(spoken: str, extend: dict[str, Any], faults: list[str]) -> None:
    assert loaded(spoken, extend)[1] == faults


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
    ],
)
def test_what_is_negotiated(spoken: str, configured: str, negotiated: tuple[str, ...]) -> None:
    assert alpn_offer(loaded(spoken, {})[0]).of(configured) == negotiated


def test_a_chain_that_passes_bytes_on_negotiates_what_is_configured() -> None:
    offer = alpn_offer(FilterChain())
    assert (offer.of(""), offer.of("h2,http/1.1")) == ((), ("h2", "http/1.1"))
