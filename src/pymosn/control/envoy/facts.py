"""What Envoy's views need to know of xDS, as plain values."""

from __future__ import annotations

from typing import Final, NamedTuple

#: Stages of a resource.
STATIC: Final = "static"  # of `static_resources`
ACTIVE: Final = "active"
WARMING: Final = "warming"  # waits for other resources
REJECTED: Final = "rejected"  # no version of it was ever accepted


class Received(NamedTuple):
    """A resource of xDS.

    `body`: the serialized message, empty if it is rejected. `updated`: seconds since 1970, 0 if it is not known.
    `fault`: why its newest version was rejected, empty if it was not.
    """

    type_url: str
    name: str
    version: str
    body: bytes
    updated: float
    stage: str
    fault: str = ""


class Updates(NamedTuple):
    """What happened to the responses of one type. `short`: `cds`, `lds`, and so on.

    `successes`, `rejections`: accepted and rejected responses. `responses`: all of them. `timeouts`: waits that ended by
    `initial_fetch_timeout`. `is_connected`: whether its stream is open.
    """

    short: str
    version: str
    successes: int
    rejections: int
    responses: int
    timeouts: int
    is_connected: bool


class Facts(NamedTuple):
    """All of it. `uses_ads`: clusters and listeners come from a control plane. `has_listeners`: some listeners are here.
    `is_settled`: the first ones have been activated, and all that they waited for.
    """

    resources: list[Received] = []
    updates: list[Updates] = []
    uses_ads: bool = False
    has_listeners: bool = False
    is_settled: bool = False

    def is_initializing(self) -> bool:
        """Whether the first clusters or listeners are still to come, or to be activated."""
        if not self.uses_ads or self.is_settled:
            return False
        if self.has_listeners:
            return True
        answered = {one.short for one in self.updates if one.responses or one.timeouts}
        return not {"cds", "lds"} <= answered
