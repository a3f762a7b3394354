"""Leaves that any layer may use: headers, message heads, failure table, clock, timers, counters, registry.

Nothing here does I/O, and nothing here imports another pymosn package.
"""
