"""The fixtures of the shows."""

from process_fixtures import start

__all__ = ["start"]
