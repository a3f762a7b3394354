"""The fixtures of the tests on real processes."""

from process_fixtures import start, two_hops, upstream

__all__ = ["start", "two_hops", "upstream"]
