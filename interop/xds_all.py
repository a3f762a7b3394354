"""All groups."""

from __future__ import annotations

from interop import xds_actions, xds_edge, xds_filters, xds_hashing, xds_matching, xds_replies, xds_small
from interop.xds_groups import Group

GROUPS: list[Group] = [
    one
    for module in (xds_matching, xds_actions, xds_edge, xds_filters, xds_hashing, xds_replies, xds_small)
    for one in vars(module).values()
    if isinstance(one, Group)
]


def count() -> int:
    """The number of requests."""
    return sum(len(group.requests) for group in GROUPS)
