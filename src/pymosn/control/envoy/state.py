"""The state of the server, as Envoy counts it."""

from __future__ import annotations

from pymosn.control.envoy.statuses import DRAINING, INITIALIZING, LIVE
from pymosn.control.plane import RUNNING, ControlPlane


def server_state(plane: ControlPlane) -> int:
    """LIVE, DRAINING or INITIALIZING; the last one also while the first resources of xDS are awaited."""
    stage = plane.state()
    if stage > RUNNING or plane.is_draining():
        return DRAINING
    if stage < RUNNING or plane.facts(with_resources=False).is_initializing():
        return INITIALIZING
    return LIVE
