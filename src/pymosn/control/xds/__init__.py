"""Dynamic configuration by xDS: the client of a control plane (v3), and what it makes of the resources.

types            the words of the protocol          subscription, pacing   pure machines of one type
client, transport   streams over gRPC               node, bootstrap        the configuration of clients
convert/         resources -> our own schema        state, layer           what is active, and why

Only the supervisor imports this package, and only if the configuration has `dynamic_resources`, `static_resources` or an
`sds_source`. It needs the extra `pymosn[xds]`: grpcio and Google's xds-protos, the only source of Envoy's descriptors.
"""
