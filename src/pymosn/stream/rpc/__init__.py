"""RPC streams: many at once on each connection, distinguished by the ids of their frames."""
