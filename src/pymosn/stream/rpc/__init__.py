"""RPC streams: many at once on each connection, told apart by the ids of their frames."""
