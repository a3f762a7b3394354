"""The options of protocols: made of settings, checked by key, and never forgotten."""

from typing import Any

import pytest
from tests.kit.options import proxy_options

from pymosn.api import StreamFilter
from pymosn.api.stream import ListenerFacts
from pymosn.config.schema.network_filters import ProtocolSettings
from pymosn.core.counters import Metrics
from pymosn.core.message import CONNECT, CONNECT_HERE
from pymosn.core.overload import OverloadState
from pymosn.core.uri import DECODE_SLASHES, STRICT_PATHS, PathPolicy
from pymosn.protocol.http.policy import REFUSE_UNDERSCORES
from pymosn.proxy.options import ProxyOptions
from pymosn.proxy.stream_filters import FilterHandle, StreamFilters
from pymosn.stream.http.options import path_policy
from pymosn.stream.http1.options import Http1Options
from pymosn.stream.registry import protocols
from pymosn.stream.rpc.options import RpcOptions

FACTS = ListenerFacts(idle_timeout=7.0, overload=OverloadState())


def http1(**changes: Any) -> Http1Options:
    made = protocol("Http1", {**ProtocolSettings().of("Http1"), **changes})
    assert isinstance(made, Http1Options)
    return made


def protocol(name: str, settings: dict[str, object]) -> object:
    found = protocols().get(name)
    assert found is not None
    return found.options(settings, FACTS)


@pytest.mark.parametrize("name", protocols().names())
def test_the_schema_has_all_that_a_protocol_needs(name: str) -> None:
    made = protocol(name, ProtocolSettings().of(name))
    assert isinstance(made, (Http1Options, RpcOptions))
    assert made.idle_timeout == 7.0


def test_values_of_http1() -> None:
    made = http1(
        max_header_size=100,
        max_header_count=7,
        max_request_body_size=9,
        header_timeout=1.5,
        body_timeout=2,
        body_min_rate=3,
        max_requests_per_connection=4,
        upgrades=["WebSocket"],
        profile="compatible",
        encoded_slashes="decode",
        underscores_in_headers="refuse",
        merge_slashes=False,
    )
    assert (made.limits.head, made.limits.fields, made.limits.body) == (100, 7, 9)
    assert (made.header_timeout, made.body_timeout, made.body_min_rate, made.max_requests) == (1.5, 2.0, 3.0, 4)
    assert made.upgrades == frozenset((b"websocket",))
    assert (made.policy.is_strict, made.policy.merges_slashes) == (False, False)
    assert (made.policy.slashes, made.policy.underscores) == (DECODE_SLASHES, REFUSE_UNDERSCORES)
    assert made.overload is FACTS.overload


def test_the_policy_for_paths() -> None:
    default = ProtocolSettings().of("Http1")
    assert path_policy(default) is STRICT_PATHS
    assert path_policy({**default, "underscores_in_headers": "refuse", "trust_forwarded": True}) is STRICT_PATHS
    for key, value in (("profile", "compatible"), ("merge_slashes", False), ("encoded_slashes", "decode")):
        made = path_policy({**default, key: value})
        assert made is not STRICT_PATHS
        policy = http1(**{key: value}).policy
        assert [made.is_strict, made.merges_slashes, made.slashes] == [
            policy.is_strict,
            policy.merges_slashes,
            policy.slashes,
        ]


@pytest.mark.parametrize(
    ("mode", "tunnel"),
    [("off", b""), ("terminate", CONNECT_HERE), ("forward", CONNECT)],
    ids=["off", "terminate", "forward"],
)
def test_connect(mode: str, tunnel: bytes) -> None:
    assert http1(connect=mode).connect == tunnel


@pytest.mark.parametrize(("key", "value"), [("trust_forwarded", True), ("trusted_hops", 2)])
def test_trust(key: str, value: object) -> None:
    assert not http1().policy.trusts_peer
    assert http1(**{key: value}).policy.trusts_peer


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_header_size", 0),
        ("max_header_count", "many"),
        ("body_min_rate", -1),
        ("header_timeout", "1s"),
        ("body_timeout", True),
        ("merge_slashes", 1),
        ("encoded_slashes", "eat"),
        ("upgrades", "websocket"),
        ("upgrades", [1]),
        ("connect", "on"),
        ("profile", None),
    ],
)
def test_an_invalid_setting_is_named(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{key} must be "):
        http1(**{key: value})


def test_a_missing_setting_is_named() -> None:
    settings = ProtocolSettings().of("Http1")
    del settings["body_timeout"]
    with pytest.raises(ValueError, match="body_timeout is missing"):
        protocol("Http1", settings)


def attributes(options: ProxyOptions) -> dict[str, object]:
    return {name: getattr(options, name) for name in dir(options) if name[0] != "_" and not callable(getattr(options, name))}


def test_a_copy_of_the_options_has_everything() -> None:
    options = proxy_options(
        x_forwarded=True,
        x_request_id=True,
        reason_header=True,
        stream_idle_timeout=1.0,
        tunnel_idle_timeout=2.0,
        idle_timeout=3.0,
        detection_timeout=4.0,
        trusts_peer=True,
        trusted_hops=5,
        paths=PathPolicy(merges_slashes=False),
    )
    assert attributes(options.copy()) == attributes(options)
    assert len(attributes(options)) == 15


def test_options_for_a_protocol_differ_in_their_filters_alone() -> None:
    class Picky(StreamFilter):
        protocols = ("bolt",)

    handle = FilterHandle("picky", Picky({}), Metrics())
    options = proxy_options(filters=StreamFilters([handle]), trusted_hops=3)
    assert options.for_protocol("bolt") is options
    other = options.for_protocol("Http1")
    assert other.filters.all == []
    assert {**attributes(other), "filters": None} == {**attributes(options), "filters": None}


def test_a_forgotten_option_fails() -> None:
    with pytest.raises(TypeError, match="forwarding"):
        ProxyOptions(**{key: value for key, value in attributes(proxy_options()).items() if key != "forwarding"})
