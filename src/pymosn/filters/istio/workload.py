"""A workload of a mesh: from the metadata of a node, of an endpoint, and from and to the headers that sidecars exchange.

`x-envoy-peer-metadata` is a google.protobuf.Struct in Base64, with some keys of the node's metadata. They are
not verified, unlike the certificate of the peer: the names are labels of metrics, never a reason to allow anything.
"""

from __future__ import annotations

import binascii
from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

from pymosn.core.proto_wire import Budget, Fields, read_struct, struct

#: The headers of the exchange: the id of the node, and its metadata.
ID_HEADER: Final = "x-envoy-peer-metadata-id"
HEADER: Final = "x-envoy-peer-metadata"
#: The longest metadata that are read, in characters of Base64.
MAX_HEADER: Final = 16 * 1024
#: Protobuf fields that are read at most, four for each text: a header of 16 KiB with thousands of them takes milliseconds.
MAX_FIELDS: Final = 512
#: The longest header that is remembered: those of pods have less than half.
REMEMBERED: Final = 2048
#: The longest name that becomes a label: as long as a name of Kubernetes can be. A longer one counts as unknown.
MAX_NAME: Final = 253

_CANONICAL_NAME: Final = "service.istio.io/canonical-name"
_CANONICAL_REVISION: Final = "service.istio.io/canonical-revision"
#: Before the namespace in `OWNER`.
_OWNERS: Final = "kubernetes://apis/apps/v1/namespaces/"
#: Kinds of owners of pods.
_KINDS: Final = ("pod", "deployment", "job", "cronjob")


class Workload(NamedTuple):
    """What is known of a workload; empty texts if unknown. `kind`: of its owner. `labels`: additional ones, sorted."""

    workload: str = ""
    namespace: str = ""
    cluster: str = ""
    service: str = ""
    revision: str = ""
    app: str = ""
    version: str = ""
    instance: str = ""
    kind: str = ""
    labels: tuple[tuple[str, str], ...] = ()


#: A peer of which nothing is known.
NO_WORKLOAD: Final = Workload()


def metadata_of(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """The metadata of a node."""
    found = node.get("metadata")
    return found if isinstance(found, Mapping) else {}


def workload_of(metadata: Mapping[str, Any], additional: Collection[str] = ()) -> Workload:
    """The workload that metadata of a node describe. `additional`: names of labels that are kept, too."""
    labels = metadata.get("LABELS")
    pod: Mapping[str, Any] = labels if isinstance(labels, Mapping) else {}
    name = _name(metadata.get("WORKLOAD_NAME"))
    return Workload(
        workload=name,
        namespace=_name(metadata.get("NAMESPACE")),
        cluster=_name(metadata.get("CLUSTER_ID")),
        service=_name(pod.get(_CANONICAL_NAME)),
        revision=_name(pod.get(_CANONICAL_REVISION)),
        app=_name(pod.get("app")),
        version=_name(pod.get("version")),
        instance=_name(metadata.get("NAME")),
        kind=_kind(metadata.get("OWNER"), name),
        labels=tuple((key, text) for key in sorted(additional) if (text := _name(pod.get(key)))),
    )


def workload_in(endpoint: str) -> Workload:
    """The workload in the metadata of an endpoint: `name;namespace;service;revision;cluster`."""
    parts = endpoint.split(";")
    if len(parts) < 5:
        return NO_WORKLOAD
    name, namespace, service, revision, cluster = (_name(part) for part in parts[:5])
    return Workload(name, namespace, cluster, service, revision)


def header_of(workload: Workload) -> str:
    """The value of HEADER for a workload. Keys are in the order of their names, as Istio's proxy writes them."""
    labels = {
        _CANONICAL_NAME: workload.service,
        _CANONICAL_REVISION: workload.revision,
        "app": workload.app,
        "version": workload.version,
        **dict(workload.labels),
    }
    owner = f"{_OWNERS}{workload.namespace}/{workload.kind}s/{workload.workload}" if workload.kind else ""
    metadata: dict[str, object] = {
        "CLUSTER_ID": workload.cluster,
        "LABELS": {key: labels[key] for key in sorted(labels) if labels[key]},
        "NAME": workload.instance,
        "NAMESPACE": workload.namespace,
        "OWNER": owner,
        "WORKLOAD_NAME": workload.workload,
    }
    known = {key: value for key, value in metadata.items() if value or key == "LABELS"}
    return binascii.b2a_base64(struct(known), newline=False).decode()


def workload_from(header: str, additional: Collection[str] = ()) -> Workload | None:
    """The workload in a header of a peer; None if it cannot be read."""
    if not header or len(header) > MAX_HEADER:
        return None
    text = header.rstrip("=")
    try:
        body = binascii.a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True)
        return workload_of(read_struct(Fields(body, Budget(MAX_FIELDS))), additional)
    except ValueError:
        return None


def _name(value: object) -> str:
    """A text that may be a label; empty for anything else."""
    return value if isinstance(value, str) and len(value) <= MAX_NAME and value.isprintable() else ""


def _kind(owner: object, name: str) -> str:
    """The kind in `OWNER`, as in `.../namespaces/default/deployments/echo`."""
    if not isinstance(owner, str) or not name or not owner.endswith(f"s/{name}"):
        return ""
    kind = owner[: -len(name) - 2].rpartition("/")[2]
    return kind if kind in _KINDS else ""


class Peers:
    """The workloads of peers by their headers, of which a bounded number is remembered.

    Not by their ids: a peer chooses its id, so that it could get the labels of another one.
    """

    def __init__(self, additional: Collection[str] = (), limit: int = 500) -> None:
        self._additional = additional
        self._limit = limit
        self._known: dict[bytes, Workload | None] = {}

    def find(self, header: bytes) -> Workload | None:
        """The workload in a header; None if it cannot be read."""
        if header in self._known:
            return self._known[header]
        found = workload_from(header.decode("latin-1"), self._additional)
        if len(header) <= REMEMBERED:
            if len(self._known) >= self._limit:
                self._known.clear()
            self._known[header] = found
        return found
