"""`external_authz` of connections: a service of envoy.service.auth.v3 decides whether a connection is allowed."""

from __future__ import annotations

from typing import Any

from pymosn.api.connection_filter import ConnectionFilter, FilteredConnection, SharedState
from pymosn.core.errors import reason
from pymosn.core.failure import ACCESS_DENIED, AUTHORIZATION_FAILED
from pymosn.core.headers import HeaderError
from pymosn.core.log import WARN
from pymosn.filters.connection.session import session_of
from pymosn.filters.stream.authz_messages import CHECK, connection_request, read_verdict
from pymosn.filters.stream.dynamic_metadata import metadata_test
from pymosn.filters.stream.envoy_match import EVERY_READING, EnvoyObject
from pymosn.filters.stream.grpc_call import CallError, GrpcTarget, call
from pymosn.filters.stream.problems import Problems


class ExternalAuthzState(SharedState):
    """The settings: `grpc` (`cluster`, `authority`, `metadata`), `timeout` (seconds), `failure_mode_allow`,
    `enabled_metadata` and `include_peer_certificate`, as in the stream filter `external_authz`."""

    def __init__(self, config: Any) -> None:
        """Raises FilterConfigError."""
        super().__init__(config)
        problems = Problems()
        self.target = GrpcTarget()
        self.is_enabled = None
        with EnvoyObject(config, "", problems) as source:
            if "grpc" in source:
                with source.inner("grpc") as inner:
                    self.target.cluster = inner.take("cluster", str, "")
                    self.target.authority = inner.take("authority", str, "")
                    self.target.metadata = inner.take("metadata", dict, {})
            problems.require(self.target.cluster, ".grpc.cluster", "the cluster of the service is missing")
            self.timeout = float(source.take("timeout", float, 0.2))
            problems.require(self.timeout > 0, ".timeout", "must be greater than 0")
            self.allows_failures: bool = source.take("failure_mode_allow", bool, False)
            self.with_certificate: bool = source.take("include_peer_certificate", bool, False)
            if "enabled_metadata" in source:
                self.is_enabled = metadata_test(source.inner("enabled_metadata"))
        problems.end()


class ExternalAuthzConnectionFilter(ConnectionFilter):
    """Asks the service about each connection; it is reset unless the service allows it."""

    Shared = ExternalAuthzState
    timeout = 0.0  # that of the call

    async def on_connection(self, connection: FilteredConnection) -> None:
        shared: ExternalAuthzState = self.shared
        if shared.is_enabled is not None and not shared.is_enabled(session_of(connection), EVERY_READING):
            return
        context, target = self.context, shared.target
        message = connection_request(connection, shared.with_certificate, context.clock.wall())
        try:
            client = context.clusters[target.cluster]
            answer = await call(client, CHECK, message, shared.timeout, target.authority, [*target.metadata.items()])
            verdict = read_verdict(answer)
        except (CallError, KeyError, HeaderError, ValueError) as error:
            context.counter("failed").value += 1
            context.write(f"no decision from cluster {target.cluster!r}: {reason(error)}", WARN)
            if not shared.allows_failures:
                connection.abort(AUTHORIZATION_FAILED)
            return
        if verdict.status != 0:
            context.counter("denied").value += 1
            connection.abort(ACCESS_DENIED)
