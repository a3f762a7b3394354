"""Istio's metrics of connections of `tcp_proxy`: opened, closed, and bytes, also while a connection lasts."""

from __future__ import annotations

from typing import Final

from pymosn.api.exchange import Exchange
from pymosn.api.stream_filter import FilterContext
from pymosn.core.timers import Alarm, TimerWheel
from pymosn.filters.istio.counting import Book, Counts, Source
from pymosn.filters.istio.labels import Labeller
from pymosn.filters.istio.settings import StatsSettings, check_settings
from pymosn.filters.istio.workload import metadata_of
from pymosn.filters.stream.problems import Problems
from pymosn.proxy.tcp_options import TcpObserver

PROTOCOL: Final = "tcp"


class TcpCounts(Counts):
    """The metrics of connections with the same labels."""

    def __init__(self, source: Source) -> None:
        self.opened = source.counter("tcp_connections_opened_total")
        self.closed = source.counter("tcp_connections_closed_total")
        self.sent = source.counter("tcp_sent_bytes_total")
        self.received = source.counter("tcp_received_bytes_total")


class TcpStats(TcpObserver):
    """The metrics of the connections of one `tcp_proxy`. Cost per connection: its labels, and a timer."""

    def __init__(self, settings: StatsSettings, context: FilterContext, wheel: TimerWheel) -> None:
        """Raises FilterConfigError."""
        check(settings)
        labeller = Labeller(settings, metadata_of(context.node), context.clusters)
        self.period = settings.tcp_reporting_duration
        self.wheel = wheel
        self._book = Book(labeller, context, settings.max_label_sets, TcpCounts)
        self._key = f"istio tcp {id(self)}"

    def on_connected(self, exchange: Exchange) -> None:
        exchange.state[self._key] = self._opened(exchange)

    def on_ended(self, exchange: Exchange) -> None:
        found = exchange.state.pop(self._key, None)
        report = found if isinstance(found, Report) else self._opened(exchange)
        report.end()

    def _opened(self, exchange: Exchange) -> Report:
        return Report(self, exchange, self._book.counts(self._book.labeller.facts(exchange, PROTOCOL)))


class Report(Alarm):
    """What has been reported of one connection. Its labels are those of its beginning, as in Envoy."""

    def __init__(self, stats: TcpStats, exchange: Exchange, counts: TcpCounts) -> None:
        super().__init__()
        self._stats = stats
        self._exchange = exchange
        self._counts = counts
        self._sent = 0
        self._received = 0
        if counts.opened is not None:
            counts.opened.value += 1
        if stats.period > 0.0:
            stats.wheel.set(self, stats.period)

    def on_alarm(self) -> None:
        self._report()
        self._stats.wheel.set(self, self._stats.period)

    def end(self) -> None:
        """The connection has ended."""
        self._stats.wheel.clear(self)
        self._report()
        if self._counts.closed is not None:
            self._counts.closed.value += 1

    def _report(self) -> None:
        sent, received = int(self._exchange.bytes_sent), int(self._exchange.bytes_received)
        if self._counts.sent is not None:
            self._counts.sent.value += sent - self._sent
        if self._counts.received is not None:
            self._counts.received.value += received - self._received
        self._sent, self._received = sent, received


def check(settings: StatsSettings) -> None:
    """Raises FilterConfigError for invalid settings."""
    problems = Problems()
    check_settings(settings, problems)
    problems.end()
    Labeller(settings, {}, {})
