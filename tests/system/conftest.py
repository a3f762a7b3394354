"""The fixtures of the tests on real processes."""

import signal

from process_fixtures import start, two_hops, upstream

__all__ = ["start", "two_hops", "upstream"]

# A shell ignores Ctrl-C in what it starts in the background, as `make test` does with half of these tests, and all programs
# would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
