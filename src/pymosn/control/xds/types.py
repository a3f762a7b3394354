"""The words of the xDS protocol (v3), as plain values: types of resources, resources and updates.

Source: the xDS protocol specification (envoyproxy.io, api-docs/xds_protocol).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol

_PREFIX: Final = "type.googleapis.com/"
CLUSTER: Final = _PREFIX + "envoy.config.cluster.v3.Cluster"
ENDPOINTS: Final = _PREFIX + "envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER: Final = _PREFIX + "envoy.config.listener.v3.Listener"
ROUTES: Final = _PREFIX + "envoy.config.route.v3.RouteConfiguration"
SECRET: Final = _PREFIX + "envoy.extensions.transport_sockets.tls.v3.Secret"
EXTENSION: Final = _PREFIX + "envoy.config.core.v3.TypedExtensionConfig"

#: Short names of the types, for logs, metrics and the admin API, in the order in which they are applied.
SHORT: Final[Mapping[str, str]] = {
    CLUSTER: "cds",
    ENDPOINTS: "eds",
    LISTENER: "lds",
    ROUTES: "rds",
    SECRET: "sds",
    EXTENSION: "ecds",
}
#: Types of which a client may ask for all resources; the others are asked for by name.
WILDCARD_TYPES: Final = frozenset({CLUSTER, LISTENER})


#: The name that means all resources of a type, in a subscription and in `Update.absent`.
WILDCARD: Final = "*"


def type_fault(type_url: str) -> str:
    """Why a type URL cannot be served: it is of version 2 of the API. Empty for version 3."""
    name = type_url.rpartition("/")[2]
    if name.startswith("envoy.api.v2."):
        return f"{name} is of xDS version 2, which is not supported; the control plane must send version 3"
    return ""


def version_fault(name: str) -> str:
    """Why a `transport_api_version` cannot be used; empty if it can. `AUTO` and none mean version 2, as in Envoy."""
    if name == "V3":
        return ""
    shown = name or "AUTO"
    return f"transport_api_version {shown} is not supported: version 2 of xDS was removed in 2021; use V3"


class Resource(NamedTuple):
    """One resource of a response.

    `version`: that of the resource (delta), or of the response (state of the world). `body`: the serialized message, never
    empty in an `Update`. `ttl`: seconds after which the client removes it unless it is renewed; None: never.
    """

    name: str
    version: str
    body: bytes
    ttl: float | None = None


#: Name of a resource -> why it was rejected: all faults, with their paths. Empty: everything was accepted.
Rejected = Mapping[str, str]


class Update(NamedTuple):
    """The resources of one type from one or several responses, or the end of a time limit.

    `removed`: names that no longer exist, of those that the client has delivered, or was created with.
    `is_full`: all that exists of the type is in `resources`, `unchanged` or `faults`; everything else no longer exists.
    `absent`: names that the server has not answered in time (`initial_fetch_timeout`), or that it reports as not
    existing; their users stop waiting. `*` is in it if no response of the type has arrived in time.
    `faults`: resources that the client has rejected already, such as two of one name. They keep their last accepted
    content. The client reports them to the server; the consumer only shows them.
    `unchanged`: names that exist with the content that they had; only in an update that `is_full`.
    `is_first`: contains the first response of its type on a new stream; a control plane that has just started may know
    less than it will a moment later. `sender`: the client and its server.
    """

    type_url: str
    version: str
    resources: list[Resource]
    removed: tuple[str, ...] = ()
    is_full: bool = False
    absent: tuple[str, ...] = ()
    faults: Rejected = {}
    unchanged: tuple[str, ...] = ()
    is_first: bool = False
    sender: str = ""


class Consumer(Protocol):
    """Takes what a client has received; implemented by the state of the configuration."""

    async def accept(self, update: Update) -> Rejected:
        """Validates, converts and stores the resources of an update.

        A rejected resource keeps its last accepted content. Returns after the decision, before the workers have the change.
        The client calls it for one update of a type at a time.
        """
