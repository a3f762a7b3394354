"""Selects the cluster by a header: each tenant has its own."""

import msgspec

from pymosn.api import Exchange, Reply, StreamFilter


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    """`tenants`: maps tenants to clusters. `default`: cluster of all others; without it they are rejected."""

    tenants: dict[str, str]
    default: str | None = None
    header: str = "x-tenant"


class TenantRouting(StreamFilter):
    """Sends each tenant's requests to the tenant's cluster."""

    Config = Settings

    def __init__(self, config: Settings) -> None:
        super().__init__(config)
        self.config = config

    def on_request(self, exchange: Exchange) -> Reply | None:
        tenant = exchange.request.headers.get(self.config.header, "")
        cluster = self.config.tenants.get(tenant or "", self.config.default)
        if cluster is None:
            return Reply(404, "no such tenant\n")
        exchange.choose(cluster=cluster)
        return None
