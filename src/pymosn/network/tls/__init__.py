"""TLS: contexts, handshakes, and the transport between a connection and its socket."""
