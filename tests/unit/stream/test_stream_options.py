"""The options of protocols: made of settings, checked by key, and never forgotten."""

from typing import Any

import msgspec
import pytest
from tests.kit.options import proxy_options

from pymosn.api import StreamFilter
from pymosn.api.alpn import AlpnOffer
from pymosn.api.stream import ListenerFacts
from pymosn.config.schema.network_filters import Http1Settings, Http2Settings, ProtocolSettings
from pymosn.core.counters import Metrics
from pymosn.core.message import CONNECT, CONNECT_HERE
from pymosn.core.overload import OverloadState
from pymosn.core.uri import DECODE_SLASHES, STRICT_PATHS, PathPolicy
from pymosn.protocol.http.policy import REFUSE_UNDERSCORES
from pymosn.proxy.options import HttpRules, ProxyOptions
from pymosn.proxy.stream_filters import FilterHandle, StreamFilters
from pymosn.stream.http.options import HttpOptions, forwarding_options, path_policy
from pymosn.stream.http2.options import Http2Options, read_http2_options
from pymosn.stream.registry import protocols
from pymosn.stream.rpc.options import RpcOptions

RULES = HttpRules(
    forwarding=forwarding_options({**ProtocolSettings().of("Http1"), "trusted_hops": 7}),
    reason_header=True,
    stream_idle_timeout=5.0,
    tunnel_idle_timeout=6.0,
    paths=PathPolicy(merges_slashes=False),
    envoy_statuses=True,
)
FACTS = ListenerFacts(idle_timeout=7.0, overload=OverloadState())


def http1(**changes: Any) -> HttpOptions:
    made = protocol("Http1", {**ProtocolSettings().of("Http1"), **changes})
    assert isinstance(made, HttpOptions)
    return made


def protocol(name: str, settings: dict[str, object]) -> object:
    found = protocols().get(name)
    assert found is not None
    return found.options(settings, FACTS)


@pytest.mark.parametrize("name", protocols().names())
def test_the_schema_has_all_that_a_protocol_needs(name: str) -> None:
    made = protocol(name, ProtocolSettings().of(name))
    shared = made.http if isinstance(made, Http2Options) else made
    assert isinstance(shared, (HttpOptions, RpcOptions))
    assert shared.idle_timeout == 7.0


def test_values_of_http1() -> None:
    made = http1(
        max_header_size=100,
        max_header_count=7,
        max_request_body_size=9,
        header_timeout=1.5,
        body_timeout=2,
        body_min_rate=3,
        half_close_timeout=2.5,
        max_requests_per_connection=4,
        upgrades=["WebSocket"],
        profile="compatible",
        encoded_slashes="decode",
        underscores_in_headers="refuse",
        merge_slashes=False,
    )
    assert (made.limits.head, made.limits.fields, made.limits.body) == (100, 7, 9)
    assert (made.header_timeout, made.body_timeout, made.body_min_rate, made.max_requests) == (1.5, 2.0, 3.0, 4)
    assert made.half_close_timeout == 2.5
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
        ("half_close_timeout", -1.0),
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
        empty_failures=True,
        trusted_hops=5,
        paths=PathPolicy(merges_slashes=False),
        rules={"Http2": RULES},
        offers={"Http1": AlpnOffer("Http1", ("istio",))},
    )
    assert attributes(options.copy()) == attributes(options)
    assert len(attributes(options)) == 21


def test_options_for_a_protocol_differ_in_their_filters_alone() -> None:
    class Picky(StreamFilter):
        protocols = ("bolt",)

    handle = FilterHandle("picky", Picky({}), Metrics())
    options = proxy_options(filters=StreamFilters([handle]), trusted_hops=3)
    assert options.for_protocol("bolt") is options
    other = options.for_protocol("Http1")
    assert other.filters.all == []
    assert {**attributes(other), "filters": None} == {**attributes(options), "filters": None}


def test_the_rules_of_a_protocol_replace_those_of_the_listener() -> None:
    options = proxy_options(trusted_hops=3, rules={"Http2": RULES})
    assert options.for_protocol("Http1") is options
    other = options.for_protocol("Http2")
    own = {name: getattr(RULES, name) for name in ("forwarding", "reason_header", "paths", "envoy_statuses")}
    own |= {"stream_idle_timeout": 5.0, "tunnel_idle_timeout": 6.0}
    assert attributes(other) == {**attributes(options), **own}


def http2(http1: dict[str, object] | None = None, **changes: object) -> Http2Options:
    """The options of HTTP/2 on a listener with `changes` in its own block."""
    settings = ProtocolSettings(Http1=Http1Settings(**(http1 or {})), Http2=Http2Settings(**changes)).of("Http2")
    made = read_http2_options(settings, FACTS)
    assert isinstance(made, Http2Options)
    return made


def test_the_defaults_of_http2() -> None:
    made = http2()
    assert (made.max_concurrent_streams, made.stream_window, made.connection_window) == (100, 65536, 1048576)
    assert (made.max_frame_size, made.header_table_size) == (16384, 4096)
    assert (made.keepalive_interval, made.keepalive_timeout) == (0.0, 20.0)
    assert (made.max_connection_age, made.max_connection_age_grace) == (0.0, 0.0)
    assert made.http.idle_timeout == 7.0


def test_http2_has_the_rules_of_http1_unless_it_has_its_own() -> None:
    rules: dict[str, object] = {"max_header_size": 100, "trusted_hops": 2, "connect": "forward", "merge_slashes": False}
    made = http2(rules).http
    assert (made.limits.head, made.policy.trusts_peer, made.connect) == (100, True, CONNECT)
    assert not made.policy.merges_slashes
    made = http2(rules, max_header_size=200, trusted_hops=0, connect="off", merge_slashes=True).http
    assert (made.limits.head, made.policy.trusts_peer, made.connect) == (200, False, b"")
    assert made.policy.merges_slashes


def test_http2_can_set_everything_that_http1_has() -> None:
    own = {field.name for field in msgspec.structs.fields(Http2Settings)}
    assert {field.name for field in msgspec.structs.fields(Http1Settings)} <= own


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_concurrent_streams", 0),
        ("initial_stream_window_size", 2**31),
        ("initial_connection_window_size", 65534),
        ("max_frame_size", 16383),
        ("max_frame_size", 2**24),
        ("header_table_size", -1),
        ("keepalive_interval", "1s"),
    ],
)
def test_an_invalid_setting_of_http2_is_named(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{key} must be "):
        read_http2_options({**ProtocolSettings().of("Http2"), key: value}, FACTS)


def test_a_forgotten_option_fails() -> None:
    with pytest.raises(TypeError, match="forwarding"):
        ProxyOptions(**{key: value for key, value in attributes(proxy_options()).items() if key != "forwarding"})
