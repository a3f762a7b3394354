"""TLS towards hosts."""

from __future__ import annotations

import ssl

from pymosn.api.network import Transport
from pymosn.core.counters import MetricGroup, TlsStats
from pymosn.network.tls.settings import ClientSettings


class ClientTls(Transport):
    """TLS of a cluster's hosts. Immutable; `Peer.server_name` has the name that is sent and verified."""

    def __init__(self, settings: ClientSettings, ssl_context: ssl.SSLContext, stats: TlsStats | None = None) -> None:
        """`stats`: the cluster's."""
        super().__init__(scheme="https")
        self.settings = settings
        self.ssl_context = ssl_context
        self.stats = stats or TlsStats(MetricGroup("tls", ()))
