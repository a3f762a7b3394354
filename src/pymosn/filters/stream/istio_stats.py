"""`istio.stats`: Istio's standard metrics of requests (`istio_requests_total`, ...), as its dashboards read them."""

from __future__ import annotations

from typing import Final

from pymosn.api.exchange import Exchange
from pymosn.api.stream_filter import StreamFilter
from pymosn.filters.istio.counting import TYPE, Book, Counts, Source
from pymosn.filters.istio.labels import Labeller, label
from pymosn.filters.istio.settings import HttpSettings, check_settings
from pymosn.filters.istio.workload import metadata_of
from pymosn.filters.spec import FilterSpec
from pymosn.filters.stream.problems import Problems


class HttpCounts(Counts):
    """The metrics of requests with the same labels."""

    def __init__(self, source: Source) -> None:
        self.requests = source.counter("requests_total")
        self.duration = source.histogram("request_duration_milliseconds")
        self.request_bytes = source.histogram("request_bytes")
        self.response_bytes = source.histogram("response_bytes")


class IstioStatsFilter(StreamFilter):
    """Counts requests when they end. Cost per request: what its labels depend on, one lookup, and four additions."""

    def __init__(self, settings: HttpSettings) -> None:
        """Raises FilterConfigError."""
        super().__init__(settings)
        problems = Problems()
        check_settings(settings, problems)
        problems.end()
        Labeller(settings, {}, {})  # checks the expressions
        self._settings = settings
        self._book: Book[HttpCounts] | None = None

    async def start(self) -> None:
        context, settings = self.context, self._settings
        metadata = metadata_of(context.node)
        labeller = Labeller(settings, metadata, context.clusters)
        self._book = Book(labeller, context, settings.max_label_sets, HttpCounts)
        if context.worker <= 0:  # gauges are summed over the workers
            version = metadata.get("ISTIO_VERSION")
            tag = label(version if isinstance(version, str) else "")
            context.group(TYPE, ("component", "proxy"), ("tag", tag)).gauge("build").value = 1

    def on_complete(self, exchange: Exchange) -> None:
        book = self._book
        if book is None:
            return
        response = exchange.response
        code = "0" if response is None else str(response.status)
        status = exchange.call_status
        is_call = status >= 0
        facts = book.labeller.facts(exchange, "grpc" if is_call else "http", code, str(status) if is_call else "")
        counts = book.counts(facts)
        if counts.requests is not None:
            counts.requests.value += 1
        if counts.duration is not None:
            counts.duration.record((exchange.finished - exchange.started) * 1000.0)
        if counts.request_bytes is not None:
            counts.request_bytes.record(float(exchange.bytes_received))
        if counts.response_bytes is not None:
            counts.response_bytes.record(float(exchange.bytes_sent))


SPEC: Final = FilterSpec(
    "istio.stats",
    HttpSettings,
    IstioStatsFilter,
    "Istio's metrics of requests, with the metadata of the node and of peers; docs/xds-istio.md",
    differences=(
        ("`dimensions`", "any expression of CEL", "one attribute, or a text in quotes"),
        ("`definitions`", "metrics of one's own", "the file is rejected"),
        ("sets of labels", "without a limit", "`max_label_sets`; then they are counted together"),
    ),
)
