"""HTTP/2: frames, HPACK, and the heads of requests and responses (RFC 9113, RFC 7541)."""
