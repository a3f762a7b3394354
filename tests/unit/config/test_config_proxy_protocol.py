"""The PROXY protocol in a configuration: what is checked, and what is built of it."""

from __future__ import annotations

from typing import Any

import pytest
from test_config_tcp import TCP, loaded

from pymosn.assembly.proxy_protocol import proxy_protocol_steps
from pymosn.network.proxy_protocol import ProxyProtocol

PATH = "servers[0].listeners[0].proxy_protocol"


def faults(block: dict[str, Any], **listener: Any) -> list[tuple[str, str, str]]:
    return loaded([TCP], proxy_protocol=block, **listener)[1]


def test_a_listener_without_trusted_networks_is_refused() -> None:
    problem = "must name the networks of the load balancers: anybody else could claim any address"
    assert faults({}) == [("error", f"{PATH}.trusted_prefixes", problem)]
    assert faults({"trusted_prefixes": []}) == [("error", f"{PATH}.trusted_prefixes", problem)]


@pytest.mark.parametrize("prefix", ["10.0.0.0/33", "10.0.0/8", "", "any", "10.0.0.0/8 ", "::/129"])
def test_invalid_networks_are_named(prefix: str) -> None:
    [(severity, path, text)] = faults({"trusted_prefixes": ["10.0.0.0/8", prefix]})
    assert (severity, path) == ("error", f"{PATH}.trusted_prefixes[1]")
    assert repr(prefix) in text or prefix in text


def test_networks_of_a_unix_listener_have_no_effect() -> None:
    block = {"trusted_prefixes": ["10.0.0.0/8"]}
    [(severity, path, text)] = faults(block, network="unix", address="/tmp/pymosn-proxy-protocol.sock")
    assert (severity, path) == ("warning", f"{PATH}.trusted_prefixes")
    assert "peers on a unix socket have no address, and all are trusted" in text
    assert faults({}, network="unix", address="/tmp/pymosn-proxy-protocol.sock") == []


def test_what_is_built() -> None:
    config, found = loaded([TCP], proxy_protocol={"trusted_prefixes": ["10.0.0.1/8", "::1"], "timeout": "2s"})
    assert (config is not None, found) == (True, [])
    assert config is not None
    [step] = proxy_protocol_steps(config.servers[0].listeners[0])
    assert isinstance(step, ProxyProtocol)
    plain, _ = loaded([TCP])
    assert plain is not None
    assert proxy_protocol_steps(plain.servers[0].listeners[0]) == []
