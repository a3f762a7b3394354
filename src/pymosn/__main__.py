"""The commands `pymosn`, also `python -m pymosn`, and `pymosn-envoy`."""

import signal

# Before anything else: these signals mean reload, reopen the logs and upgrade, but their default action ends a process that
# has no handlers yet. They wait until the services run; commands that do not serve unblock them.
signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2))

import os  # noqa: E402
import sys  # noqa: E402
from types import FrameType  # noqa: E402


def run() -> None:
    """Runs the command. Ctrl-C during the imports ends the process without a traceback.

    The kernel discards signals for the first process of a container, unless it has handlers: without these, one that is
    stopped while it starts would only end when it is killed.
    """
    before = signal.getsignal(signal.SIGINT)
    if os.getpid() == 1:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
            signal.signal(number, _exit)
    elif before is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from pymosn.cli import run_command

    signal.signal(signal.SIGINT, before)
    run_command()


def run_envoy() -> None:
    """Runs the command `envoy`: for programs that start Envoy and pass nothing but its flags."""
    sys.argv.insert(1, "envoy")
    run()


def _exit(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)


if __name__ == "__main__":
    run()
