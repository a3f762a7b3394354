"""`ClusterLoadAssignment` (EDS, or inside a cluster) -> hosts, localities and shares of requests to refuse.

An assignment may have 100,000 endpoints, so that an ordinary one is read without a `View`: unknown fields are looked for in
the whole message at once, and the fields that are set are known from the descriptors (`_is_as_expected`). Everything else
takes the slow way, which reports each fault with its path.
"""

from __future__ import annotations

import socket
from typing import Any, Final, NamedTuple

from envoy.config.core.v3 import address_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2
from google.protobuf.message import Message
from msgspec.structs import replace

from pymosn.config.schema import Cluster, Host
from pymosn.config.schema.cluster import DropOverload, LocalityWeight
from pymosn.config.schema.router import FilterMetadata, Metadata
from pymosn.control.xds.convert.labels import Labels, read_labels
from pymosn.control.xds.convert.view import Report, View
from pymosn.core.addresses import UNIX, write_address

#: The largest weight of a host in our configuration. Larger ones are scaled down together.
MAX_WEIGHT: Final = 128
#: The highest priority (Envoy's rule for the field).
MAX_PRIORITY: Final = 128
OVERPROVISIONING: Final = 140
MILLION: Final = 1_000_000
#: Different metadata of one assignment whose labels are remembered.
MAX_LABELS: Final = 10_000
_DENOMINATORS: Final = {"HUNDRED": 100, "TEN_THOUSAND": 10_000, "MILLION": MILLION}
#: `health_status` -> `health` of a host, by number: UNKNOWN, HEALTHY, UNHEALTHY, DRAINING, TIMEOUT, DEGRADED.
_HEALTH: Final = ("", "healthy", "unhealthy", "draining", "unhealthy", "degraded")
_TCP: Final = 0


class ConvertedEndpoints(NamedTuple):
    """The hosts of one cluster.

    `localities`: their weights, for clusters that balance by locality. `overprovisioning`: percent. `stale_after`: seconds
    after which the endpoints may no longer be used; None: never.
    """

    name: str
    hosts: list[Host]
    localities: list[LocalityWeight]
    overprovisioning: int = OVERPROVISIONING
    drops: tuple[DropOverload, ...] = ()
    stale_after: float | None = None


def convert_endpoints(view: View, has_names: bool = False) -> ConvertedEndpoints:
    """The hosts of an assignment. `has_names`: host names are allowed, because they will be resolved by DNS."""
    with view:
        name = str(view.value("cluster_name"))
        view.refuse("named_endpoints", "endpoints that are referred to by name are not supported")
        factor, drops, stale_after = _policy(view.inner("policy"))
        reader = _Reader(has_names, _is_as_expected() and not _has_unknown_fields(view.message))
        for places in view.items("endpoints"):
            reader.read_locality(places)
        if reader.has_additional:
            view.warn(
                "endpoints", "additional_addresses are not used: only the first address of an endpoint is connected to"
            )
    hosts = [host for _, found in sorted(reader.found, key=lambda pair: pair[0]) for host in found]
    return ConvertedEndpoints(name, _with_small_weights(hosts), reader.localities, factor, drops, stale_after)


class _Reader:
    """Collects the hosts of all localities."""

    def __init__(self, has_names: bool, is_fast: bool) -> None:
        self.has_additional = False
        #: Priority and hosts of each locality.
        self.found: list[tuple[int, list[Host]]] = []
        self.localities: list[LocalityWeight] = []
        self._has_names = has_names
        self._is_fast = is_fast
        self._labels: dict[bytes, Labels] = {}

    def read_locality(self, view: View) -> None:
        """Adds the hosts of a `LocalityLbEndpoints`."""
        with view:
            locality = _locality(view.inner("locality"))
            priority = int(view.value("priority"))
            weight = int(view.wrapped("load_balancing_weight") or 0)
            view.refuse("leds_cluster_locality_config", "LEDS is not supported")
            if priority > MAX_PRIORITY - 1:
                view.fault("priority", f"must be below {MAX_PRIORITY}")
            hosts: list[Host] = []
            for owner, field in self._lists(view):
                messages = owner.values(field)
                for i, message in enumerate(messages):
                    host = self._fast(message) if self._is_fast else None
                    if host is None:
                        host = self._slow(View(message, f"{owner.at(field)}[{i}]", owner.report))
                    if host is not None:
                        host.priority, host.locality = priority, locality
                        hosts.append(host)
                if owner is not view:
                    owner.close()
            self.found.append((priority, hosts))
            if weight and hosts:
                self.localities.append(LocalityWeight(locality=locality, priority=priority, weight=weight))

    @staticmethod
    def _lists(view: View) -> list[tuple[View, str]]:
        inner = view.inner("load_balancer_endpoints")
        lists = [(view, "lb_endpoints")]
        return lists if inner is None else [*lists, (inner, "lb_endpoints")]

    def _fast(self, message: Any) -> Host | None:
        """An ordinary endpoint, with an IP address; None for any other."""
        endpoint = message.endpoint
        if endpoint.HasField("health_check_config") or message.endpoint_name or endpoint.additional_addresses:
            return None
        address = endpoint.address.socket_address
        port, ip, status = address.port_value, address.address, message.health_status
        if not 0 < port < 65536 or not 0 <= status < len(_HEALTH) or address.protocol != _TCP or address.ipv4_compat:
            return None
        if address.resolver_name or address.network_namespace_filepath:
            return None
        written = _ip_and_port(ip, port)
        if written is None:
            return None
        host = Host(address=written, hostname=endpoint.hostname, health=_HEALTH[status])
        if message.HasField("load_balancing_weight"):
            host.weight = message.load_balancing_weight.value
            if not host.weight:
                return None
        if message.HasField("metadata"):
            return self._with_labels(host, message.metadata)
        return host

    def _with_labels(self, host: Host, metadata: Message) -> Host | None:
        """A host with labels, which many have in common; None if they are not ordinary."""
        body = metadata.SerializeToString()
        labels = self._labels.get(body)
        if labels is None:
            report = Report()
            labels = read_labels(View(metadata, "", report))
            if report.faults or report.warnings:
                return None
            if len(self._labels) < MAX_LABELS:
                self._labels[body] = labels
        host.tls_labels, host.workload = labels.tls, labels.workload
        if labels.subset:
            host.metadata = Metadata(filter_metadata=FilterMetadata(mosn_lb=dict(labels.subset)))
        return host

    def _slow(self, view: View) -> Host | None:
        """Any endpoint; None, with a fault, if it cannot be used."""
        with view:
            view.refuse("endpoint_name", "endpoints that are referred to by name are not supported")
            weight = view.wrapped("load_balancing_weight")
            if weight == 0:
                view.fault("load_balancing_weight", "must be at least 1")
            status = int(view.value("health_status"))
            if not 0 <= status < len(_HEALTH):
                view.fault("health_status", f"unknown value {status}")
                status = 0
            labels = read_labels(view.inner("metadata"))
            endpoint = view.inner("endpoint")
            if endpoint is None:
                if not view.has("endpoint_name"):
                    view.fault("endpoint", "missing")
                return None
            host = self._endpoint(endpoint)
            if host is None:
                return None
            host.weight, host.health, host.tls_labels = weight or 1, _HEALTH[status], labels.tls
            host.workload = labels.workload
            if labels.subset:
                host.metadata = Metadata(filter_metadata=FilterMetadata(mosn_lb=dict(labels.subset)))
            return host

    def _endpoint(self, view: View) -> Host | None:
        with view:
            name = str(view.value("hostname"))
            if view.values("additional_addresses"):
                self.has_additional = True
            check = view.inner("health_check_config")
            skips = False
            if check is not None:
                with check:
                    skips = bool(check.value("disable_active_health_check"))
            address = read_address(view.inner("address"), self._has_names)
            if address is None:
                if not view.has("address"):
                    view.fault("address", "missing")
                return None
            return Host(address=address, hostname=name, skip_health_check=skips)


def read_address(view: View | None, has_names: bool) -> str | None:
    """An `envoy.config.core.v3.Address` as our `address`; None, with a fault, if it cannot be connected to."""
    if view is None:
        return None
    with view:
        pipe, plain = view.inner("pipe"), view.inner("socket_address")
        view.refuse("envoy_internal_address", "internal listeners are not supported")
        if pipe is not None:
            with pipe:
                path = str(pipe.value("path"))
                if path.startswith("@"):
                    pipe.fault("path", "abstract sockets are not supported")
                pipe.value("mode")  # of a listener's socket
                return f"{UNIX}{path}"
        if plain is None:
            if not view.has("envoy_internal_address"):
                view.fault("", "no address")
            return None
        with plain:
            return _socket_address(plain, has_names)


def _socket_address(view: View, has_names: bool) -> str | None:
    if view.enum("protocol") != "TCP":
        view.fault("protocol", "hosts are connected to by TCP only")
    view.value("ipv4_compat")
    view.refuse("named_port", "ports must be numbers")
    host, port = str(view.value("address")), int(view.value("port_value"))
    written = _ip_and_port(host, port)
    if not 0 < port < 65536:
        view.fault("port_value", f"not a port: {port}")
    elif written is not None:
        return written
    elif has_names and host:
        return write_address(host, port)
    else:
        view.fault("address", f"not an IP address: {host!r}")
    return None


def _ip_and_port(ip: str, port: int) -> str | None:
    """`ip:port`; None if it is no IP address."""
    is_v6 = ":" in ip
    try:
        socket.inet_pton(socket.AF_INET6 if is_v6 else socket.AF_INET, ip)
    except (OSError, ValueError):
        return None
    return write_address(ip, port)


def _locality(view: View | None) -> str:
    if view is None:
        return ""
    with view:
        names = [str(view.value(name)) for name in ("region", "zone", "sub_zone")]
    return "/".join(names).rstrip("/")


def _policy(view: View | None) -> tuple[int, tuple[DropOverload, ...], float | None]:
    if view is None:
        return OVERPROVISIONING, (), None
    with view:
        factor = view.wrapped("overprovisioning_factor")
        if factor == 0:
            view.fault("overprovisioning_factor", "must be above 0")
        stale_after = view.seconds("endpoint_stale_after")
        if stale_after:
            view.warn("endpoint_stale_after", "has no effect: endpoints are used until the control plane replaces them")
        if view.value("weighted_priority_health"):
            view.warn("weighted_priority_health", "has no effect: the health of a priority is that of its number of hosts")
        drops = tuple(_drop(drop) for drop in view.items("drop_overloads"))
    return factor or OVERPROVISIONING, drops, stale_after


def _drop(view: View) -> DropOverload:
    with view:
        percentage, share = view.inner("drop_percentage"), 0
        category = str(view.value("category"))
        if percentage is not None:
            with percentage:
                unit = _DENOMINATORS.get(percentage.enum("denominator"), 0)
                if unit == 0:
                    percentage.fault("denominator", "unknown")
                share = min(MILLION, int(percentage.value("numerator")) * MILLION // (unit or MILLION))
    return DropOverload(category=category, per_million=share)


def _with_small_weights(hosts: list[Host]) -> list[Host]:
    """The hosts with weights up to MAX_WEIGHT, in the same proportions as far as possible."""
    greatest = max((host.weight for host in hosts), default=1)
    if greatest > MAX_WEIGHT:
        for host in hosts:
            host.hash_weight = host.weight
            host.weight = max(1, round(host.weight * MAX_WEIGHT / greatest))
    return hosts


def with_endpoints(cluster: Cluster, endpoints: ConvertedEndpoints, weighs_localities: bool) -> Cluster:
    """A cluster of the configuration with the hosts of its assignment. Neither of the two is changed."""
    return replace(
        cluster,
        hosts=endpoints.hosts,
        localities=endpoints.localities if weighs_localities else [],
        overprovisioning_factor=endpoints.overprovisioning,
        drop_overload=list(endpoints.drops),
    )


# ---- the fast way

#: The fields of the messages that are read without a `View`, all of which it considers.
_EXPECTED: Final = (
    (
        endpoint_components_pb2.LbEndpoint,
        {"endpoint", "endpoint_name", "health_status", "metadata", "load_balancing_weight"},
    ),
    (endpoint_components_pb2.Endpoint, {"address", "health_check_config", "hostname", "additional_addresses"}),
    (address_pb2.Address, {"socket_address", "pipe", "envoy_internal_address"}),
    (
        address_pb2.SocketAddress,
        {
            "protocol",
            "address",
            "port_value",
            "named_port",
            "resolver_name",
            "ipv4_compat",
            "network_namespace_filepath",
        },
    ),
)


def _is_as_expected() -> bool:
    """Whether these messages have no other fields, as a newer version of the protocol may."""
    return all({field.name for field in kind.DESCRIPTOR.fields} == names for kind, names in _EXPECTED)


def _has_unknown_fields(message: Message) -> bool:
    """Whether a message, or one inside it, has fields that the protocol's version here does not have."""
    copy = type(message)()
    copy.CopyFrom(message)
    copy.DiscardUnknownFields()
    return bool(copy.ByteSize() != message.ByteSize())
