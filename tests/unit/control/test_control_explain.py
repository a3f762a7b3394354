"""What `explain` reports in addition to the route, which tests/golden checks: mirrors, and the text output."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import yaml

from pymosn.config.load import load_text
from pymosn.config.schema import MosnConfig, ProxyFilter
from pymosn.config.schema.cluster import TlsMatch
from pymosn.config.schema.network_filters import Http1Settings, UpstreamAlpn
from pymosn.config.schema.tls import TlsContext
from pymosn.control.explain import Question, QuestionError, explain
from pymosn.control.explain_text import as_text


def configuration(*filters: dict[str, Any], rewrite: dict[str, Any] | None = None) -> MosnConfig:
    chain = {"filters": [{"type": "proxy", "config": {"router_config_name": "r", "downstream_protocol": "Http1"}}]}
    route = {
        "match": {"prefix": "/"},
        "route": {"cluster_name": "app", "regex_rewrite": rewrite},
        "request_mirror_policies": [{"cluster": "next", "percent": 10}, {"cluster": "audit", "percent": 100}],
    }
    listener = {"name": "l", "address": "127.0.0.1:80", "filter_chains": [chain], "stream_filters": list(filters)}
    table = {"router_config_name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routers": [route]}]}
    hosts = [{"address": "10.0.0.1:80"}]
    config = {
        "servers": [{"listeners": [listener], "routers": [table]}],
        "cluster_manager": {"clusters": [{"name": name, "hosts": hosts} for name in ("app", "next", "audit")]},
    }
    loaded = load_text(yaml.safe_dump(config), "f", yaml=True)
    assert loaded.config is not None, [fault.text() for fault in loaded.faults]
    return loaded.config


def mirrors(config: MosnConfig) -> tuple[list[dict[str, Any]], list[str]]:
    answer = explain(config, Question(url="http://h/"))
    return answer["mirrors"], [line for line in as_text(answer).splitlines() if line.startswith("mirror")]


def test_mirrors_are_named() -> None:
    told, lines = mirrors(configuration())
    assert [(mirror["cluster"], mirror["percent"], mirror["copies"]) for mirror in told] == [
        ("next", 10, 1),
        ("audit", 100, 1),
    ]
    assert lines == ["mirror        cluster next, 10 % of requests", "mirror        cluster audit, 100 % of requests"]


def test_the_filter_sets_the_number_of_copies() -> None:
    told, lines = mirrors(configuration({"type": "mirror", "config": {"amplification": 3}}))
    assert [mirror["copies"] for mirror in told] == [3, 3]
    assert lines[0] == "mirror        cluster next 3 times, 10 % of requests"


def test_broadcast_replaces_the_request() -> None:
    told, lines = mirrors(configuration({"type": "mirror", "config": {"broadcast": True}}))
    assert all(mirror["instead_of_request"] for mirror in told)
    assert lines[1].startswith("mirror        every healthy host of cluster audit, and 200 in place of the reply")


def asked(
    listener: dict[str, Any], url: str, *headers: tuple[str, str], rewrite: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The report for a request to a listener with these HTTP/1 settings, whose route has this `regex_rewrite`."""
    config = configuration(rewrite=rewrite)
    proxy = config.servers[0].listeners[0].filter_chains[0].filters[0]
    assert isinstance(proxy, ProxyFilter)
    http1 = msgspec.convert(listener, Http1Settings)
    proxy.config = msgspec.structs.replace(
        proxy.config, extend_config=msgspec.structs.replace(proxy.config.extend_config, Http1=http1)
    )
    return explain(config, Question(url=url, headers=list(headers)))


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://h:x/", "its port must be a number"),
        ("http://h:65536/", "its port must be a number"),
        ("http://[/", "its host is invalid"),
        ("http://[::1/", "its host is invalid"),
        ("http:///x", "not an http URL"),
        ("ftp://h/", "not an http URL"),
        ("h/x", "not an http URL"),
        ("h:80/x", "not an http URL"),
        ("", "not an http URL"),
    ],
)
def test_what_is_no_url(url: str, text: str) -> None:
    with pytest.raises(QuestionError, match=text):
        explain(configuration(), Question(url=url))


@pytest.mark.parametrize(
    ("url", "host", "path"),
    [
        ("http://h:/x", "h", "/x"),
        ("HTTP://H:080?a=//b", "h:080", "/"),
        ("//h/x", "h", "/x"),
        ("http://[::1]:80/x#f", "[::1]:80", "/x"),
    ],
)
def test_the_parts_of_a_url(url: str, host: str, path: str) -> None:
    request = explain(configuration(), Question(url=url))["request"]
    assert (request["host"], request["path"]) == (host, path)


def test_the_listeners_own_rules_are_applied() -> None:
    """Not the strict ones: whether a path is refused, and what it becomes, is the listener's choice."""
    assert asked({}, "http://h/../a")["reply"]["reason"] == "bad_target"
    assert asked({"profile": "compatible"}, "http://h/../a")["request"]["path"] == "/a"
    assert asked({}, "http://h//a%2fb")["request"]["path"] == "/a%2Fb"
    assert asked({"merge_slashes": False}, "http://h//a")["request"]["path"] == "//a"
    assert asked({"encoded_slashes": "decode"}, "http://h/a%2fb")["request"]["path"] == "/a/b"
    assert asked({"encoded_slashes": "refuse"}, "http://h/a%2fb")["reply"]["reason"] == "bad_target"
    assert asked({"underscores_in_headers": "refuse"}, "http://h/", ("a_b", "1"))["reply"]["reason"] == "bad_request"
    assert asked({"max_header_count": 2}, "http://h/", ("a", "1"), ("b", "1"))["reply"]["reason"] == "headers_too_large"


def test_fields_of_a_trusted_proxy_are_forwarded() -> None:
    fields = (("x-forwarded-for", "1.1.1.1, 9.9.9.9"), ("x-real-ip", "9.9.9.9"))
    told = as_text(asked({}, "http://h/", *fields))
    assert "x-forwarded-for: 1.1.1.1, 9.9.9.9, 127.0.0.1" in told
    assert "x-real-ip" not in told
    told = as_text(asked({"trusted_hops": 1}, "http://h/", *fields))
    assert "x-forwarded-for: 9.9.9.9, 127.0.0.1" in told
    assert "x-real-ip: 9.9.9.9" in told


@pytest.mark.parametrize(
    ("http1", "path", "sent"),
    [
        ({}, "/a", "/site/a"),
        ({}, "/a//b", "/site/a/b"),
        ({"merge_slashes": False}, "/a//b", "/site/a//b"),
        ({"profile": "compatible"}, "/a/..;b", "/site/a/..;b"),
        ({}, "/a.../b", None),
        ({}, "/a.%2e%2e/b", None),
        ({"profile": "compatible"}, "/a.../b", None),
        ({"encoded_slashes": "decode"}, "/a%2fb", "/site/a/b"),
    ],
)
def test_rewrites_follow_the_policy_of_the_listener(http1: dict[str, Any], path: str, sent: str | None) -> None:
    answer = asked(http1, f"http://h{path}", rewrite={"pattern": {"regex": "^/(a[.])?"}, "substitution": "/site/"})
    if sent is None:
        assert (answer["reply"]["status"], answer["reply"]["reason"]) == (400, "bad_rewrite")
        assert "the rewritten path climbs" in as_text(answer)
    else:
        assert answer["upstream"]["path"] == sent


def test_a_grpc_call_is_explained_as_one() -> None:
    config = configuration()
    proxy = config.servers[0].listeners[0].filter_chains[0].filters[0]
    assert isinstance(proxy, ProxyFilter)
    proxy.config = msgspec.structs.replace(proxy.config, downstream_protocol="Http1,Http2")
    question = Question(
        method="POST", url="http://h/pkg.Echo/Say", headers=[("content-type", "application/grpc"), ("grpc-timeout", "2S")]
    )
    answer = explain(config, question)
    assert (answer["request"]["service"], answer["request"]["rpc_method"]) == ("pkg.Echo", "Say")
    assert answer["timeouts"]["request"] == 2.0
    assert "gRPC call     service pkg.Echo, method Say, deadline 2 s" in as_text(answer)
    assert answer["upstream"]["line"] == "POST /pkg.Echo/Say HTTP/2"
    config.cluster_manager.clusters.clear()
    answer = explain(config, question)
    assert (answer["reply"]["reason"], answer["reply"]["grpc_status"]) == ("cluster_unknown", 12)
    assert "gRPC status 12 cluster_unknown" in as_text(answer)
    assert "service" not in explain(config, Question(url="http://h/"))["request"]


def test_the_upstream_protocol() -> None:
    config = configuration()
    [cluster, *_] = config.cluster_manager.clusters
    assert explain(config, Question(url="http://h/"))["cluster"]["protocol"] == "Http1"
    cluster.upstream_protocol = "Http2"
    answer = explain(config, Question(url="http://h/"))
    assert answer["cluster"]["protocol"] == "Http2"
    assert "protocol      Http2" in as_text(answer).splitlines()
    cluster.upstream_protocol = ""
    cluster.tls_context = TlsContext(status=True, alpn="h2,http/1.1")
    assert "ALPN" in explain(config, Question(url="http://h/"))["cluster"]["protocol"]


def test_what_hosts_are_offered_by_the_proxy() -> None:
    config = configuration()
    cluster = config.cluster_manager.clusters[0]
    filter = config.servers[0].listeners[0].filter_chains[0].filters[0]
    assert isinstance(filter, ProxyFilter)
    filter.config.upstream_alpn = UpstreamAlpn(Http1=["istio-http/1.1", "istio"], Http2=["istio-h2"])

    def offered() -> list[str] | None:
        found: list[str] | None = explain(config, Question(url="http://h/"))["cluster"].get("alpn")
        return found

    assert offered() is None, "no TLS"
    cluster.tls_context = TlsContext(status=True)
    assert offered() == ["istio-http/1.1", "istio"]
    assert "alpn          istio-http/1.1, istio" in as_text(explain(config, Question(url="http://h/")))
    cluster.upstream_protocol = "Http2"
    assert offered() == ["istio-h2"]
    cluster.tls_context, cluster.tls_matches = None, [TlsMatch(tls_context=TlsContext(status=True))]
    assert offered() == ["istio-h2"]
    cluster.keep_alpn = True
    assert offered() is None
