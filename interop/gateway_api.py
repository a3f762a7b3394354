"""Objects of the Kubernetes Gateway API: a gateway of Istio's class, a service with two endpoints, and a route."""

from __future__ import annotations

from typing import Any, Final

Object = dict[str, Any]

_GROUP: Final = "gateway.networking.k8s.io"
_RESOURCES: Final = ("gatewayclasses", "gateways", "httproutes", "referencegrants")


def objects(port: int, hosts: list[tuple[str, int]], rules: list[Object]) -> list[Object]:
    """All of them. `port`: of the gateway, whose pod is `gw-1` at 127.0.0.1. `hosts`: of the service `echo`."""
    gateway = {
        "gatewayClassName": "istio",
        "addresses": [{"type": "Hostname", "value": "gw.default.svc.cluster.local"}],
        "listeners": [{"name": "http", "port": port, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "All"}}}],
    }
    route = {"parentRefs": [{"name": "gw"}], "rules": rules}
    return [
        *(_definition(name) for name in _RESOURCES),
        _object(f"{_GROUP}/v1", "GatewayClass", "istio", {"controllerName": "istio.io/gateway-controller"}),
        _object(f"{_GROUP}/v1", "Gateway", "gw", gateway),
        _object(f"{_GROUP}/v1", "HTTPRoute", "echo", route),
        *_service("gw", "10.96.1.1", port, [("127.0.0.1", port)]),
        *_service("echo", "10.96.1.2", 80, hosts),
    ]


def to(**more: Any) -> Object:
    """A rule for the service `echo`."""
    return {**more, "backendRefs": [{"name": "echo", "port": 80}]}


def _object(version: str, kind: str, name: str, spec: Object, **metadata: Any) -> Object:
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name, "namespace": "default", "creationTimestamp": "2026-01-01T00:00:00Z", **metadata},
        "spec": spec,
    }


def _definition(resource: str) -> Object:
    annotations = {f"{_GROUP}/bundle-version": "v1.4.0", f"{_GROUP}/channel": "standard"}
    found = _object(
        "apiextensions.k8s.io/v1", "CustomResourceDefinition", f"{resource}.{_GROUP}", {}, annotations=annotations
    )
    del found["metadata"]["namespace"]
    return found


def _service(name: str, address: str, port: int, hosts: list[tuple[str, int]]) -> list[Object]:
    spec = {"clusterIP": address, "clusterIPs": [address], "selector": {"app": name}, "type": "ClusterIP"}
    found = [
        _object(
            "v1", "Service", name, {**spec, "ports": [{"name": "http", "port": port, "targetPort": port, "protocol": "TCP"}]}
        )
    ]
    for number, (host, host_port) in enumerate(hosts, 1):
        pod = f"{name}-{number}"
        labels = {"app": name, **({f"{_GROUP}/gateway-name": "gw"} if name == "gw" else {})}
        ready = {"phase": "Running", "podIP": host, "podIPs": [{"ip": host}]}
        ready["conditions"] = [{"type": "Ready", "status": "True"}]
        found.append({**_object("v1", "Pod", pod, {"serviceAccountName": name}, labels=labels), "status": ready})
        target = {"kind": "Pod", "name": pod, "namespace": "default"}
        slice_labels = {"kubernetes.io/service-name": name}
        part = _object("discovery.k8s.io/v1", "EndpointSlice", pod, {}, labels=slice_labels)
        del part["spec"]
        ends = [{"addresses": [host], "conditions": {"ready": True}, "targetRef": target}]
        ports = [{"name": "http", "port": host_port, "protocol": "TCP"}]
        found.append({**part, "addressType": "IPv4", "endpoints": ends, "ports": ports})
    return found
