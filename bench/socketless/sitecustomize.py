"""Python imports this at its start where `bench.instructions` asks for it; see there."""

import os
import sys

if os.environ.get("PYMOSN_COUNT_WRAPPER"):
    # The supervisor. It starts its workers with this.
    sys.executable = os.environ.pop("PYMOSN_COUNT_WRAPPER")
elif os.environ.get("PYMOSN_COUNT_DONE"):
    import uvloop

    from bench.socketless.loop import SocketlessLoop

    uvloop.new_event_loop = SocketlessLoop  # type: ignore[assignment]
