"""The `pymosn` command; also `python -m pymosn`."""

import signal


def run() -> None:
    """Runs the command. Ctrl-C during the imports ends the process without a traceback."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from pymosn.cli import run_command

    signal.signal(signal.SIGINT, before)
    run_command()


if __name__ == "__main__":
    run()
