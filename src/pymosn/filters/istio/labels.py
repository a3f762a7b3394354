"""The standard labels of Istio's metrics for one request or connection, and the changes that a configuration makes to them.

    source_*       the own workload, if it reports as `source`, else the peer
    destination_*  the other one; the service is that of the cluster

What is unknown is `unknown`; only a revision is `latest`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from pymosn.api.envoy_variables import envoy_flags
from pymosn.api.exchange import Exchange
from pymosn.api.stream_filter import ClusterClient
from pymosn.api.upstream import ServiceFacts
from pymosn.core.headers import to_text
from pymosn.core.message import UnreadableHeaders
from pymosn.filters.istio.dimensions import Value, value_of
from pymosn.filters.istio.settings import DESTINATION, METRICS, SOURCE, WAYPOINT, Metric, StatsSettings
from pymosn.filters.istio.workload import MAX_NAME, NO_WORKLOAD, Workload, workload_in, workload_of
from pymosn.filters.stream.problems import Problems

UNKNOWN: Final = "unknown"
LATEST: Final = "latest"
#: Where the workloads of peers are noted, in `exchange.state`.
DOWNSTREAM_PEER: Final = "istio downstream peer"
UPSTREAM_PEER: Final = "istio upstream peer"
#: Clusters that do not stand for a service: the label `destination_service_name` is their own name.
_NO_SERVICES: Final = frozenset(
    (
        *("BlackHoleCluster", "PassthroughCluster", "InboundPassthroughCluster"),
        *("InboundPassthroughClusterIpv4", "InboundPassthroughClusterIpv6"),
    )
)
#: Names of such routes -> the name of the cluster.
_ROUTES: Final = {"block_all": "BlackHoleCluster", "allow_any": "PassthroughCluster"}
_NO_SERVICE: Final = ServiceFacts()
_SIDES: Final = (
    *("workload", "canonical_service", "canonical_revision", "workload_namespace", "principal", "app", "version", "cluster"),
)
#: All standard labels.
LABELS: Final = (
    "reporter",
    *(f"{side}_{label}" for side in ("source", "destination") for label in _SIDES),
    *("destination_service", "destination_service_name", "destination_service_namespace", "request_protocol"),
    *("response_code", "grpc_response_status", "response_flags", "connection_security_policy"),
)

Labels = dict[str, str]


class Facts(NamedTuple):
    """What the labels of one request or connection depend on. `security`: of the connection; `values`: of dimensions."""

    peer: Workload
    server: Workload
    peer_identity: str
    own_identity: str
    service: str
    service_name: str
    service_namespace: str
    protocol: str
    code: str
    grpc_status: str
    flags: str
    security: str
    values: tuple[str, ...]


def label(value: str) -> str:
    """A value of a label; `unknown` for one that is empty, too long, or has characters that cannot be shown."""
    return value if value and len(value) <= MAX_NAME and value.isprintable() else UNKNOWN


class Labeller:
    """Makes the labels of the metrics of one configuration."""

    def __init__(self, settings: StatsSettings, node: Mapping[str, Any], clusters: Mapping[str, ClusterClient]) -> None:
        """`node`: the metadata of the own node. Raises FilterConfigError."""
        self.reporter = settings.reporter
        self._own = workload_of(node)
        self._clusters = clusters
        self._uses_host = not settings.disable_host_header_fallback
        self._values: list[Value] = []
        problems = Problems()
        self._changes = {name: _Changes() for name in METRICS}
        for i, metric in enumerate(settings.metrics):
            self._read(metric, f".metrics[{i}]", node, problems)
        problems.end()

    def _read(self, metric: Metric, path: str, node: Mapping[str, Any], problems: Problems) -> None:
        changed = [self._changes[metric.name]] if metric.name in self._changes else list(self._changes.values())
        for name, expression in sorted(metric.dimensions.items()):
            value = value_of(expression, node)
            if value is None:
                what = metric.name or "all metrics"
                problems.add(f"{path}.dimensions.{name}", f"{what}: the expression {expression!r} is not supported")
                continue
            self._values.append(value)
            for changes in changed:
                changes.added[name] = len(self._values) - 1
                changes.removed.discard(name)
        for changes in changed:
            changes.removed.update(set(metric.tags_to_remove) - set(metric.dimensions))
            changes.is_dropped = changes.is_dropped or metric.drop

    def reports(self, metric: str) -> bool:
        """Whether a metric is reported."""
        return not self._changes[metric].is_dropped

    # ---- what an exchange is

    def facts(self, exchange: Exchange, protocol: str, code: str = "", grpc_status: str = "") -> Facts:
        """The facts of an exchange. `protocol`: `http`, `grpc` or `tcp`."""
        cluster = self._clusters.get(exchange.cluster_name) if exchange.cluster_name else None
        is_http = protocol != "tcp"
        name = self._service(exchange, None if cluster is None else cluster.service(), is_http)
        state = exchange.state
        server = NO_WORKLOAD
        if self.reporter == SOURCE:
            peer = _peer(state.get(UPSTREAM_PEER)) or _endpoint(cluster, exchange)
            tls, security = exchange.upstream_tls, UNKNOWN
        else:
            peer = _peer(state.get(DOWNSTREAM_PEER)) or NO_WORKLOAD
            if self.reporter == WAYPOINT:
                server = _peer(state.get(UPSTREAM_PEER)) or _endpoint(cluster, exchange)
            tls, security = exchange.connection.tls, ""
        certificate = None if tls is None else tls.certificate
        identity = certificate.uris[0] if certificate is not None and certificate.is_verified and certificate.uris else ""
        own = tls.own_uris[0] if tls is not None and tls.own_uris else ""
        security = security or ("mutual_tls" if identity and own else "none")
        flags = envoy_flags(exchange.failure) or "-"
        values = tuple([_evaluated(value, exchange) for value in self._values])
        return Facts(peer, server, identity, own, *name, protocol, code, grpc_status, flags, security, values)

    def _service(self, exchange: Exchange, facts: ServiceFacts | None, has_host: bool) -> tuple[str, str, str]:
        """Host, name and namespace of the destination's service; empty texts if unknown."""
        host = to_text(exchange.request.raw_host) if has_host and self._uses_host else ""
        if len(host) > MAX_NAME:
            host = ""  # it would be `unknown` anyway; facts are remembered, and must be small
        route = "" if exchange.route is None else exchange.route.label
        if route in _ROUTES:
            return host, _ROUTES[route], ""
        if exchange.cluster_name in _NO_SERVICES:
            return host, exchange.cluster_name, ""
        found = facts or _NO_SERVICE
        return found.host or host, found.name or host, found.namespace

    # ---- labels

    def labels(self, facts: Facts) -> Labels:
        """The standard labels."""
        found: Labels = {"reporter": self.reporter}
        if self.reporter == SOURCE:
            found.update(_side("source", self._own, facts.own_identity))
            found.update(_side("destination", facts.peer, facts.peer_identity))
        else:
            found.update(_side("source", facts.peer, facts.peer_identity))
            if self.reporter == DESTINATION:
                found.update(_side("destination", self._own, facts.own_identity))
            else:
                found.update(_side("destination", facts.server, "", UNKNOWN))
        service, name, namespace = facts.service, facts.service_name, facts.service_namespace
        if self.reporter == DESTINATION:
            service, name = service or self._own.service, name or self._own.service
            namespace = self._own.namespace
        elif self.reporter == SOURCE and not namespace:
            namespace = found["destination_workload_namespace"]
        found["destination_service"] = label(service)
        found["destination_service_name"] = label(name)
        found["destination_service_namespace"] = label(namespace)
        found["request_protocol"] = facts.protocol
        if facts.code:
            found["response_code"] = facts.code
            found["grpc_response_status"] = facts.grpc_status
        found["response_flags"] = facts.flags
        found["connection_security_policy"] = facts.security
        return found

    def labels_of(self, metric: str, standard: Labels, values: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
        """The labels of a metric: the standard ones with the changes of the configuration."""
        changes = self._changes[metric]
        found = {name: value for name, value in standard.items() if name not in changes.removed}
        found.update({name: values[index] for name, index in changes.added.items()})
        return tuple(found.items())

    def overflow(self, metric: str, standard: Iterable[str]) -> tuple[tuple[str, str], ...]:
        """The labels of a metric for everything above the limit of sets."""
        changes = self._changes[metric]
        names = dict.fromkeys([*(name for name in standard if name not in changes.removed), *changes.added])
        return tuple((name, self.reporter if name == "reporter" else "overflow") for name in names)


class _Changes:
    """Those to one metric. `added`: label -> index of its value."""

    def __init__(self) -> None:
        self.added: dict[str, int] = {}
        self.removed: set[str] = set()
        self.is_dropped = False


def _side(side: str, workload: Workload, identity: str, revision: str = LATEST) -> Labels:
    """The labels of one side. Its namespace is that of its identity, which is verified, if it has one."""
    namespace = _namespace_of(identity) or workload.namespace
    return {
        f"{side}_workload": label(workload.workload),
        f"{side}_canonical_service": label(workload.service),
        f"{side}_canonical_revision": label(workload.revision or revision),
        f"{side}_workload_namespace": label(namespace),
        f"{side}_principal": label(identity),
        f"{side}_app": label(workload.app),
        f"{side}_version": label(workload.version),
        f"{side}_cluster": label(workload.cluster),
    }


def _namespace_of(identity: str) -> str:
    """The namespace in `spiffe://<domain>/ns/<namespace>/sa/<account>`."""
    return identity.partition("/ns/")[2].partition("/")[0]


def _peer(noted: object) -> Workload | None:
    """A workload that was noted, without what no label depends on: the replicas of a workload have the same facts."""
    return noted._replace(instance="", kind="", labels=()) if isinstance(noted, Workload) else None


def _endpoint(cluster: ClusterClient | None, exchange: Exchange) -> Workload:
    """The workload of the chosen host, as the control plane describes it."""
    if cluster is None or not exchange.upstream_address:
        return NO_WORKLOAD
    described = cluster.workload_of(exchange.upstream_address)
    return workload_in(described) if described else NO_WORKLOAD


def _evaluated(value: Value, exchange: Exchange) -> str:
    try:
        return label(value(exchange))
    except UnreadableHeaders:  # unknown, as a failed expression in Envoy
        return UNKNOWN
