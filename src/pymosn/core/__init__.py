"""Utilities for every layer: headers, message heads, failure table, clock, timers, counters, registry.

Nothing here does I/O or imports other pymosn packages.
"""
