"""Imported by Python at start-up in the processes of `bench.instructions`; see there."""

import os
import sys

if os.environ.get("PYMOSN_COUNT_WRAPPER"):
    # In the supervisor, which starts its workers with this.
    sys.executable = os.environ.pop("PYMOSN_COUNT_WRAPPER")
elif os.environ.get("PYMOSN_COUNT_DONE"):
    import faulthandler

    import uvloop

    from bench.socketless.loop import SocketlessLoop

    # valgrind makes all slow, which the watchdog must not record; its thread does not wait for the interpreter's lock.
    faulthandler.dump_traceback_later = lambda *_, **__: None
    uvloop.new_event_loop = SocketlessLoop  # type: ignore[assignment]
