"""LAYER 2: bytes <-> frames: pure codecs, no I/O, no clock."""
