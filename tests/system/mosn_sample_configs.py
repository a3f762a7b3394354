"""The configurations of MOSN's samples, written anew: what each has, with names, ports and files of our own.

`SAMPLES` has a function for each, by its path in MOSN's repository. Names are prefixed, so that many of them can be
merged into one configuration (`merged`) and run by one process. Clusters lead to listeners of other samples, or to peers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mosn_sample_parts import (
    PREFIX,
    SERVICE,
    Config,
    Hop,
    Places,
    admin,
    cluster,
    file,
    listener,
    merged,
    named,
    proxy,
    route,
    table,
)

_TRACED: Config = {"disable_upgrade": True, "tracing": {"enable": True, "driver": "SOFATracer"}}
_NO_FILTER: list[Config] = [{"type": "healthcheck", "config": {}}]
_DEMANDS: Config = {"server_name": "127.0.0.1"}
MUTUAL: Config = {"verify_client": True, "require_client_cert": True}
_CURVE: Config = {"verify_client": True, "ecdh_curves": "P256"}
_RULES: Config = {"rules": [{"resource": "/test", "limitApp": "", "grade": 1, "threshold": 1, "strategy": 0}]}


def flow(rules: Config, app: str = "") -> list[Config]:
    named = {"app_name": app, "log_path": "/tmp/sentinel"} if app else {}
    action = {"status": 500, "body": "blocked"}
    settings = {**named, "global_switch": True, "monitor": False, "limit_key_type": "PATH", "action": action, **rules}
    return [{"type": "flowControlFilter", "config": settings}]


def _tokens(places: Places) -> list[Config]:
    provider = {"issuer": "testing@example.test", "localJwks": {"inlineString": places.jwks}}
    requires = {"requiresAny": {"requirements": [{"providerName": "origins-0"}, {"allowMissing": {}}]}}
    settings = {"providers": {"origins-0": provider}, "rules": [{"match": PREFIX, "requires": requires}]}
    return [{"type": "jwt_authn", "config": settings}]


def welcome(places: Places) -> Config:
    """Three listeners in a row; the last answers itself."""
    text = "Welcome to MOSN!\nThe Cloud-Native Network Proxy Platform.\n"
    listeners = [
        listener("app listener", places.at("app"), proxy("app router", "Http1")),
        listener("middle listener", places.at("middle"), proxy("middle router", "Auto")),
        listener("first listener", places.at("first"), proxy("first router", "Http1")),
    ]
    tables = [
        table("middle router", route("middle cluster")),
        table("first router", route("first cluster")),
        table("app router", {"match": PREFIX, "direct_response": {"status": 200, "body": text}}),
    ]
    clusters = [cluster("middle cluster", places.at("app")), cluster("first cluster", places.at("middle"))]
    return file(listeners, tables, clusters, admin=admin(places))


def _prometheus(places: Places) -> Config:
    return {"type": "prometheus", "config": {"port": places.port("prometheus")}}


def broadcast(places: Places) -> Config:
    filters = [{"type": "mirror", "config": {"amplification": 10, "broadcast": True}}]
    handler = proxy("broadcast router", "Http1", upstream_protocol="Http1")
    mirrors = {"cluster": "broadcast mirrors", "percent": 100}
    hosts = [places.at("mirror 1"), places.at("mirror 2")]
    made = file(
        [listener("broadcast", places.at("broadcast"), handler, chain={"tls_context": {}}, stream_filters=filters)],
        [table("broadcast router", route("broadcast first", request_mirror_policies=mirrors))],
        [
            named(cluster("broadcast first", places.at("http"))),
            named(cluster("broadcast mirrors", *hosts, lb_type="LB_REQUEST_ROUNDROBIN")),
        ],
        admin=admin(places),
        metrics={"shm_zone": "metrics", "sinks": [_prometheus(places)]},
    )
    made["servers"][0]["default_log_level"] = "DEBUG"
    return made


def mirror(places: Places) -> Config:
    made = file([], [], [], admin=admin(places), metrics={"shm_zone": "metrics", "sinks": [_prometheus(places)]})
    server = made["servers"][0]
    server["default_log_level"] = "DEBUG"
    for name, down, up, amplification, percent, peer in (
        ("mirror dubbo", "X", "X", 10, 30, "dubbo"),
        ("mirror http1", "Http1", "Http1", 10, 100, "http"),
        ("mirror http2", "Http1", "Http2", 20, 100, "http"),
    ):
        more: Config = {"extend_config": {"sub_protocol": "dubbo"}} if peer == "dubbo" else {}
        handler = proxy(f"{name} router", down, upstream_protocol=up, **more)
        filters = [{"type": "mirror", "config": {"amplification": amplification}}]
        shown = "egress_dubbo" if peer == "dubbo" else name  # MOSN reads all of a call only where it has this name
        address = places.at(name)
        server["listeners"].append(listener(shown, address, handler, chain={"tls_context": {}}, stream_filters=filters))
        policy = {"cluster": f"{name} mirrors", "percent": percent}
        match = SERVICE if peer == "dubbo" else PREFIX
        server["routers"].append(table(f"{name} router", route(f"{name} first", match, request_mirror_policies=policy)))
        made["cluster_manager"]["clusters"] += [
            named(cluster(f"{name} first", places.at(peer))),
            named(cluster(f"{name} mirrors", places.at(f"{name} copies"))),
        ]
    return made


def development(places: Places) -> Config:
    handler = proxy("grpc router", "Auto", upstream_protocol="Auto", extend_config={"http2_use_stream": False})
    manager = {"type": "connection_manager", "config": table("grpc router", route("grpc cluster"))}
    made = file(
        [listener("grpc", places.at("dev"), handler, manager, chain={"tls_context": {}}, log_path="stdout")],
        [],
        [named(cluster("grpc cluster", places.at("grpc")))],
        admin=admin(places),
        metrics={"shm_zone": "metrics", "shm_size": "10MB", "flush_interval": "500ms", "sinks": [_prometheus(places)]},
        pprof={"debug": True, "port_value": places.port("pprof")},
    )
    made["servers"][0] |= {"default_log_level": "DEBUG", "processor": "auto"}
    return made


def fallback(places: Places) -> Config:
    """Its listener has no name."""
    handler = proxy("fallback router", "Auto", upstream_protocol="Http1", fallback_for_unknown_protocol=True)
    tcp = {"type": "tcp_proxy", "config": {"cluster": "fallback tcp"}}
    one = listener("", places.at("fallback"), handler, tcp)
    del one["name"]
    clusters = [cluster("fallback http", places.at("http")), cluster("fallback tcp", places.at("tcp"))]
    return file([one], [table("fallback router", route("fallback http"))], clusters)


def slow_start(places: Places) -> Config:
    health = {
        "protocol": "http1",
        "timeout": "1s",
        "interval": "1s",
        "healthy_threshold": 1,
        "service_name": "slow start cluster",
    }
    start = {"mode": "duration", "slow_start_duration": "30s", "aggression": 1, "min_weight_percent": 0.1}
    hosts = [{"address": places.at(f"weight {weight}"), "weight": weight} for weight in (1, 2, 3)]
    made = cluster("slow start cluster", lb_type="LB_WEIGHTED_ROUNDROBIN", health_check=health, slow_start=start)
    made["hosts"] = hosts
    handler = proxy("slow start router", "Http1", upstream_protocol="Http1")
    return file(
        [listener("slow start", places.at("slow start"), handler)],
        [table("slow start router", route("slow start cluster"))],
        [made],
        disable_upgrade=True,
        admin=admin(places),
    )


def _streamed(name: str, target: str, kind: str = "tcp_proxy", network: str = "", **top: Any) -> Callable[[Places], Config]:
    """A listener with `tcp_proxy` or `udp_proxy`."""

    def make(places: Places) -> Config:
        settings: Config = {"cluster": f"{name} cluster"}
        if kind == "tcp_proxy":
            settings["routes"] = [{"cluster": f"{name} cluster"}]
        more = {"network": network} if network else {}
        handler = {"type": kind, "config": settings}
        return file(
            [listener(name, places.at(name), handler, chain={"tls_context": {}}, log_path="stdout", **more)],
            [],
            [named(cluster(f"{name} cluster", places.at(target)))],
            **top,
        )

    return make


def tproxy(places: Places) -> Config:
    """Both samples: they differ in the rules of iptables."""
    direct = {"status": 200}
    tables = [
        table(f"{name} router", {"direct_response": direct | {"body": f"this is {name}_server"}})
        for name in ("tproxy", "general")
    ]
    handlers = [proxy(f"{name} router", "Auto", upstream_protocol="Auto") for name in ("tproxy", "general")]
    diverts = {"use_original_dst": "tproxy", "listener_filters": [{"type": "original_dst", "config": {"type": "tproxy"}}]}
    general = listener("general", "0.0.0.0:80", handlers[1])
    general["bind_port"] = False
    return file([listener("tproxy", "0.0.0.0:16000", handlers[0], **diverts), general], tables, [], admin=admin(places))


def benchmark(places: Places) -> Config:
    labels = {"version": "1.1", "stage": "pre-release", "label": "gray"}
    metadata = {"filter_metadata": {"mosn.lb": labels}}
    service = {"headers": [{"name": "service", "value": "com.alipay.test.TestService:1.0", "regex": False}]}
    one = {"match": service, "route": {"cluster_name": "test_cpp", "retry_policy": {"retry_on": False}}}
    one["route"]["metadata_match"] = metadata
    manager = {"type": "connection_manager", "config": table("test_router", one)}
    made = cluster("test_cpp", lb_type="LB_ROUNDROBIN", spec={})
    made["hosts"] = [
        {"address": places.at(f"bolt {i}"), "hostname": "downstream_machine1", "weight": 1, "metadata": metadata}
        for i in range(1, 6)
    ]
    made["lb_subset_config"] = {
        "fall_back_policy": 2,
        "default_subset": labels,
        "subset_selectors": [["stage", "type"], ["stage", "label", "version"], ["version"]],
    }
    handler = proxy("test_router", "Auto", name="proxy_config")
    egress = listener("egress_sofa", places.at("benchmark"), handler, manager, type="ingress", stream_filters=[])
    server = {
        "mosn_server_name": "mosn_server_1",
        "default_log_path": "./logs/default.log",
        "default_log_level": "WARN",
        "global_log_roller": "time=1",
        "graceful_timeout": "10s",
        "processor": 1,
        "listeners": [egress],
    }
    pprof = {"debug": True, "port_value": places.port("pprof of the benchmark")}
    return {"pprof": pprof, "servers": [server], "cluster_manager": {"clusters": [made]}}


def _xds_sources() -> tuple[Config, Config]:
    service = {"envoy_grpc": {"cluster_name": "xds_cluster"}}
    source = {
        "api_type": "GRPC",
        "transport_api_version": "V3",
        "grpc_services": [service],
        "set_node_on_first_message_only": True,
    }
    runtime = {
        "name": "runtime-0",
        "rtds_layer": {
            "name": "runtime-0",
            "rtds_config": {
                "resource_api_version": "V3",
                "api_config_source": {"transport_api_version": "V3", "api_type": "GRPC", "grpc_services": service},
            },
        },
    }
    return source, runtime


def xds(places: Places) -> Config:
    source, runtime = _xds_sources()
    host, port = places.at("control plane").rsplit(":", 1)
    address = {"socket_address": {"address": host, "port_value": int(port)}}
    ends = {"cluster_name": "xds_cluster", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]}
    by_source = {"resource_api_version": "V3", "api_config_source": source}
    control = {"connect_timeout": "1s", "load_assignment": ends, "http2_protocol_options": {}, "name": "xds_cluster"}
    return {
        "static_resources": {"clusters": [control]},
        "dynamic_resources": {"ads_config": source, "cds_config": by_source, "lds_config": by_source},
        "node": {"cluster": "test-cluster", "id": "test-id"},
        "layered_runtime": {"layers": [runtime]},
        "admin": {"access_log_path": "/dev/null", **admin(places)},
    }


def traced(name: str, driver: str, settings: Config) -> Callable[[Places], Config]:
    hop = Hop(name, "http", "Http1", "Http1", top={"tracing": {"enable": True, "driver": driver, "config": settings}})
    return lambda places: {**hop(places), "admin": admin(places)}


_SKYWALKING: Config = {"reporter": "gRPC", "backend_service": "127.0.0.1:11800", "service_name": "MOSN"}
_ZIPKIN: Config = {
    "service_name": "MOSN",
    "reporter": "http",
    "addresses": ["http://localhost:9411/api/v2/spans"],
    "http": {"timeout": 3, "batch_size": 1, "batch_interval": 1},
}


def _agent(places: Places) -> Config:
    settings = {
        "hosting_listener": "tunnel agent listener",
        "server_list": ["127.0.0.1:9999"],
        "cluster": "clientCluster",
        "enable": True,
        "connection_num": 1,
        "reconnect_base_duration": "8s",
        "tls_context": {"status": True, "ca_cert": str(places.folder / "ca.pem"), "server_name": "127.0.0.1"},
    }
    more = {"extend_config": {"sub_protocol": "bolt"}}
    top = {"close_graceful": True, "extends": [{"type": "tunnel_agent", "config": settings}]}
    return Hop("tunnel agent", "bolt", "X", "X", match=SERVICE, more=more, top=top)(places)


_TO_BOLT: Config = {"extend_config": {"sub_protocol": "bolt"}}
_SIMPLE: list[Config] = [{"type": "transcoder", "config": {"type": "http2bolt_simple"}}]
_DENY: list[Config] = [
    {
        "type": "ip_access",
        "config": {"header": "", "default_action": "allow", "ips": [{"action": "deny", "addrs": ["127.0.0.1"]}]},
    }
]
_CODES = "examples/codes/"

#: The samples that behave here as in MOSN, or that shall.
SAMPLES: dict[str, Callable[[Places], Config]] = {
    "configs/mosn_config.json": welcome,
    "configs/mosn_config_broadcast.json": broadcast,
    "configs/mosn_config_dev.json": development,
    "configs/mosn_config_mirror.json": mirror,
    "configs/mosn_rpc_config.json": lambda places: merged(
        {"admin": admin(places)},
        Hop("rpc server", "bolt", "Auto", "Auto", match=SERVICE, filters=_NO_FILTER, top={})(places),
        Hop("rpc client", "rpc server", "Auto", "Auto", match=SERVICE, top={})(places),
    ),
    "configs/mosn_rpc_config_bolt.json": lambda places: merged(
        {"admin": admin(places)},
        Hop("rpc bolt server", "bolt", "Auto", "Auto", match=SERVICE, filters=_NO_FILTER, more=_TO_BOLT, top={})(places),
        Hop("rpc bolt client", "rpc bolt server", "Auto", "Auto", match=SERVICE, more=_TO_BOLT, top={})(places),
    ),
    f"{_CODES}envoy-go-extension/mosn.json": lambda places: {
        "servers": [{"default_log_path": "stdout", "listeners": [], "routers": []}],
        "stream_filters": [{"name": "demo", "stream_filters": [{"type": "demo", "config": {"foo": "bar"}}]}],
    },
    f"{_CODES}dubbo/client_config.json": Hop("dubbo client", "dubbo server", "dubbo", match=SERVICE, old=True, top=_TRACED),
    f"{_CODES}dubbo/server_config.json": Hop("dubbo server", "dubbo", "dubbo", match=SERVICE, old=True, top=_TRACED),
    f"{_CODES}filter/ipaccess/config.json": Hop("ip access", "http", "Http1", "Http1", filters=_DENY),
    f"{_CODES}filter/jwtauthn/config.json": Hop("tokens", "http", "Http1", "Http1", filters=_tokens),
    f"{_CODES}filter/transcoder/client_config.json": Hop(
        *("transcoder client", "transcoder server", "Http1", "X"),
        match=SERVICE,
        filters=_SIMPLE,
        more=_TO_BOLT,
        old=True,
        top=_TRACED,
    ),
    f"{_CODES}filter/transcoder/server_config.json": Hop(
        "transcoder server", "bolt", "bolt", match=SERVICE, old=True, top=_TRACED
    ),
    f"{_CODES}flowcontrol-sample/client_config.json": Hop("flow client", "flow server", "Http1", "Http1"),
    f"{_CODES}flowcontrol-sample/server_config.json": Hop(
        "flow server", "http", "Http1", "Http1", filters=flow(_RULES, "sample")
    ),
    f"{_CODES}flowcontrol-sample/tls_client_config.json": Hop(
        "flow tls client", "flow tls server", "Http1", "Http1", demands=_DEMANDS
    ),
    f"{_CODES}flowcontrol-sample/tls_server_config.json": Hop(
        "flow tls server", "http", "Http1", "Http1", tls=MUTUAL, filters=flow(_RULES)
    ),
    f"{_CODES}http-sample/client_config.json": Hop("http client", "http server"),
    f"{_CODES}http-sample/server_config.json": Hop("http server", "http", "Http1", "Http1"),
    f"{_CODES}http-sample/tls_client_config.json": Hop(
        "http tls client", "http tls server", "Http1", "Http1", demands=_DEMANDS
    ),
    f"{_CODES}http-sample/tls_server_config.json": Hop("http tls server", "http", "Http1", "Http1", tls=MUTUAL),
    f"{_CODES}protocol-auto-sample/client_config.json": Hop("auto client", "auto server", "Auto", "Auto"),
    f"{_CODES}protocol-auto-sample/server_config.json": Hop("auto server", "http", "Auto", "Auto"),
    f"{_CODES}protocol-auto-sample/tls_client_config.json": Hop(
        "auto tls client", "auto tls server", "Auto", "Auto", demands=_CURVE | _DEMANDS
    ),
    f"{_CODES}protocol-auto-sample/tls_server_config.json": Hop("auto tls server", "http", "Auto", "Auto", tls=_CURVE),
    f"{_CODES}proxy-fallback-example/config.json": fallback,
    f"{_CODES}slow-start-sample/config.json": slow_start,
    f"{_CODES}sofarpc-with-xprotocol-sample/client_config.json": Hop("bolt client", "bolt server", "bolt", match=SERVICE),
    f"{_CODES}sofarpc-with-xprotocol-sample/server_config.json": Hop(
        "bolt server", "bolt", "bolt", match=SERVICE, filters=_NO_FILTER
    ),
    f"{_CODES}sofarpc-with-xprotocol-sample/tls_client_config.json": Hop(
        "bolt tls client", "bolt tls server", "bolt", match=SERVICE, demands=_DEMANDS
    ),
    f"{_CODES}sofarpc-with-xprotocol-sample/tls_server_config.json": Hop(
        "bolt tls server", "bolt", "bolt", match=SERVICE, filters=_NO_FILTER, tls=MUTUAL
    ),
    f"{_CODES}tcpproxy-sample/config.json": _streamed("tcp proxy", "tcp"),
    f"{_CODES}tproxy/tproxy_egress/config.json": tproxy,
    f"{_CODES}tproxy/tproxy_ingress/config.json": tproxy,
    f"{_CODES}trace/skywalking/http/config.json": traced("skywalking", "SkyWalking", _SKYWALKING),
    f"{_CODES}trace/skywalking-plugin/http/config.json": traced(
        "skywalking plugin", "PluginDriver", {"sopath": "tracer.so", "builder": _SKYWALKING}
    ),
    f"{_CODES}trace/zipkin/http/mosn_config.yaml": traced("zipkin", "Zipkin", _ZIPKIN),
    f"{_CODES}tunnel-sample/agent_config.json": _agent,
    f"{_CODES}udpproxy-sample/config.json": _streamed("udp proxy", "udp", "udp_proxy", "udp"),
    f"{_CODES}uds-sample/client_config.json": _streamed("uds client", "uds server", network="unix", **_TRACED),
    f"{_CODES}uds-sample/server_config.json": _streamed("uds server", "unix", **_TRACED),
    f"{_CODES}xds-server-sample/config.json": xds,
    "test/benchmark/mosn_benchmark.json": benchmark,
}
