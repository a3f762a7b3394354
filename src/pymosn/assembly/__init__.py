"""Builds the run-time objects of a worker from a checked configuration, at the start and at every change.

worker         `WorkerRuntime`: prepares a configuration, then activates it
prepared       a configuration as run-time objects, and the parts of earlier ones that are still in use
clusters       clusters and their hosts          routes     router tables
listeners      listeners and their options       filters    stream filters: built, started, stopped
protocols      protocols of installed packages   share      one worker's share of limits
drain_order    the order of closing listeners    steps      long work in steps
packed_config  a configuration as bytes
"""
