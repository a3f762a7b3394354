"""What HTTP/1 and HTTP/2 have in common: the options of a listener, and the handshake of WebSocket."""
