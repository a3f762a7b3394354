"""The configurations of those of MOSN's samples that pymosn refuses or starts without their point, written anew.

They need what is compiled into MOSN, or parts of MOSN that pymosn has not; or MOSN does nothing with them either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mosn_sample_configs import MUTUAL, SAMPLES, flow
from mosn_sample_parts import SERVICE, Config, Hop, Places, admin, cluster, file, listener, merged, proxy, route, table

_NACOS: Config = {
    "dynamic_data_resources": [
        {
            "resource_type": "nacos",
            "config": {
                "Group": "SENTINEL_GROUP",
                "ClientConfig": {"NamespaceId": ""},
                "ServerConfigs": [{"IpAddr": "127.0.0.1", "Port": 8848}],
            },
        }
    ]
}

_CODES = "examples/codes/"


def _filtered(name: str, protocol: str = "Http1", **more: Any) -> Hop:
    """A hop with a stream filter. `more`: `config`, `go_plugin_config`."""
    return Hop(name, "http", protocol, protocol, filters=[{"type": name, **more}], top={})


def _wasm(path: str, protocol: str = "Http1", **top: Any) -> Callable[[Places], Config]:
    """A listener without a name; its one route answers itself."""
    settings = {"instance_num": 1, "vm_config": {"engine": "wasmer", "path": path}}
    handler = proxy("wasm router", protocol, upstream_protocol=protocol)

    def make(places: Places) -> Config:
        filters = [{"type": "proxywasm", "config": settings}]
        one = listener("", places.at("wasm"), handler, stream_filters=filters)
        del one["name"]
        return file([one], [table("wasm router", {"direct_response": {"status": 200}})], [], **top)

    return make


def _wasm_codec(places: Places) -> Config:
    more = {"extend_config": {"sub_protocol": "x-bolt"}}
    machine = {"engine": "wasmer", "path": "etc/wasm/bolt-go.wasm", "cpu": 100, "mem": 100}
    settings = {"from_wasm_plugin": "wasm-bolt", "protocol": "x-bolt", "root_id": 1}
    return merged(
        Hop("wasm server", "bolt", "X", "X", match=SERVICE, more=more, top={})(places),
        Hop("wasm client", "wasm server", "X", "X", match=SERVICE, more=more, top={})(places),
        {
            "wasm_global_plugins": [{"plugin_name": "wasm-bolt", "vm_config": machine}],
            "third_part_codec": {"codecs": [{"type": "wasm", "enable": True, "config": settings}]},
        },
    )


def _go_codec(name: str, target: str) -> Callable[[Places], Config]:
    """A protocol of a Go plugin, and a route without a match."""

    def make(places: Places) -> Config:
        codec = {"enable": True, "type": "go-plugin", "path": "codec.so", "loader_func_name": "LoadCodec"}
        handler = proxy(f"{name} router", "x_example")
        return file(
            [listener(name, places.at(name), handler)],
            [table(f"{name} router", {"route": {"cluster_name": f"{name} cluster"}})],
            [cluster(f"{name} cluster", places.at(target))],
            disable_upgrade=True,
            third_part_codec={"codecs": [codec]},
        )

    return make


def _expressions(places: Places) -> Config:
    first = {
        "before_router_by_dsl": 'ctx.rewrite_request_url("/dsl") && ctx.add_request_header("dsl", "dsl")',
        "after_router_by_dsl": 'conditional(request.host == "dslhost", ctx.rewrite_request_url("/dsl"), true)',
        "after_balancer_by_dsl": 'ctx.add_request_header("upstream_addr", string(destination.ip))',
    }
    second = {"send_router_by_dsl": 'ctx.add_response_header("dsl1", "dsl1")'}
    answer = {"match": {"path": "/dsl"}, "direct_response": {"status": 200, "body": "hello DSL!"}}
    listeners = [
        listener(
            name, places.at(name), proxy(f"{name} router", "Auto"), stream_filters=[{"type": "dsl", "config": settings}]
        )
        for name, settings in (("dsl server", first), ("dsl client", second))
    ]
    tables = [table("dsl server router", route("dsl cluster")), table("dsl client router", answer)]
    return file(listeners, tables, [cluster("dsl cluster", places.at("dsl client"))], admin=admin(places))


def _transaction(name: str) -> Hop:
    return Hop(
        name, "http", filters=[{"type": "seata", "config": {"addressing": name, "serverAddressing": "127.0.0.1:8091"}}]
    )


def _tunnel(places: Places) -> Config:
    chain = {"tls_context": places.tls(verify_client=False, require_client_cert=False)}
    end = listener("tunnel end", places.at("tunnel end"), {"type": "tunnel"}, chain=chain, connection_idle_timeout=0)
    more = {"extend_config": {"sub_protocol": "bolt"}}
    hop = Hop("tunnel client", "bolt", "X", "X", match=SERVICE, more=more, top={"close_graceful": True})(places)
    del hop["cluster_manager"]["clusters"][0]["hosts"]
    return merged(hop, file([end], [], []))


def _go_certificates(places: Places) -> Config:
    made = _filtered("demo", config={"User": "admin"})(places)
    made["servers"][0]["listeners"][0]["filter_chains"][0]["tls_context"] = {"status": True, "type": "loader"}
    return made


def _bootstrap(cluster_address: Config) -> Config:
    """The keys for xDS as Istio 1.5 wrote them: a cluster with `hosts`, of version 2."""
    control = {
        "name": "xds-grpc",
        "type": "STRICT_DNS",
        "lb_policy": "RANDOM",
        "hosts": [{"socket_address": cluster_address}],
        "http2_protocol_options": {},
    }
    ads = {"api_type": "GRPC", "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}]}
    return {
        "static_resources": {"clusters": [control]},
        "dynamic_resources": {"lds_config": {"ads": {}}, "cds_config": {"ads": {}}, "ads_config": ads},
    }


def _istio_mixed(places: Places) -> Config:
    more = {"extend_config": {"sub_protocol": "dubbo"}}
    return merged(
        Hop("istio egress", "dubbo", "X", "X", match=SERVICE, more=more, filters=[{"type": "dubbo_demo"}], top={})(places),
        Hop("istio ingress", "dubbo", "X", "X", match=SERVICE, more=more, old=True, top={})(places),
        _bootstrap({"address": "127.0.0.1", "port_value": places.port("control plane")}),
    )


def _dubbo_mesh(places: Places) -> Config:
    """Its admin port is a text."""
    hops = [
        Hop(name, "dubbo", "dubbo", match=SERVICE, filters=[{"type": "dubbo_stream", "config": {"subset": "group"}}], top={})
        for name in ("dubbo outbound", "dubbo inbound")
    ]
    return merged(
        *(hop(places) for hop in hops),
        _bootstrap({"address": "127.0.0.1", "port_value": places.port("control plane")}),
        {"admin": {"address": {"socket_address": {"address": "0.0.0.0", "port_value": "15000"}}}},
    )


_GO: Config = {"so_path": "./simple_so.so"}
REFUSED: dict[str, Callable[[Places], Config]] = {
    "configs/istio152/mosn_config_mirror_xds.json": _istio_mixed,
    "configs/istio152/mosn_xds.json": lambda places: {
        **_bootstrap({"address": "istio-pilot.istio-system.svc.cluster.local", "port_value": 15010}),
        "admin": admin(places),
    },
    "configs/mosn_config_wasm.json": _wasm("/etc/wasm/filter.wasm"),
    "configs/mosn_rpc_config_wasm.json": _wasm_codec,
    "configs/mosn_so.json": lambda places: {
        "stream_filters": [{"name": "demo", "stream_filters": [{"status": 200, "type": "echo"}]}]
    },
    f"{_CODES}dsl-sample/config.json": _expressions,
    f"{_CODES}filter/dubbo/install/build/mosn_config_dubbo_xds.json": _dubbo_mesh,
    f"{_CODES}flowcontrol-sample/datasource-nacos/server_config_nacos.json": Hop(
        "nacos", "http", "Http1", "Http1", filters=flow(_NACOS, "sentinel-dashboard")
    ),
    f"{_CODES}flowcontrol-sample/datasource-nacos/tls_server_config_nacos.json": Hop(
        *("nacos tls", "http", "Http1", "Http1"),
        filters=flow(_NACOS, "sentinel-dashboard"),
        tls=MUTUAL | dict.fromkeys(("ca_cert", "cert_chain", "private_key"), "../certs/none.pem"),
    ),
    f"{_CODES}mosn-extensions/plugin/cert_loader/config.json": _go_certificates,
    f"{_CODES}mosn-extensions/plugin/filter/config.json": _filtered(
        "demo_plugin", config={"config_path": "./checkconf.json"}
    ),
    f"{_CODES}mosn-extensions/plugin/so/config.json": _filtered("loadso", go_plugin_config=_GO, config={"User": "admin"}),
    f"{_CODES}mosn-extensions/simple_streamfilter/config.json": _filtered("demo", config={"User": "admin"}),
    f"{_CODES}plugin/pluginfilter/config.json": lambda places: {
        **_filtered("pluginfilter")(places),
        "plugin": {"log_base": "/tmp/"},
    },
    f"{_CODES}seata/server_a/service_a_config.json": _transaction("seata a"),
    f"{_CODES}seata/server_b/service_b_config.json": _transaction("seata b"),
    f"{_CODES}seata/server_c/service_c_config.json": _transaction("seata c"),
    f"{_CODES}tunnel-sample/client_config.json": _tunnel,
    f"{_CODES}wasm/http/config.json": _wasm("/etc/wasm/filter.wasm"),
    f"{_CODES}wasm/httpCall/config.json": _wasm("/etc/wasm/filter-go.wasm"),
    f"{_CODES}wasm/sofarpc/config.json": _wasm("/etc/wasm/filter.wasm", "Auto"),
    f"{_CODES}xprotocol_with_goplugin_example/client_config.json": _go_codec("x client", "x server"),
    f"{_CODES}xprotocol_with_goplugin_example/server_config.json": _go_codec("x server", "http"),
}

#: All samples.
CONFIGS: dict[str, Callable[[Places], Config]] = {**SAMPLES, **REFUSED}
