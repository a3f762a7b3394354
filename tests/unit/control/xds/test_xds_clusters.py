"""`Cluster`: types, balancing, limits, health, TLS, protocols; what is not supported is rejected by its path."""

from typing import Any

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.extensions.clusters.dns.v3 import dns_cluster_pb2  # noqa: F401 - known to the JSON parser
from envoy.extensions.load_balancing_policies.least_request.v3 import least_request_pb2  # noqa: F401
from envoy.extensions.load_balancing_policies.maglev.v3 import maglev_pb2  # noqa: F401
from envoy.extensions.load_balancing_policies.random.v3 import random_pb2  # noqa: F401
from envoy.extensions.load_balancing_policies.ring_hash.v3 import ring_hash_pb2  # noqa: F401
from envoy.extensions.load_balancing_policies.round_robin.v3 import round_robin_pb2  # noqa: F401
from envoy.extensions.load_balancing_policies.subset.v3 import subset_pb2  # noqa: F401
from envoy.extensions.load_balancing_policies.wrr_locality.v3 import wrr_locality_pb2  # noqa: F401
from envoy.extensions.network.dns_resolver.cares.v3 import cares_dns_resolver_pb2  # noqa: F401
from envoy.extensions.transport_sockets.raw_buffer.v3 import raw_buffer_pb2  # noqa: F401
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2  # noqa: F401
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2  # noqa: F401
from google.protobuf import json_format
from udpa.type.v1 import typed_struct_pb2  # noqa: F401

from pymosn.config.check.clusters import check_clusters
from pymosn.config.diagnostics import Diagnostics
from pymosn.config.schema import Cluster
from pymosn.config.schema.cluster import CircuitBreaker, ClusterManager, DnsResolvers, SlowStart
from pymosn.control.xds.convert.clusters import ConvertedCluster, EdsSource, convert_cluster
from pymosn.control.xds.convert.endpoints import convert_endpoints
from pymosn.control.xds.convert.sources import Source
from pymosn.control.xds.convert.view import Report, View

TYPES = "type.googleapis.com/"
POLICY = TYPES + "envoy.extensions.load_balancing_policies."
TLS = TYPES + "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
RAW = TYPES + "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"
OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
EDS = {"type": "EDS", "eds_cluster_config": {"eds_config": {"ads": {}}}}


def convert(**keys: Any) -> tuple[ConvertedCluster, Report]:
    report = Report()
    message = json_format.ParseDict({"name": "c", **({"type": "STATIC"} | keys)}, cluster_pb2.Cluster())
    before = message.SerializeToString(deterministic=True)
    found = convert_cluster(View(message, "", report))
    assert message.SerializeToString(deterministic=True) == before, "the message has been changed"
    return found, report


def good(**keys: Any) -> Cluster:
    """The cluster, which is accepted by our own checks, too."""
    found, report = convert(**keys)
    assert not report.faults, report.text()
    report_of_ours = Diagnostics()
    check_clusters(ClusterManager(clusters=[found.cluster]), report_of_ours, redirects=True)
    errors = [one for one in report_of_ours.items if one.severity == "error"]
    assert not errors, errors
    return found.cluster


def paths(**keys: Any) -> list[str]:
    return [fault.path for fault in convert(**keys)[1].faults]


def warned(**keys: Any) -> list[str]:
    _, report = convert(**keys)
    assert not report.faults, report.text()
    return [warning.path for warning in report.warnings]


def endpoints(*addresses: str) -> dict[str, Any]:
    hosts = [{"endpoint": {"address": {"socket_address": {"address": name, "port_value": 80}}}} for name in addresses]
    return {"cluster_name": "c", "endpoints": [{"lb_endpoints": hosts}]}


# ---- defaults and types


def test_defaults_are_envoys() -> None:
    made = good()
    assert made.connect_timeout == 5.0
    assert made.panic_threshold == 50
    assert made.upstream_protocol == "Http1"
    assert made.idle_timeout == 3600.0
    assert made.lb_type == "LB_WEIGHTED_ROUNDROBIN"
    (limits,) = made.circuit_breakers
    assert (limits.max_connections, limits.max_pending_requests, limits.max_requests, limits.max_retries) == (
        1024,
        1024,
        1024,
        3,
    )
    assert made.outlier_detection is None
    assert made.health_check is None


def test_static_hosts() -> None:
    made = good(load_assignment=endpoints("10.0.0.1", "::1"))
    assert (made.type, [host.address for host in made.hosts]) == ("STATIC", ["10.0.0.1:80", "[::1]:80"])
    (path,) = paths(load_assignment=endpoints("a.test"))
    assert path == "load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address"


def test_eds() -> None:
    found, report = convert(**EDS)
    assert not report.faults
    assert found.eds == EdsSource("c", Source("ads"))
    source = {
        "api_type": "DELTA_GRPC",
        "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "x"}}],
    }
    block = {"service_name": "s", "eds_config": {"api_config_source": source, "initial_fetch_timeout": "0s"}}
    found, report = convert(type="EDS", eds_cluster_config=block)
    assert not report.faults
    assert found.eds == EdsSource("s", Source("grpc", "x", is_delta=True, fetch_timeout=0.0))
    assert found.cluster.hosts == []


@pytest.mark.parametrize(
    ("keys", "path"),
    [
        ({"type": "EDS"}, "eds_cluster_config"),
        ({"type": "EDS", "eds_cluster_config": {"eds_config": {}}}, "eds_cluster_config.eds_config"),
        ({"type": "STATIC", "eds_cluster_config": {"eds_config": {"ads": {}}}}, "eds_cluster_config"),
        (
            {"type": "EDS", "eds_cluster_config": {"eds_config": {"api_config_source": {"api_type": "REST"}}}},
            "eds_cluster_config.eds_config.api_config_source.api_type",
        ),
        ({**EDS, "load_assignment": endpoints("10.0.0.1")}, "load_assignment"),
        ({"type": None, "cluster_type": {"name": "envoy.clusters.aggregate"}}, "cluster_type"),
        ({"lb_policy": "CLUSTER_PROVIDED"}, "lb_policy"),
        ({"lb_policy": "LOAD_BALANCING_POLICY_CONFIG"}, "lb_policy"),
        ({"name": ""}, "name"),
        ({"connect_timeout": "0s"}, "connect_timeout"),
        ({"filters": [{"name": "own"}]}, "filters[0]"),
        ({"connection_pool_per_downstream_connection": True}, "connection_pool_per_downstream_connection"),
        ({"upstream_config": {"name": "x"}}, "upstream_config"),
        ({"transport_socket": {"name": "x", "typed_config": {"@type": TYPES + OPTIONS}}}, "transport_socket.typed_config"),
        ({"transport_socket": {"name": "envoy.transport_sockets.tls"}}, "transport_socket.typed_config"),
        ({"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 1024}}, "maglev_lb_config.table_size"),
        (
            {"lb_policy": "LEAST_REQUEST", "least_request_lb_config": {"choice_count": 1}},
            "least_request_lb_config.choice_count",
        ),
        ({"load_balancing_policy": {"policies": []}}, "load_balancing_policy.policies"),
        ({"outlier_detection": {"max_ejection_percent": 101}}, "outlier_detection.max_ejection_percent"),
        (
            {"lb_subset_config": {"subset_selectors": [{"keys": ["a"], "fallback_policy": "ANY_ENDPOINT"}]}},
            "lb_subset_config.subset_selectors[0].fallback_policy",
        ),
        (
            {"upstream_bind_config": {"source_address": {"address": "::", "port_value": 7}}},
            "upstream_bind_config.source_address.port_value",
        ),
        ({"circuit_breakers": {"thresholds": [{"priority": 7}]}}, "circuit_breakers.thresholds[0].priority"),
        ({"health_checks": [{"timeout": "1s", "interval": "1s"}]}, "health_checks[0]"),
    ],
)
def test_what_is_not_supported_is_rejected_by_its_path(keys: dict[str, Any], path: str) -> None:
    assert path in paths(**keys)


def test_dns() -> None:
    resolver = {
        "@type": TYPES + "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
        "resolvers": [{"socket_address": {"address": "10.0.0.53", "port_value": 5353}}],
        "query_tries": 3,
        "udp_max_queries": 100,
    }
    keys = {
        "load_assignment": endpoints("a.test"),
        "dns_refresh_rate": "60s",
        "respect_dns_ttl": True,
        "dns_lookup_family": "V4_ONLY",
        "typed_dns_resolver_config": {"name": "x", "typed_config": resolver},
    }
    made = good(type="STRICT_DNS", **keys)
    assert made.hosts[0].address == "a.test:80"
    assert (made.dns_refresh_rate, made.respect_dns_ttl, made.dns_lookup_family) == (60.0, True, "V4_ONLY")
    assert made.dns_resolvers == DnsResolvers(servers=["10.0.0.53"], port="5353", attempts=3)
    assert good(type="LOGICAL_DNS", **keys).type == "LOGICAL_DNS"
    assert paths(type="LOGICAL_DNS", load_assignment=endpoints("a.test", "b.test")) == ["load_assignment"]
    assert warned(type="STRICT_DNS", dns_lookup_family="ALL", load_assignment=endpoints("a.test")) == ["dns_lookup_family"]


def test_dns_as_an_extension() -> None:
    inner = {"@type": TYPES + "envoy.extensions.clusters.dns.v3.DnsCluster", "all_addresses_in_single_endpoint": True}
    keys = {
        "name": "envoy.clusters.dns",
        "typed_config": {**inner, "dns_refresh_rate": "7s", "dns_lookup_family": "V4_ONLY"},
    }
    message = json_format.ParseDict(
        {"name": "c", "cluster_type": keys, "load_assignment": endpoints("a.test")}, cluster_pb2.Cluster()
    )
    report = Report()
    made = convert_cluster(View(message, "", report)).cluster
    assert not report.faults, report.text()
    assert (made.type, made.dns_refresh_rate, made.hosts[0].address) == ("LOGICAL_DNS", 7.0, "a.test:80")


def test_original_destination() -> None:
    bind = {"source_address": {"address": "127.0.0.6", "port_value": 0}}
    made = good(type="ORIGINAL_DST", lb_policy="CLUSTER_PROVIDED", upstream_bind_config=bind, cleanup_interval="60s")
    assert (made.type, made.lb_type, made.bind_address) == ("ORIGINAL_DST", "LB_ORIGINAL_DST", "127.0.0.6")
    made = good(type="ORIGINAL_DST", lb_policy="CLUSTER_PROVIDED", original_dst_lb_config={"use_http_header": True})
    assert made.original_dst_lb_config is not None
    assert made.original_dst_lb_config.header_name == "x-envoy-original-dst-host"


# ---- balancing


@pytest.mark.parametrize(
    ("policy", "lb_type"),
    [
        ("ROUND_ROBIN", "LB_WEIGHTED_ROUNDROBIN"),
        ("LEAST_REQUEST", "LB_LEAST_REQUEST"),
        ("RANDOM", "LB_RANDOM"),
        ("RING_HASH", "LB_RING_HASH"),
        ("MAGLEV", "LB_MAGLEV"),
    ],
)
def test_policies(policy: str, lb_type: str) -> None:
    assert good(lb_policy=policy).lb_type == lb_type


def test_settings_of_policies() -> None:
    slow = {
        "slow_start_window": "30s",
        "aggression": {"default_value": 2.0, "runtime_key": "("},
        "min_weight_percent": {"value": 20},
    }
    made = good(lb_policy="LEAST_REQUEST", least_request_lb_config={"slow_start_config": slow})
    assert made.slow_start == SlowStart(mode="duration", slow_start_duration=30.0, aggression=2.0, min_weight_percent=0.2)
    assert made.lbconfig is not None
    assert made.lbconfig.choice_count == 2
    made = good(lb_policy="RING_HASH", ring_hash_lb_config={"minimum_ring_size": 512})
    assert made.lbconfig is not None
    assert (made.lbconfig.minimum_ring_size, made.lbconfig.maximum_ring_size) == (512, 8388608)
    made = good(lb_policy="MAGLEV", maglev_lb_config={"table_size": 1021})
    assert made.lbconfig is not None
    assert made.lbconfig.table_size == 1021
    assert good(lb_policy="RING_HASH").lbconfig is not None


def test_balancers_that_hash_follow_envoy() -> None:
    def functions(**fields: Any) -> tuple[str, bool]:
        numbers = good(**fields).lbconfig
        assert numbers is not None
        return numbers.hash_function, numbers.hashes_hostnames

    assert functions(lb_policy="RING_HASH") == ("XX_HASH", False)
    assert functions(lb_policy="MAGLEV") == ("XX_HASH", False)
    assert functions(lb_policy="RING_HASH", ring_hash_lb_config={"hash_function": "MURMUR_HASH_2"}) == (
        "MURMUR_HASH_2",
        False,
    )
    names = {"consistent_hashing_lb_config": {"use_hostname_for_hashing": True}}
    policy = typed("ring_hash.v3.RingHash", hash_function="MURMUR_HASH_2", **names)
    assert functions(load_balancing_policy={"policies": [policy]}) == ("MURMUR_HASH_2", True)
    policy = typed("maglev.v3.Maglev", **names)
    assert functions(load_balancing_policy={"policies": [policy]}) == ("XX_HASH", True)
    # As in Envoy, which has this rule for the older place of the setting only.
    _, report = convert(lb_policy="MAGLEV", common_lb_config=names)
    assert "common_lb_config.consistent_hashing_lb_config.use_hostname_for_hashing" in report.text()


def typed(kind: str, **keys: Any) -> dict[str, Any]:
    return {"typed_extension_config": {"name": "x", "typed_config": {"@type": POLICY + kind, **keys}}}


def test_policies_as_extensions() -> None:
    local = {"locality_weighted_lb_config": {}}
    policy = typed("least_request.v3.LeastRequest", choice_count=4, locality_lb_config=local)
    found, report = convert(load_balancing_policy={"policies": [policy]})
    assert not report.faults, report.text()
    assert found.weighs_localities
    assert found.cluster.lb_type == "LB_LEAST_REQUEST"
    assert found.cluster.lbconfig is not None
    assert found.cluster.lbconfig.choice_count == 4
    inner = typed("wrr_locality.v3.WrrLocality", endpoint_picking_policy={"policies": [typed("round_robin.v3.RoundRobin")]})
    found, report = convert(load_balancing_policy={"policies": [inner]})
    assert not report.faults, report.text()
    assert (found.weighs_localities, found.cluster.lb_type) == (True, "LB_WEIGHTED_ROUNDROBIN")


def test_the_first_known_policy_counts() -> None:
    unknown = {"typed_extension_config": {"name": "own", "typed_config": {"@type": POLICY + "subset.v3.Subset"}}}
    found, report = convert(load_balancing_policy={"policies": [unknown, typed("random.v3.Random")]})
    assert not report.faults, report.text()
    assert found.cluster.lb_type == "LB_RANDOM"
    assert [warning.path for warning in report.warnings] == ["load_balancing_policy.policies[0]"]
    assert paths(load_balancing_policy={"policies": [unknown]}) == ["load_balancing_policy.policies"]


def test_panic_and_localities() -> None:
    made = good(common_lb_config={"healthy_panic_threshold": {"value": 0}})
    assert made.panic_threshold == 0
    found, report = convert(common_lb_config={"locality_weighted_lb_config": {}}, **EDS)
    assert not report.faults
    assert found.weighs_localities
    made = good(common_lb_config={"zone_aware_lb_config": {"fail_traffic_on_panic": True}})
    assert made.fail_in_panic


def test_weights_of_localities_only_count_if_the_cluster_says_so() -> None:
    message = json_format.ParseDict(endpoints("10.0.0.1"), cluster_pb2.Cluster().load_assignment)
    message.endpoints[0].load_balancing_weight.value = 3
    places = convert_endpoints(View(message, "", Report()))
    found, _ = convert(**EDS)
    assert found.with_endpoints(places).localities == []
    found, _ = convert(common_lb_config={"locality_weighted_lb_config": {}}, **EDS)
    assert [entry.weight for entry in found.with_endpoints(places).localities] == [3]


def test_subsets() -> None:
    made = good(
        lb_subset_config={
            "fallback_policy": "DEFAULT_SUBSET",
            "default_subset": {"stage": "prod", "n": 1},
            "subset_selectors": [{"keys": ["stage", "v"]}],
        }
    )
    block = made.lb_subset_config
    assert block is not None
    assert (block.fall_back_policy, block.default_subset, block.subset_selectors) == (
        2,
        {"stage": "prod", "n": "1"},
        [["stage", "v"]],
    )
    assert block.falls_back_without_criteria


# ---- limits and health


def test_limits() -> None:
    none = 4294967295
    thresholds = [
        {"priority": "HIGH", "max_requests": 7},
        {"max_connections": none, "max_requests": 5, "max_retries": none, "track_remaining": True},
    ]
    made = good(circuit_breakers={"thresholds": thresholds})
    assert made.circuit_breakers[1] == CircuitBreaker(max_pending_requests=1024, max_requests=5)
    assert made.circuit_breakers[0].priority == "HIGH"
    only_high = good(circuit_breakers={"thresholds": thresholds[:1]})
    assert [(block.priority, block.max_requests) for block in only_high.circuit_breakers] == [("DEFAULT", 1024), ("HIGH", 7)]
    assert warned(circuit_breakers={"thresholds": [{"max_requests": 0}]}) == ["circuit_breakers.thresholds[0].max_requests"]


def test_outlier_detection() -> None:
    rule = good(outlier_detection={}).outlier_detection
    assert rule is not None
    assert rule.enforcing is not None
    assert (rule.consecutive_errors, rule.consecutive_gateway_failures, rule.max_ejection_percent) == (5, 0, 10)
    assert (rule.interval, rule.base_ejection_time, rule.max_ejection_time) == (10.0, 30.0, 300.0)
    assert rule.success_rate is not None
    assert (rule.success_rate.stdev_factor, rule.success_rate.minimum_hosts) == (1900, 5)
    assert rule.failure_percentage is None
    istio = {
        "consecutive_5xx": 5,
        "consecutive_gateway_failure": 3,
        "enforcing_consecutive_5xx": 0,
        "enforcing_consecutive_gateway_failure": 100,
        "enforcing_success_rate": 0,
        "interval": "5s",
        "max_ejection_percent": 50,
    }
    rule = good(outlier_detection=istio).outlier_detection
    assert rule is not None
    assert (rule.consecutive_errors, rule.consecutive_gateway_failures, rule.success_rate) == (0, 3, None)


CHECK = {"timeout": "1s", "interval": "2s", "healthy_threshold": 1, "unhealthy_threshold": 3}


def test_http_health_checks() -> None:
    http = {
        "path": "/up",
        "host": "a.test",
        "expected_statuses": [{"start": 200, "end": 300}],
        "request_headers_to_add": [{"header": {"key": "x-a", "value": "1"}}],
        "codec_client_type": "HTTP2",
        "method": "HEAD",
    }
    block = good(
        health_checks=[{**CHECK, "http_health_check": http, "alt_port": 81, "interval_jitter": "0.5s"}]
    ).health_check
    assert block is not None
    assert block.check_config is not None
    assert (block.timeout, block.interval, block.unhealthy_threshold, block.protocol) == (1.0, 2.0, 3, "Http2")
    assert block.interval_jitter == 0.5
    probe = block.check_config.http_check_config
    assert probe is not None
    assert (probe.path, probe.domain, probe.port, probe.method, probe.headers) == ("/up", "a.test", 81, "HEAD", {"x-a": "1"})
    assert [(codes.Start, codes.End) for codes in probe.codes] == [(200, 299)]
    bad = {"path": "/", "service_name_matcher": {"prefix": "x"}}
    assert paths(health_checks=[{**CHECK, "http_health_check": bad}]) == [
        "health_checks[0].http_health_check.service_name_matcher"
    ]


def test_other_health_checks() -> None:
    block = good(health_checks=[{**CHECK, "grpc_health_check": {"service_name": "s"}}]).health_check
    assert block is not None
    assert block.check_config is not None
    assert block.check_config.grpc_check_config is not None
    assert (block.protocol, block.check_config.grpc_check_config.service_name) == ("grpc", "s")
    payloads = {"send": {"text": "50494e47"}, "receive": [{"binary": "UE9ORw=="}]}
    block = good(health_checks=[{**CHECK, "tcp_health_check": payloads}]).health_check
    assert block is not None
    assert block.check_config is not None
    probe = block.check_config.tcp_check_config
    assert probe is not None
    assert (probe.send, probe.receive) == ("50494e47", ["504f4e47"])
    assert warned(health_checks=[{**CHECK, "tcp_health_check": {}}] * 2) == ["health_checks[1]"]


# ---- security and protocols


def test_tls_of_the_cluster_and_of_hosts_with_labels() -> None:
    matches = [
        {
            "name": "istio",
            "match": {"tlsMode": "istio"},
            "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": {"@type": TLS, "sni": "a"}},
        },
        {"name": "off", "match": {}, "transport_socket": {"name": "raw", "typed_config": {"@type": RAW}}},
    ]
    made = good(transport_socket_matches=matches)
    assert made.tls_context is None
    assert [(match.name, match.labels) for match in made.tls_matches] == [("istio", {"tlsMode": "istio"}), ("off", {})]
    context = made.tls_matches[0].tls_context
    assert context is not None
    assert (context.status, context.server_name) == (True, "a")
    assert made.tls_matches[1].tls_context is None
    made = good(transport_socket={"name": "envoy.transport_sockets.tls", "typed_config": {"@type": TLS, "sni": "b"}})
    assert made.tls_context is not None
    assert made.tls_context.server_name == "b"


def options(**keys: Any) -> dict[str, Any]:
    return {"typed_extension_protocol_options": {OPTIONS: {"@type": TYPES + OPTIONS, **keys}}}


def test_protocols() -> None:
    common = {"idle_timeout": "60s", "max_connection_duration": "600s", "max_requests_per_connection": 9}
    made = good(**options(explicit_http_config={"http2_protocol_options": {}}, common_http_protocol_options=common))
    assert (made.upstream_protocol, made.idle_timeout, made.max_connection_age, made.max_request_per_conn) == (
        "Http2",
        60.0,
        600.0,
        9,
    )
    assert good(**options(explicit_http_config={"http_protocol_options": {}})).upstream_protocol == "Http1"
    assert good(**options(use_downstream_protocol_config={})).upstream_protocol == ""
    assert good(http2_protocol_options={}).upstream_protocol == "Http2"
    assert paths(**options()) == [f"typed_extension_protocol_options[{OPTIONS}]"]
    own = {"name": "own"}
    assert paths(**options(explicit_http_config={"http_protocol_options": {}}, http_filters=[own]))[0].endswith(
        "http_filters[0]"
    )


def test_http2_options() -> None:
    block = {"initial_stream_window_size": 65536, "connection_keepalive": {"interval": "30s", "timeout": "5s"}}
    made = good(http2_protocol_options={**block, "max_concurrent_streams": 100})
    assert made.http2 is not None
    assert made.http2.initial_stream_window_size == 65536
    assert made.keepalive is not None
    assert (made.keepalive.interval, made.keepalive.timeout) == (30.0, 5.0)


def test_alpn_decides_with_auto_config() -> None:
    socket = {"name": "envoy.transport_sockets.tls", "typed_config": {"@type": TLS, "sni": "b"}}
    made = good(transport_socket=socket, **options(auto_config={}))
    assert made.upstream_protocol == ""
    assert made.tls_context is not None
    assert made.tls_context.alpn == "h2,http/1.1"
    assert paths(**options(auto_config={})) == [f"typed_extension_protocol_options[{OPTIONS}].auto_config"]


def test_connections() -> None:
    alive = {"keepalive_time": 60, "keepalive_interval": 10}
    made = good(
        upstream_connection_options={"tcp_keepalive": alive},
        per_connection_buffer_limit_bytes=4096,
        max_requests_per_connection=3,
    )
    assert made.tcp_keepalive is not None
    assert (made.tcp_keepalive.idle, made.tcp_keepalive.interval, made.tcp_keepalive.probes) == (60.0, 10.0, 9)
    assert (made.conn_buffer_limit_bytes, made.max_request_per_conn) == (4096, 3)


def test_istios_filter_of_clusters_is_left_out() -> None:
    inner = {
        "@type": TYPES + "udpa.type.v1.TypedStruct",
        "type_url": TYPES + "envoy.tcp.metadataexchange.config.MetadataExchange",
    }
    _, report = convert(filters=[{"name": "istio.metadata_exchange", "typed_config": inner}])
    assert not report.faults
    assert report.ignored == {"upstream filter istio.metadata_exchange": 1}
