"""As much of a Kubernetes API as istiod and its agent need: objects are kept in memory, and watches show no change.

Istiod reads its configuration from files here; of Kubernetes it wants namespaces, the review of tokens, and empty lists.
"""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

Json = dict[str, Any]

#: Kinds whose names are more than the capitalized resource without its "s".
_KINDS: Final = {
    "clustertrustbundles": "ClusterTrustBundle",
    "configmaps": "ConfigMap",
    "customresourcedefinitions": "CustomResourceDefinition",
    "daemonsets": "DaemonSet",
    "endpoints": "Endpoints",
    "endpointslices": "EndpointSlice",
    "gatewayclasses": "GatewayClass",
    "horizontalpodautoscalers": "HorizontalPodAutoscaler",
    "httproutes": "HTTPRoute",
    "ingressclasses": "IngressClass",
    "ingresses": "Ingress",
    "mutatingwebhookconfigurations": "MutatingWebhookConfiguration",
    "poddisruptionbudgets": "PodDisruptionBudget",
    "referencegrants": "ReferenceGrant",
    "replicasets": "ReplicaSet",
    "selfsubjectaccessreviews": "SelfSubjectAccessReview",
    "serviceaccounts": "ServiceAccount",
    "subjectaccessreviews": "SubjectAccessReview",
    "tokenreviews": "TokenReview",
    "validatingwebhookconfigurations": "ValidatingWebhookConfiguration",
}
#: The metadata of all objects that are listed, and the version at which watches begin.
_VERSION: Final = "100"


class FakeKubernetes:
    """A server at `address`, until `close`. A token belongs to the account that it names (`token_of`)."""

    def __init__(self, host: str, *objects: Json) -> None:
        self._objects: list[Json] = []
        for each in objects:
            self.add(each)
        self.closed = threading.Event()
        kubernetes = self

        class Handler(_Handler):
            api = kubernetes

        self._server = ThreadingHTTPServer((host, 0), Handler)
        self._server.daemon_threads = True
        self.address = f"{host}:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def add(self, whole: Json) -> Json:
        """Keeps an object, which gets a version and an id."""
        meta = whole.setdefault("metadata", {})
        meta.setdefault("uid", f"uid-{len(self._objects)}")
        meta["resourceVersion"] = _VERSION
        self._objects.append(whole)
        return whole

    def found(self, version: str, kind: str, namespace: str) -> list[Json]:
        """The objects of a kind of an API group, of one namespace or of all."""
        group = _group(version)
        return [
            each
            for each in self._objects
            if (_group(each["apiVersion"]), each["kind"]) == (group, kind)
            and namespace in ("", each["metadata"].get("namespace", ""))
        ]

    def close(self) -> None:
        """Ends the server and its watches."""
        self.closed.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: FakeKubernetes

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        version, namespace, resource, name = _named(url.path)
        if url.path == "/version":
            self._answer(200, {"major": "1", "minor": "34", "gitVersion": "v1.34.0"})
        elif not resource:
            self._answer(200, {"kind": "APIResourceList", "groupVersion": version, "resources": []})
        elif name:
            found = [
                each for each in self.api.found(version, _kind(resource), namespace) if each["metadata"]["name"] == name
            ]
            self._answer(200, found[0]) if found else self._not_found(resource, name)
        else:
            is_meta = "PartialObjectMetadata" in self.headers.get("accept", "")
            kind = "PartialObjectMetadata" if is_meta else _kind(resource)
            header = {"kind": kind, "apiVersion": "meta.k8s.io/v1" if is_meta else version}
            objects = [{**each, **header} for each in self.api.found(version, _kind(resource), namespace)]
            query = parse_qs(url.query)
            if "watch" in query:
                self._watch(objects if "sendInitialEvents" in query else [], header)
            else:
                meta = {"resourceVersion": _VERSION}
                self._answer(200, {**header, "kind": f"{kind}List", "metadata": meta, "items": objects})

    def do_POST(self) -> None:
        version, namespace, resource, _ = _named(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            whole = json.loads(body)
        except ValueError:
            self._answer(415, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 415})
            return
        whole = {"kind": _kind(resource), "apiVersion": version, **whole}
        whole.setdefault("metadata", {}).setdefault("namespace", namespace)
        if resource == "tokenreviews":
            user = {"username": _account(whole["spec"]["token"]), "groups": ["system:serviceaccounts"]}
            whole["status"] = {"authenticated": True, "user": user, "audiences": ["istio-ca"]}
        elif resource.endswith("accessreviews"):
            whole["status"] = {"allowed": True}
        else:
            self.api.add(whole)
        self._answer(201, whole)

    def do_PUT(self) -> None:
        self.do_POST()

    def do_PATCH(self) -> None:
        self.do_POST()

    def _not_found(self, resource: str, name: str) -> None:
        details = {"name": name, "kind": resource}
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
        self._answer(404, {**status, "details": details})

    def _watch(self, objects: list[Json], header: Json) -> None:
        """Shows the objects, and then nothing until the server is closed."""
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        ends = {"k8s.io/initial-events-end": "true"}
        bookmark = {**header, "metadata": {"resourceVersion": _VERSION, "annotations": ends}}
        for kind, each in [*(("ADDED", each) for each in objects), ("BOOKMARK", bookmark)]:
            line = json.dumps({"type": kind, "object": each}).encode() + b"\n"
            self.wfile.write(b"%x\r\n%b\r\n" % (len(line), line))
        self.wfile.flush()
        self.api.closed.wait()

    def _answer(self, status: int, body: Json) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def token_of(account: str, namespace: str = "default") -> str:
    """A token of a service account, as Kubernetes mounts it, with a signature that only this API takes."""
    claims = {"sub": f"system:serviceaccount:{namespace}:{account}", "aud": ["istio-ca"], "exp": 1 << 33}
    parts = ({"alg": "none"}, claims, {})
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)


def _account(token: str) -> str:
    claims = token.split(".")[1]
    name: str = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["sub"]
    return name


def _group(version: str) -> str:
    return version.rpartition("/")[0]


def _kind(resource: str) -> str:
    return _KINDS.get(resource) or resource.removesuffix("s").capitalize()


def _named(path: str) -> tuple[str, str, str, str]:
    """The group with its version, the namespace, the resource and the name in a path; empty if they are missing."""
    parts = [part for part in path.split("/") if part]
    if parts[:1] == ["api"]:
        version, rest = "/".join(parts[1:2]), parts[2:]
    else:
        version, rest = "/".join(parts[1:3]), parts[3:]
    namespace = ""
    if rest[:1] == ["namespaces"] and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    resource, name, *_ = [*rest, "", ""]
    return version, namespace, resource, name
