"""Fields of Envoy's messages that may be ignored, each with the reason. All others must be read, or reject their resource.

docs/xds-fields.md is generated from this table and from what the converters read.
"""

from collections.abc import Mapping
from typing import Final

#: Why limits of what is kept of a body do not matter.
_KEPT: Final = "what is kept of a body for retries and copies has a limit of its own"


def _in(package: str, fields: Mapping[str, str]) -> dict[str, str]:
    """The fields of the messages of one package, by their full names."""
    return {f"{package}.{name}": why for name, why in fields.items()}


#: Full name of the field -> why ignoring it is harmless.
HARMLESS: Final[Mapping[str, str]] = {
    "envoy.config.cluster.v3.Cluster.alt_stat_name": "names Envoy's statistics",
    **_in(
        "envoy.config.cluster.v3",
        {
            "CircuitBreakers.Thresholds.track_remaining": "statistics",
            "Cluster.CommonLbConfig.close_connections_on_host_set_change": "connections of hosts that remain are kept",
            "Cluster.CommonLbConfig.override_host_status": "is for stateful sessions, whose filters are rejected",
            "Cluster.CommonLbConfig.update_merge_window": "changes are applied at once",
            "Cluster.cleanup_interval": "when unused hosts of an ORIGINAL_DST cluster are forgotten; here after a minute",
            "Cluster.dns_failure_refresh_rate": "failed lookups are repeated with a back-off of their own",
            "Cluster.dns_jitter": "spreads lookups in time",
            "Cluster.ignore_health_on_host_removal": "a removed host is never used for new requests",
            "Cluster.lrs_report_endpoint_metrics": "reports of load are not sent",
            "Cluster.lrs_server": "reports of load are not sent",
            "Cluster.metadata": "is for filters and statistics, none of which read it",
            "Cluster.preconnect_policy": "opens connections in advance",
            "Cluster.track_cluster_stats": "statistics",
            "Cluster.track_timeout_budgets": "statistics",
            "OutlierDetection.successful_active_health_check_uneject_host": "an ejection ends after its time",
            "UpstreamConnectionOptions.happy_eyeballs_config": "one address of a host is connected to",
            "UpstreamConnectionOptions.set_local_interface_name_on_upstream_connections": "is for logs",
        },
    ),
    **_in(
        "envoy.config.endpoint.v3",
        {
            "LocalityLbEndpoints.metadata": "is for filters and statistics, none of which read it",
            "LocalityLbEndpoints.proximity": "is not used by Envoy's policies either",
        },
    ),
    **_in(
        "envoy.extensions.clusters.dns.v3",
        {
            "DnsCluster.dns_failure_refresh_rate": "failed lookups are repeated with a back-off of their own",
            "DnsCluster.dns_jitter": "spreads lookups in time",
        },
    ),
    **_in(
        "envoy.extensions.network.dns_resolver.cares.v3",
        {
            "CaresDnsResolverConfig.edns0_max_payload_size": "a detail of Envoy's resolver",
            "CaresDnsResolverConfig.filter_unroutable_families": "a detail of Envoy's resolver",
            "CaresDnsResolverConfig.max_udp_channel_duration": "a detail of Envoy's resolver",
            "CaresDnsResolverConfig.reinit_channel_on_timeout": "a detail of Envoy's resolver",
            "CaresDnsResolverConfig.rotate_nameservers": "a detail of Envoy's resolver",
            "CaresDnsResolverConfig.udp_max_queries": "a detail of Envoy's resolver",
        },
    ),
    **_in(
        "envoy.extensions.network.dns_resolver.getaddrinfo.v3",
        {
            "GetAddrInfoDnsResolverConfig.num_resolver_threads": "a detail of Envoy's resolver",
            "GetAddrInfoDnsResolverConfig.num_retries": "a detail of Envoy's resolver",
        },
    ),
    **_in(
        "envoy.config.core.v3",
        {
            "ApiConfigSource.config_validators": "are extensions of Envoy",
            "GrpcService.EnvoyGrpc.authority": "the name of the server's cluster is used",
            "GrpcService.timeout": "the stream has no end",
            "HealthCheck.HttpHealthCheck.response_buffer_size": "bodies of responses are not read",
            "HealthCheck.always_log_health_check_failures": "logs",
            "HealthCheck.always_log_health_check_success": "logs",
            "HealthCheck.event_logger": "logs",
            "HealthCheck.event_service": "logs",
            "HealthCheck.healthy_edge_interval": "the interval is the same in every state",
            "HealthCheck.initial_jitter": "checks begin at once",
            "HealthCheck.no_traffic_healthy_interval": "the interval is the same without traffic",
            "HealthCheck.no_traffic_interval": "the interval is the same without traffic",
            "HealthCheck.reuse_connection": "each check connects",
            "HealthCheck.tls_options": "the protocol of the check is offered",
            "HealthCheck.unhealthy_edge_interval": "the interval is the same in every state",
            "HealthCheck.unhealthy_interval": "the interval is the same in every state",
            "Http1ProtocolOptions.accept_http_10": "is for listeners",
            "Http1ProtocolOptions.allow_absolute_url": "is for listeners",
            "Http1ProtocolOptions.allow_chunked_length": "a response with both is always rejected",
            "Http1ProtocolOptions.allow_custom_methods": "all methods are forwarded",
            "Http1ProtocolOptions.default_host_for_http_10": "is for listeners",
            "Http1ProtocolOptions.enable_trailers": "trailers are always forwarded",
            "Http1ProtocolOptions.ignore_http_11_upgrade": "is for listeners",
            "Http1ProtocolOptions.override_stream_error_on_invalid_http_message": "the connection is closed",
            "Http1ProtocolOptions.use_balsa_parser": "selects Envoy's parser",
            "Http2ProtocolOptions.allow_connect": "follows from the peer's settings",
            "Http2ProtocolOptions.allow_metadata": "METADATA frames are ignored",
            "Http2ProtocolOptions.hpack_table_size": "compression of headers",
            "Http2ProtocolOptions.max_concurrent_streams": "the peer's own limit applies",
            "Http2ProtocolOptions.max_consecutive_inbound_frames_with_empty_payload": "has a budget of its own",
            "Http2ProtocolOptions.max_inbound_priority_frames_per_stream": "has a budget of its own",
            "Http2ProtocolOptions.max_inbound_window_update_frames_per_data_frame_sent": "has a budget of its own",
            "Http2ProtocolOptions.max_metadata_size": "METADATA frames are ignored",
            "Http2ProtocolOptions.max_outbound_control_frames": "has a budget of its own",
            "Http2ProtocolOptions.max_outbound_frames": "has a budget of its own",
            "Http2ProtocolOptions.override_stream_error_on_invalid_http_message": "the stream is reset",
            "Http2ProtocolOptions.stream_error_on_invalid_http_messaging": "the stream is reset",
            "Http2ProtocolOptions.use_oghttp2_codec": "selects Envoy's codec",
            "HttpProtocolOptions.headers_with_underscores_action": "has no effect on responses in Envoy either",
            "KeepaliveSettings.interval_jitter": "spreads probes in time",
            "Metadata.typed_filter_metadata": "is for filters, none of which read it",
            "PathConfigSource.watched_directory": "the file itself is watched",
            "ApiConfigSource.rate_limit_settings": "requests are paced by the client's own rules",
            "ApiConfigSource.refresh_delay": "of REST only",
            "ApiConfigSource.request_timeout": "of REST only",
            "DataSource.watched_directory": "changed files are always noticed",
            "GrpcService.GoogleGrpc.stat_prefix": "names Envoy's statistics",
        },
    ),
    **_in(
        "envoy.config.route.v3",
        {
            "Route.decorator": "names the operation of traces",
            "Route.metadata": "for statistics and filters of other systems",
            "Route.per_request_buffer_limit_bytes": _KEPT,
            "Route.request_body_buffer_limit": _KEPT,
            "Route.stat_prefix": "names Envoy's statistics",
            "Route.tracing": "sampling of traces",
            "RouteAction.RequestMirrorPolicy.trace_sampled": "sampling of traces",
            "RouteAction.early_data_policy": "requests are never accepted as TLS early data",
            "RouteConfiguration.metadata": "for statistics and filters of other systems",
            "RouteConfiguration.validate_clusters": "a cluster may come after the route to it",
            "VirtualHost.metadata": "for statistics and filters of other systems",
            "VirtualHost.per_request_buffer_limit_bytes": _KEPT,
            "VirtualHost.request_body_buffer_limit": _KEPT,
            "VirtualHost.virtual_clusters": "statistics of groups of requests",
            "WeightedCluster.runtime_key_prefix": "there is no run-time layer that overrides weights",
        },
    ),
    **_in(
        "envoy.extensions.transport_sockets.tls.v3",
        {
            "CertificateValidationContext.watched_directory": "changed files are always noticed",
            "CommonTlsContext.key_log": "a debugging aid; `key_log` of a file's context is one",
            "DownstreamTlsContext.disable_stateful_session_resumption": "sessions are resumed by tickets only",
            "DownstreamTlsContext.disable_stateless_session_resumption": "resumption demands the same of clients",
            "DownstreamTlsContext.full_scan_certs_on_sni_mismatch": "the first certificate is used if none has the name",
            "DownstreamTlsContext.prefer_client_ciphers": "the server's order of suites decides; all of them are good",
            "DownstreamTlsContext.session_ticket_keys": "tickets have keys of their own, for all workers",
            "DownstreamTlsContext.session_ticket_keys_sds_secret_config": "tickets have keys of their own, for all workers",
            "DownstreamTlsContext.session_timeout": "sessions can be resumed for an hour",
            "TlsCertificate.ocsp_staple": "responses are not stapled; clients ask the CA themselves",
            "TlsCertificate.signed_certificate_timestamp": "not sent; most certificates contain theirs",
            "TlsCertificate.watched_directory": "changed files are always noticed",
            "UpstreamTlsContext.allow_renegotiation": "TLS connections are never renegotiated",
            "UpstreamTlsContext.enforce_rsa_key_usage": "OpenSSL checks the usage of keys by its own rules",
            "UpstreamTlsContext.max_session_keys": "one session of each host is kept for resumption",
        },
    ),
}
