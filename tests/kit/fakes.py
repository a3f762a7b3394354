"""Fakes that only record: the clock and the log of `pymosn.testing`, an access log, and a stream filter."""

from pymosn.api import StreamFilter
from pymosn.api.exchange import AccessLog, Exchange
from pymosn.testing.fakes import FakeClock, Lines

__all__ = ["FakeClock", "Lines", "Outcomes", "Recorder"]


class Outcomes(AccessLog):
    """Records each finished exchange."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []

    def log(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)

    def reasons(self) -> list[str]:
        """The failure word of each exchange; `ok` for one that did not fail."""
        return [exchange.failure.reason if exchange.failure else "ok" for exchange in self.exchanges]


class Recorder(StreamFilter):
    """Records the exchanges of `on_complete`, to count how often each was reported."""

    def __init__(self) -> None:
        super().__init__({})
        self.completed: list[Exchange] = []

    def on_complete(self, exchange: Exchange) -> None:
        self.completed.append(exchange)
