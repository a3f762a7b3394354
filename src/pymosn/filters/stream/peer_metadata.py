"""`peer_metadata`: the workloads of peers, exchanged in headers of requests and responses, for Istio's metrics.

A client's sidecar sends its own metadata with each request, and gets the server's with the response. Neither the app nor the
client sees them: whoever reads the headers removes them.
"""

from __future__ import annotations

from typing import Annotated, Final

from pymosn.api.exchange import Exchange
from pymosn.api.stream_filter import StreamFilter
from pymosn.core.headers import Headers
from pymosn.filters.istio.labels import DOWNSTREAM_PEER, UPSTREAM_PEER
from pymosn.filters.istio.workload import HEADER, ID_HEADER, Peers, header_of, metadata_of, workload_of
from pymosn.filters.settings import Block, own
from pymosn.filters.spec import FilterSpec

_PASSTHROUGH: Final = "PassthroughCluster"
_ANSWERS: Final = "istio answers"
_RAW: Final = HEADER.encode()
_RAW_ID: Final = ID_HEADER.encode()
#: Neither of the two headers.
_NONE: Final = (False, False)


class Settings(Block, kw_only=True):
    """`peer_metadata`: the workloads of peers."""

    downstream_discovery: Annotated[bool, own("read the client's metadata, and remove them from the request")] = False
    upstream_discovery: Annotated[bool, own("read the host's metadata, and remove them from the response")] = False
    downstream_propagation: Annotated[bool, own("send the own metadata to clients that have sent theirs")] = False
    upstream_propagation: Annotated[bool, own("send the own metadata to hosts")] = False
    skip_external_clusters: Annotated[bool, own("not to hosts outside the mesh")] = False
    additional_labels: Annotated[list[str], own("labels of the pod that are sent and read, too")] = []


class PeerMetadataFilter(StreamFilter):
    """Reads and sends metadata. Cost per request: two lookups or two new headers in each direction that is configured."""

    protocols = ("Http1", "Http2")

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._settings = settings
        self._serves = settings.downstream_discovery or settings.downstream_propagation
        self._peers = Peers(settings.additional_labels)
        # The own metadata and id, as they are sent; an empty id is not.
        self._own = b""
        self._id = b""

    async def start(self) -> None:
        node = self.context.node
        name = node.get("id")
        self._id = name.strip().encode() if isinstance(name, str) and name.isascii() and name.isprintable() else b""
        self._own = header_of(workload_of(metadata_of(node), self._settings.additional_labels)).encode()

    def on_request(self, exchange: Exchange) -> None:
        if not self._serves:
            return
        headers = exchange.request.headers
        answers = headers.has_raw(_RAW_ID), headers.has_raw(_RAW)
        if answers == _NONE:
            return
        # The response has the headers that the request had, so that clients without a sidecar get none.
        exchange.state[_ANSWERS] = answers
        if self._settings.downstream_discovery:
            self._discover(exchange, headers, DOWNSTREAM_PEER)

    def on_route(self, exchange: Exchange) -> None:
        if self._settings.upstream_propagation and not self._hides(exchange.cluster_name):
            self._send(exchange.request.headers, True, True)

    def on_response(self, exchange: Exchange) -> None:
        headers = exchange.response_head.headers
        if self._settings.upstream_discovery:
            self._discover(exchange, headers, UPSTREAM_PEER)
        if self._settings.downstream_propagation:
            answers = exchange.state.get(_ANSWERS)
            if isinstance(answers, tuple):
                self._send(headers, *answers)

    def _discover(self, exchange: Exchange, headers: Headers, key: str) -> None:
        """Notes the workload that a peer's headers describe, and removes them."""
        sent = headers.get_raw(_RAW)
        if sent is not None:
            found = self._peers.find(sent)
            if found is not None:
                exchange.state[key] = found
            headers.remove_raw(_RAW)
        headers.remove_raw(_RAW_ID)

    def _send(self, headers: Headers, with_id: bool, with_metadata: bool) -> None:
        """Adds the own metadata, instead of those that were there."""
        if with_id and self._id:
            headers.remove_raw(_RAW_ID)
            headers.add_raw(_RAW_ID, self._id)
        if with_metadata:
            headers.remove_raw(_RAW)
            headers.add_raw(_RAW, self._own)

    def _hides(self, name: str) -> bool:
        """Whether a cluster must not get the metadata."""
        skips = self._settings.skip_external_clusters
        if skips and name == _PASSTHROUGH:
            return True
        cluster = self.context.clusters.get(name) if name else None
        facts = None if cluster is None else cluster.service()
        return facts is not None and (facts.hides_metadata or (skips and facts.is_external))


SPEC: Final = FilterSpec(
    "peer_metadata",
    Settings,
    PeerMetadataFilter,
    "Istio's exchange of metadata in headers, for `istio.stats`; docs/xds-istio.md",
)
