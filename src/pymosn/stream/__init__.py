"""LAYER 3: frames <-> streams: keep-alive, multiplexing, connection pools."""
