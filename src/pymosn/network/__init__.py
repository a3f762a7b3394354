"""LAYER 1: sockets <-> bytes."""
