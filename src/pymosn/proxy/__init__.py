"""LAYER 4: streams <-> streams: one exchange."""
