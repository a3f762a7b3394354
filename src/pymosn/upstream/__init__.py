"""Clusters and hosts: selects the host for each attempt. Immutable snapshots, replaced as a whole."""
