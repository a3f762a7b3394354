"""The node that identifies this proxy to control planes: from the configuration, MOSN's flags and the environment.

As in MOSN, flags replace the `id` and `cluster` of the configuration. Unlike MOSN, the metadata of the configuration is kept
and extended, and its locality is sent; the domain in the id has no brackets (key reference section 16). The result is a Node
in proto's JSON form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from pymosn.version import VERSION

#: Kinds of nodes that istiod knows.
SERVICE_TYPES: Final = ("sidecar", "router", "waypoint")
#: Labels of the pod, mounted by Kubernetes' downward API: lines such as `app="echo"`.
POD_LABELS: Final = "/etc/istio/pod/labels"
#: Variables with this prefix are metadata, as for Istio's agent.
META_PREFIX: Final = "ISTIO_META_"
#: What this client can do, in the words of the protocol.
FEATURES: Final = ("xds.config.resource-in-sotw", "xds.config.supports-resource-ttl")
#: MOSN's `--service-meta` takes the names of Go fields.
_GO_NAMES: Final = {
    "IstioVersion": "ISTIO_VERSION",
    "InterceptionMode": "INTERCEPTION_MODE",
    "ClusterID": "CLUSTER_ID",
    "Namespace": "NAMESPACE",
}
#: What MOSN sends if it makes metadata.
_MOSN_META: Final = {"INTERCEPTION_MODE": "REDIRECT", "CLUSTER_ID": "Kubernetes"}
_MOSN_LABELS: Final = {"istio": "ingressgateway"}


class NodeError(ValueError):
    """The node cannot be made; the text names the flag."""


class NodeFlags(NamedTuple):
    """MOSN's flags of `start` about the node, or their environment variables; empty if not given."""

    service_node: str = ""
    service_type: str = ""
    service_cluster: str = ""
    service_meta: tuple[str, ...] = ()
    service_lables: tuple[str, ...] = ()
    cluster_domain: str = ""
    pod_namespace: str = ""
    pod_name: str = ""
    pod_ip: str = ""


#: Flag -> the environment variable that it defaults to.
VARIABLES: Final[Mapping[str, str]] = {
    "service_node": "SERVICE_NODE",
    "service_type": "SERVICE_TYPE",
    "service_cluster": "SERVICE_CLUSTER",
    "service_meta": "SERVICE_META",
    "service_lables": "SERVICE_LAB",
    "cluster_domain": "CLUSTER_DOMAIN",
    "pod_namespace": "POD_NAMESPACE",
    "pod_name": "POD_NAME",
    "pod_ip": "POD_IP",
}


def flags_of(options: Mapping[str, object], environ: Mapping[str, str]) -> NodeFlags:
    """The flags from the options of the command line, each a value or a list of which the last counts.

    `--service-meta` and `--service-lables` may be repeated; in their variables commas separate the items.
    """
    values: dict[str, Any] = {}
    for name, variable in VARIABLES.items():
        given = options.get(name) or ()
        items = [given] if isinstance(given, str) else [str(item) for item in given]  # type: ignore[attr-defined]
        if name in ("service_meta", "service_lables"):
            values[name] = tuple(items or filter(None, environ.get(variable, "").split(",")))
        else:
            values[name] = items[-1] if items else environ.get(variable, "")
    return NodeFlags(**values)


def make_node(
    configured: Mapping[str, Any] | None,
    flags: NodeFlags,
    environ: Mapping[str, str],
    read_labels: Callable[[], str] = lambda: "",
    features: tuple[str, ...] = FEATURES,
) -> dict[str, Any]:
    """The node. `configured`: the key `node` of the configuration. `read_labels`: the content of POD_LABELS. NodeError."""
    node = dict(configured or {})
    for theirs in ("userAgentName", "userAgentVersion", "userAgentBuildVersion", "clientFeatures"):
        node.pop(theirs, None)
    node["id"] = _id(flags) or str(node.get("id", ""))
    node["cluster"] = flags.service_cluster or str(node.get("cluster", ""))
    metadata = _metadata(node.get("metadata"), flags, environ, read_labels)
    if metadata:
        node["metadata"] = metadata
    major, minor, patch = (int(part) for part in VERSION.split(".")[:3])
    node.pop("user_agent_version", None)
    node["user_agent_name"] = "pymosn"
    node["user_agent_build_version"] = {"version": {"major_number": major, "minor_number": minor, "patch": patch}}
    node["client_features"] = list(features)
    return node


def _id(flags: NodeFlags) -> str:
    """The id that the flags ask for; empty if they do not."""
    if flags.service_node:
        return flags.service_node
    if not flags.service_type:
        return ""
    if flags.service_type not in SERVICE_TYPES:
        raise NodeError(f"--service-type: expected one of {', '.join(SERVICE_TYPES)}, got {flags.service_type!r}")
    for name in ("pod_ip", "pod_name", "pod_namespace"):
        if not getattr(flags, name):
            flag = "--" + name.replace("_", "-")
            raise NodeError(f"--service-type without --service-node needs {flag} or the variable {VARIABLES[name]}")
    domain = flags.cluster_domain or f"{flags.pod_namespace}.svc.cluster.local"
    return f"{flags.service_type}~{flags.pod_ip}~{flags.pod_name}.{flags.pod_namespace}~{domain}"


def _metadata(
    configured: Any, flags: NodeFlags, environ: Mapping[str, str], read_labels: Callable[[], str]
) -> dict[str, Any]:
    if configured is not None and not isinstance(configured, Mapping):
        raise NodeError(f"node.metadata: expected an object, got {type(configured).__name__}")
    metadata = {name[len(META_PREFIX) :]: value for name, value in environ.items() if name.startswith(META_PREFIX)}
    metadata.pop("", None)
    result: dict[str, Any] = {**metadata, **(configured or {})}
    if not flags.service_meta and not flags.service_lables:
        return result
    for name, value in _MOSN_META.items():
        result.setdefault(name, value)
    if flags.pod_namespace:
        result.setdefault("NAMESPACE", flags.pod_namespace)
    for name, value in _pairs("--service-meta", flags.service_meta).items():
        result[_GO_NAMES.get(name, name)] = value
    known = result.get("LABELS")
    labels = dict(known) if isinstance(known, Mapping) else {}
    labels.update(_pairs("--service-lables", flags.service_lables) or ({} if labels else _MOSN_LABELS))
    labels.update(_pod_labels(read_labels()))
    result["LABELS"] = labels
    return result


def _pairs(flag: str, items: tuple[str, ...]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for item in items:
        name, colon, value = item.partition(":")
        if not colon or not name.strip():
            raise NodeError(f"{flag}: expected KEY:VALUE, got {item!r}")
        pairs[name.strip()] = value.strip()
    return pairs


def _pod_labels(text: str) -> dict[str, str]:
    """Lines `key="value"`; others are ignored."""
    labels = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and name and len(value) >= 2 and value[0] == value[-1] == '"':
            labels[name] = value[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    return labels
