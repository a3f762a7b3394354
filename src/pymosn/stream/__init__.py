"""Layer 3: streams of requests and responses over frames: keep-alive, multiplexing, connection pools."""
