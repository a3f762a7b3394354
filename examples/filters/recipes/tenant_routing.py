"""Selects the cluster by a header: each tenant has its own."""

from typing import Annotated

import msgspec

from pymosn.api import Exchange, Reply, StreamFilter


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    """`tenants`: maps tenants to clusters. `default`: cluster of all others; without it they are rejected."""

    tenants: Annotated[dict[str, str], msgspec.Meta(min_length=1)]
    default: str | None = None
    header: Annotated[str, msgspec.Meta(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")] = "x-tenant"


class TenantRouting(StreamFilter):
    """Sends each tenant's requests to the tenant's cluster."""

    Config = Settings
    protocols = ("Http1", "Http2")

    def __init__(self, config: Settings) -> None:
        super().__init__(config)
        self.config = config

    # Not in on_request, which runs before every filter's on_route, so before `api_key_auth` and `jwt_authn` set the header.
    def on_route(self, exchange: Exchange) -> Reply | None:
        # `single` rejects a header with several values with 400: the upstream could see another one than this filter.
        tenant = exchange.request.headers.single(self.config.header)
        cluster = self.config.tenants.get(tenant or "", self.config.default)
        if cluster is None:
            return Reply(404, "no such tenant\n")
        exchange.choose(cluster=cluster)
        return None

    def on_response(self, exchange: Exchange) -> None:
        headers = exchange.response_head.headers
        names = [part.strip().lower() for field in headers.get_all("vary") for part in field.split(",")]
        if "*" not in names and self.config.header.lower() not in names:
            headers.add("vary", self.config.header)  # for caches in front of the proxy
