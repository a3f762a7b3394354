"""Replaces the sockets of a worker while `bench.instructions` counts."""
