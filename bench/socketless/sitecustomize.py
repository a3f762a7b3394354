"""Imported by Python at start-up in the processes of `bench.instructions`; see there."""

import os
import sys

if os.environ.get("PYMOSN_COUNT_WRAPPER"):
    # In the supervisor, which starts its workers with this.
    sys.executable = os.environ.pop("PYMOSN_COUNT_WRAPPER")
elif os.environ.get("PYMOSN_COUNT_DONE"):
    import uvloop

    from bench.socketless.loop import SocketlessLoop

    uvloop.new_event_loop = SocketlessLoop  # type: ignore[assignment]
