"""Builds the run-time objects of a worker from a checked configuration, at start-up and at every change."""
