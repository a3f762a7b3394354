"""A real istiod drives pymosn as a gateway, and as sidecars of its agent, while the configuration is edited."""

from __future__ import annotations

import json
import os
import threading
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.system.process_fixtures import Start
from tests.system.pymosn_process import READY, Pymosn, Upstream, eventually, free_ports

from interop import gateway_api
from interop.programs import program

pytest.importorskip("grpc", reason="needs the extra `xds`")

from tests.system import xds_peers as peers
from tests.system.mesh import ADDRESSES, AS_PROXY, ECHO, FABRIC, HTTP, LEGACY, SLEEP, Pods
from tests.system.namespaces import Unavailable

from interop.istio import Agent, Istiod

pytestmark = pytest.mark.timeout(240)

Object = dict[str, Any]
HOST = "echo.default.svc.cluster.local"


def istio_object(kind: str, name: str, spec: Object, namespace: str = "default") -> Object:
    group = {"EnvoyFilter": "networking.istio.io/v1alpha3", "Telemetry": "telemetry.istio.io/v1"}
    if kind in ("PeerAuthentication", "AuthorizationPolicy", "RequestAuthentication"):
        version = "security.istio.io/v1"
    else:
        version = group.get(kind, "networking.istio.io/v1")
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec}


class Gateway:
    """istiod, two upstreams of one service, and pymosn as the gateway in front of them."""

    def __init__(self, start: Start, folder: Path, is_delta: bool) -> None:
        self.upstreams = Upstream("127.0.0.2"), Upstream("127.0.0.3")
        self.port, self.other_port, self.admin, *ports = free_ports(6)
        self.istiod = Istiod(program("istiod"), folder / "istiod", (ports[0], ports[1], ports[2]))
        self.istiod.put("service", *self.service(1, 1))
        self.istiod.put("gateway", self.gateway(self.port))
        self.istiod.put("routes", self.routes())
        assert eventually(self.istiod.is_up, 60), tail(self.istiod.log)
        self.proxy: Pymosn = start(self._config(is_delta))
        self.proxy.wait_for(READY)
        assert eventually(lambda: peers.answered(self.port, "/any") == 200, 30), self.proxy.output

    def service(self, *weights: int) -> list[Object]:
        spec = {
            "hosts": [HOST],
            "location": "MESH_INTERNAL",
            "resolution": "STATIC",
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
            "workloadSelector": {"labels": {"app": "echo"}},
        }
        entries = []
        for number, (upstream, weight) in enumerate(zip(self.upstreams, weights, strict=False)):
            labels = {"app": "echo", "version": f"v{number + 1}"}
            entry = {"address": f"127.0.0.{number + 2}", "labels": labels, "weight": weight}
            entry["ports"] = {"http": peers.port_of(upstream)}
            entries.append(istio_object("WorkloadEntry", f"echo-{number}", entry))
        return [istio_object("ServiceEntry", "echo", spec), *entries]

    def gateway(self, *ports: int) -> Object:
        servers = [{"port": {"number": port, "name": f"http-{port}", "protocol": "HTTP"}, "hosts": ["*"]} for port in ports]
        spec = {"selector": {"istio": "ingressgateway"}, "servers": servers}
        return istio_object("Gateway", "gw", spec, "istio-system")

    def routes(self, *first: Object, **default: Any) -> Object:
        """A virtual service; `first`: routes before the default one, to which `default` is added."""
        spec = {"hosts": ["*"], "gateways": ["istio-system/gw"], "http": [*first, {**to(), **default}]}
        return istio_object("VirtualService", "echo", spec)

    def versions(self) -> dict[str, str]:
        """The versions of what was accepted last of each type; istiod gives single resources of a delta none."""
        types = peers.view(self.admin)["types"]
        return {kind: types[kind]["version"] for kind in types}

    def rejected(self) -> dict[str, Any]:
        """What is rejected now, by type."""
        types = peers.view(self.admin)["types"]
        return {kind: types[kind]["rejected"] for kind in types if types[kind]["rejected"]}

    def close(self) -> None:
        self.istiod.close()
        for upstream in self.upstreams:
            upstream.close()

    def _config(self, is_delta: bool) -> Object:
        labels = {"istio": "ingressgateway", "app": "istio-ingressgateway"}
        return gateway_config(self.istiod, self.admin, "istio-system", labels, is_delta=is_delta)


def gateway_config(istiod: Istiod, admin: int, namespace: str, labels: dict[str, str], *, is_delta: bool) -> Object:
    """The configuration of the pod `gw-1`, a gateway that istiod drives."""
    address = {"socket_address": {"address": "127.0.0.1", "port_value": istiod.plain}}
    ends = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    static = {"name": "xds-grpc", "type": "STATIC", "connect_timeout": "1s"}
    source = {"grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}]}
    ads = {"api_type": "DELTA_GRPC" if is_delta else "GRPC", **source}
    metadata = {"CLUSTER_ID": "Kubernetes", "ISTIO_VERSION": "1.31.0", "LABELS": labels, "NAMESPACE": namespace}
    node = {"id": f"router~127.0.0.1~gw-1.{namespace}~{namespace}.svc.cluster.local", "cluster": f"gw.{namespace}"}
    return {
        "dynamic_resources": {"ads_config": ads, "cds_config": {"ads": {}}, "lds_config": {"ads": {}}},
        "static_resources": {"clusters": [{**static, "load_assignment": {"cluster_name": "xds-grpc", "endpoints": ends}}]},
        "node": {**node, "metadata": {**metadata, "NAME": "gw-1"}},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
    }


def tail(log: Path) -> str:
    return log.read_text()[-3000:]


def to(subset: str = "", **more: Any) -> Object:
    destination = {"host": HOST, "port": {"number": 80}, **({"subset": subset} if subset else {})}
    return {"route": [{"destination": destination}], **more}


def below(prefix: str, **action: Any) -> Object:
    return {"match": [{"uri": {"prefix": prefix}}], **action}


@pytest.fixture(params=[False, True], ids=["sotw", "delta"])
def gateway(start: Start, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Gateway]:
    made = Gateway(start, tmp_path, request.param)
    try:
        yield made
    finally:
        made.close()


def test_edits_of_a_gateway_under_traffic(gateway: Gateway) -> None:
    put, routes = gateway.istiod.put, gateway.routes
    both = [{"name": name, "labels": {"version": name}} for name in ("v1", "v2")]
    limits = {"connectionPool": {"http": {"http1MaxPendingRequests": 512}}, "outlierDetection": {"consecutive5xxErrors": 7}}
    hashed = {"loadBalancer": {"consistentHash": {"httpHeaderName": "x-user"}}}
    policy = {"selector": {"matchLabels": {"istio": "ingressgateway"}}, "action": "DENY"}
    policy["rules"] = [{"to": [{"operation": {"paths": ["/denied*"]}}]}]
    steps: dict[str, tuple[str, list[Object]]] = {
        "timeout": ("routes", [routes(timeout="3s")]),
        "retries": ("routes", [routes(retries={"attempts": 3, "perTryTimeout": "1s", "retryOn": "5xx,reset"})]),
        "weights": ("service", gateway.service(3, 1)),
        "one endpoint": ("service", gateway.service(1)),
        "two endpoints": ("service", gateway.service(1, 1)),
        "subsets": ("rule", [istio_object("DestinationRule", "echo", {"host": HOST, "subsets": both})]),
        "split": (
            "routes",
            [
                routes(
                    below("/direct", directResponse={"status": 418}),
                    below("/old", redirect={"uri": "/new", "redirectCode": 308}),
                    below("/v1", **to("v1", rewrite={"uri": "/rewritten"})),
                    below("/v2", **to("v2", headers={"response": {"set": {"x-set": "2"}}})),
                    below("/mirrored", **to("v1", mirror={"host": HOST, "port": {"number": 80}, "subset": "v2"})),
                    below("/fault", **to(fault={"abort": {"percentage": {"value": 100}, "httpStatus": 503}})),
                    below("/cors", **to(corsPolicy={"allowOrigins": [{"exact": "https://a.example"}]})),
                )
            ],
        ),
        "limits": (
            "rule",
            [istio_object("DestinationRule", "echo", {"host": HOST, "subsets": both, "trafficPolicy": limits})],
        ),
        "hash": (
            "rule",
            [istio_object("DestinationRule", "echo", {"host": HOST, "subsets": both, "trafficPolicy": hashed})],
        ),
        "denied": ("policy", [istio_object("AuthorizationPolicy", "deny", policy, "istio-system")]),
        "listener": ("gateway", [gateway.gateway(gateway.port, gateway.other_port)]),
    }
    expected = {
        "/any": 200, "/direct": 418, "/old": 308, "/v1": 200, "/v2": 200, "/mirrored": 200, "/fault": 503, "/denied": 403,
    }  # fmt: skip
    with peers.Traffic(gateway.port, per_connection=5) as traffic:
        for name, (file, objects) in steps.items():
            before = gateway.versions()
            put(file, *objects)
            assert eventually(lambda before=before: gateway.versions() != before, 30), (name, tail(gateway.istiod.log))
            assert traffic.goes_on(30), (name, traffic.failed)
            assert gateway.rejected() == {}, name
    for path, status in expected.items():
        assert eventually(lambda path=path, status=status: peers.answered(gateway.port, path) == status), path
    assert eventually(lambda: peers.answered(gateway.other_port, "/v2") == 200)
    gateway.istiod.remove("policy")
    assert eventually(lambda: peers.answered(gateway.port, "/denied") == 200)


def test_the_gateway_api_of_kubernetes(start: Start, tmp_path: Path) -> None:
    upstreams = Upstream("127.0.0.2"), Upstream("127.0.0.3")
    hosts = [(f"127.0.0.{number}", upstream.port) for number, upstream in enumerate(upstreams, 2)]
    port, admin, *ports = free_ports(5)

    def path(value: str) -> Object:
        return {"matches": [{"path": {"type": "PathPrefix", "value": value}}]}

    redirect = {"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "statusCode": 301}}
    header = {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [{"name": "x-set", "value": "1"}]}}
    rules = [
        {**path("/redirected"), "filters": [redirect]},
        gateway_api.to(**path("/header"), filters=[header]),
        gateway_api.to(**path("/any")),
    ]
    istiod = Istiod(
        program("istiod"),
        tmp_path / "istiod",
        (ports[0], ports[1], ports[2]),
        objects=gateway_api.objects(port, hosts, rules),
    )
    try:
        assert eventually(istiod.is_up, 60), tail(istiod.log)
        labels = {"app": "gw", "gateway.networking.k8s.io/gateway-name": "gw"}
        proxy = start(gateway_config(istiod, admin, "default", labels, is_delta=True))
        proxy.wait_for(READY)
        assert eventually(lambda: peers.answered(port, "/any") == 200, 30), (proxy.output, tail(istiod.log))
        assert peers.answered(port, "/redirected") == 301
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/header") as response:
            assert response.headers["x-set"] == "1"
        assert peers.answered(port, "/other") == 404
    finally:
        istiod.close()
        for upstream in upstreams:
            upstream.close()


class IstioMesh(Pods):
    """The pods, with istiod outside of them and its agents in two of them."""

    def __init__(self, folder: Path) -> None:
        """Raises Unavailable."""
        super().__init__()
        self.agents: dict[str, Agent] = {}
        self.istiod: Istiod | None = None
        try:
            self.istiod = Istiod(
                program("istiod"),
                folder / "istiod",
                (15010, 15012, 15014),
                host=GATEWAY,
                within=partial(self.net.call, FABRIC),
                mesh={"defaultProviders": {"metrics": ["prometheus"]}},
                ISTIOD_CUSTOM_HOST=GATEWAY,
            )
            self.istiod.put("services", *services())
            assert eventually(self.istiod.is_up, 60), tail(self.istiod.log)
            for name in (SLEEP, ECHO):
                self.net.redirect(name)
                self.agents[name] = Agent(
                    program("pilot-agent"),
                    folder / name,
                    self.istiod,
                    name=name,
                    address=ADDRESSES[name],
                    within=partial(self.net.call, name),
                    prefix=("sh", "-c", AS_PROXY),
                )
            for agent in self.agents.values():
                assert eventually(agent.is_ready, 90), agent.log.read_text()[-6000:]
        except BaseException:
            self.close()
            raise

    def ask(self, path: str = "/", **headers: str) -> int:
        """The status that the app of `sleep` gets from the service `echo`."""
        return self.get(SLEEP, SERVICE, HOST, path, port=80, **headers).status

    def close(self) -> None:
        for agent in self.agents.values():
            agent.close()
        if self.istiod is not None:
            self.istiod.close()
        super().close()


#: The address of istiod, and that of the service `echo`.
GATEWAY, SERVICE = "10.78.0.254", "10.96.0.10"


def services() -> list[Object]:
    """The services `echo` and `sleep`, of one pod each."""
    ports = [
        {"number": 80, "name": "http", "protocol": "HTTP", "targetPort": HTTP},
        {"number": 7000, "name": "undeclared", "targetPort": HTTP},
    ]
    found = []
    for name, host, address in ((ECHO, HOST, SERVICE), (SLEEP, "sleep.default.svc.cluster.local", "10.96.0.11")):
        labels = {"app": name}
        spec = {"hosts": [host], "addresses": [address], "location": "MESH_INTERNAL", "resolution": "STATIC"}
        found.append(istio_object("ServiceEntry", name, {**spec, "ports": ports, "workloadSelector": {"labels": labels}}))
        entry = {"address": ADDRESSES[name], "labels": {**labels, "version": "v1"}, "serviceAccount": name}
        found.append(istio_object("WorkloadEntry", name, entry))
    return found


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IstioMesh]:
    program("istiod"), program("pilot-agent")
    if not os.environ.get("ISTIO_BOOTSTRAP"):
        pytest.skip("ISTIO_BOOTSTRAP does not name the agent's template of a bootstrap")
    try:
        made = IstioMesh(tmp_path_factory.mktemp("mesh"))
    except Unavailable as reason:
        pytest.skip(str(reason))
    try:
        yield made
    finally:
        made.close()


def strict(mode: str) -> Object:
    return istio_object("PeerAuthentication", "default", {"mtls": {"mode": mode}})


def test_the_app_is_called_with_the_identity_of_its_caller(mesh: IstioMesh) -> None:
    answer = mesh.get(SLEEP, SERVICE, HOST, port=80)
    assert answer.status == 200
    certificate = answer.header("x-forwarded-client-cert")
    assert "By=spiffe://cluster.local/ns/default/sa/echo" in certificate
    assert "URI=spiffe://cluster.local/ns/default/sa/sleep" in certificate


def test_a_port_without_a_declared_protocol(mesh: IstioMesh) -> None:
    answer = mesh.get(SLEEP, SERVICE, HOST, port=7000)
    assert answer.status == 200
    assert "URI=spiffe://cluster.local/ns/default/sa/sleep" in answer.header("x-forwarded-client-cert")


def test_permissive_and_strict(mesh: IstioMesh) -> None:
    assert mesh.istiod is not None
    assert mesh.get(LEGACY, ADDRESSES[ECHO], HOST).status == 200
    mesh.istiod.put("peers", strict("STRICT"))
    assert eventually(lambda: mesh.get(LEGACY, ADDRESSES[ECHO], HOST).status == 0)
    assert mesh.ask() == 200
    mesh.istiod.remove("peers")
    assert eventually(lambda: mesh.get(LEGACY, ADDRESSES[ECHO], HOST).status == 200)


def test_access_by_identity(mesh: IstioMesh) -> None:
    assert mesh.istiod is not None
    source = {"source": {"principals": ["cluster.local/ns/default/sa/sleep"]}}
    rule = {"from": [source], "to": [{"operation": {"paths": ["/denied*"]}}]}
    spec = {"selector": {"matchLabels": {"app": ECHO}}, "action": "DENY", "rules": [rule]}
    mesh.istiod.put("policy", istio_object("AuthorizationPolicy", "deny", spec))
    assert eventually(lambda: mesh.ask("/denied/x") == 403)
    assert mesh.ask("/allowed") == 200
    mesh.istiod.remove("policy")
    assert eventually(lambda: mesh.ask("/denied/x") == 200)


def test_the_metrics_of_both_sides(mesh: IstioMesh) -> None:
    labels = {
        "source_workload": SLEEP,
        "destination_workload": ECHO,
        "source_principal": "spiffe://cluster.local/ns/default/sa/sleep",
        "destination_service": HOST,
        "destination_principal": "spiffe://cluster.local/ns/default/sa/echo",
        "request_protocol": "http",
        "response_code": "200",
        "connection_security_policy": "mutual_tls",
    }

    def counted(pod: str, **more: str) -> bool:
        wanted = [f'{name}="{value}"' for name, value in {**labels, **more}.items()]
        return any(all(part in line for part in wanted) for line in metrics(mesh, pod))

    assert mesh.ask() == 200
    source = {"connection_security_policy": "unknown"}
    assert eventually(lambda: counted(SLEEP, reporter="source", **source)), metrics(mesh, SLEEP)
    assert eventually(lambda: counted(ECHO, reporter="destination")), metrics(mesh, ECHO)


def metrics(mesh: IstioMesh, pod: str) -> list[str]:
    """What the agent of a pod gives Prometheus of `istio_requests_total`."""
    lines = mesh.agents[pod].get(15020, "/stats/prometheus")[1].splitlines()
    return [line for line in lines if line.startswith("istio_requests_total{")]


def test_edits_of_the_mesh_under_traffic(mesh: IstioMesh) -> None:
    assert mesh.istiod is not None
    selector = {"selector": {"matchLabels": {"app": ECHO}}}
    key = {"keys": [{"kty": "oct", "kid": "k", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}]}
    jwt = {**selector, "jwtRules": [{"issuer": "https://issuer.example", "jwks": json.dumps(key)}]}
    route = {"route": [{"destination": {"host": HOST, "port": {"number": 80}}}]}
    service = {"hosts": [HOST], "http": [{**route, "timeout": "5s", "retries": {"attempts": 2}}]}
    rule = {"host": HOST, "trafficPolicy": {"outlierDetection": {"consecutive5xxErrors": 9}}}
    egress = {"workloadSelector": {"labels": {"app": SLEEP}}, "egress": [{"hosts": ["./*"]}]}
    bucket = {"max_tokens": 1000000, "tokens_per_fill": 1000000, "fill_interval": "60s"}
    share = {"runtime_key": "e", "default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    limit = {"stat_prefix": "limits", "token_bucket": bucket, "filter_enabled": share, "filter_enforced": share}
    manager = {"filter": {"name": "envoy.filters.network.http_connection_manager"}}
    patch = {
        "applyTo": "HTTP_FILTER",
        "match": {"context": "SIDECAR_INBOUND", "listener": {"filterChain": manager}},
        "patch": {"operation": "INSERT_BEFORE", "value": {"name": "envoy.filters.http.local_ratelimit"}},
    }
    kind = "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
    patch["patch"]["value"]["typed_config"] = {"@type": kind, **limit}  # type: ignore[index]
    limits = {"workloadSelector": {"labels": {"app": ECHO}}, "configPatches": [patch]}
    logs = {"accessLogging": [{"providers": [{"name": "envoy"}]}]}
    steps = {
        "service": istio_object("VirtualService", "echo", service),
        "rule": istio_object("DestinationRule", "echo", rule),
        "jwt": istio_object("RequestAuthentication", "jwt", jwt),
        "telemetry": istio_object("Telemetry", "logs", logs),
        "scope": istio_object("Sidecar", "sleep", egress),
        "limits": istio_object("EnvoyFilter", "limits", limits),
        "peers": strict("STRICT"),
    }
    failed: list[int] = []
    asked = [0]
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            status = mesh.ask()
            asked[0] += 1
            if status != 200:
                failed.append(status)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for name, whole in steps.items():
            before = [agent.get(15000, "/config_dump")[1] for agent in mesh.agents.values()]
            mesh.istiod.put(name, whole)
            assert eventually(
                lambda before=before: [agent.get(15000, "/config_dump")[1] for agent in mesh.agents.values()] != before
            ), name
            target = asked[0] + 30
            assert eventually(lambda target=target: asked[0] >= target)
            assert failed == [], name
        for name in steps:
            mesh.istiod.remove(name)
    finally:
        is_over.set()
        thread.join()
    assert failed == []
    for agent in mesh.agents.values():
        types = json.loads(agent.get(15000, "/api/v1/xds")[1])["types"]
        assert {kind: types[kind]["rejected"] for kind in types if types[kind]["rejected"]} == {}
