"""LAYER 2: bytes <-> frames. Pure codecs, without I/O or clock."""
