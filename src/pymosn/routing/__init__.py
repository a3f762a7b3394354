"""Routing: selects a request's cluster. Immutable tables, replaced as a whole."""
