"""MOSN's metrics of xDS, which it has also without a control plane."""

from __future__ import annotations

from typing import Final

from pymosn.core.counters import GroupData

#: Accepted and rejected updates of clusters and of listeners; one of the names has a spelling of its own.
CLUSTERS: Final = ("cds_update_success", "cds_update_reject")
LISTENERS: Final = ("ls_update_success", "lds_update_reject")


def xds_group(counters: dict[str, int], gauges: dict[str, int]) -> GroupData:
    """The group with MOSN's type and label."""
    return {"type": "xds", "labels": [("xds", "info")], "counters": counters, "gauges": gauges, "histograms": {}}


def no_updates() -> GroupData:
    """The metrics of a process without a control plane, which has sent no update."""
    return xds_group(dict.fromkeys((*CLUSTERS, *LISTENERS), 0), {})
