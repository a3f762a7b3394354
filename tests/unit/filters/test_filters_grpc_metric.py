"""`grpc_metric`: metrics by service, method and status, of a bounded number."""

import pytest

from pymosn.api.exchange import Exchange
from pymosn.api.grpc import GrpcRequest
from pymosn.api.http import HttpRequest, HttpResponse
from pymosn.api.network import Connection
from pymosn.api.stream_filter import FilterContext
from pymosn.core.counters import GroupData, Metrics
from pymosn.core.failure import CLIENT_GONE, NO_HOSTS
from pymosn.core.headers import headers_from
from pymosn.core.log import Log
from pymosn.filters.errors import FilterConfigError
from pymosn.filters.stream.grpc_metric import GrpcMetricFilter, Settings


class Scene:
    def __init__(self, settings: Settings) -> None:
        self.metrics = Metrics()
        self.filter = GrpcMetricFilter(settings)
        self.filter.context = FilterContext("grpc_metric", Log(), {}, all_metrics=self.metrics)

    def call(self, path: bytes, status: int, upstream: str = "a:1") -> Exchange:
        exchange = Exchange(Connection())
        request = GrpcRequest()
        request.raw_path = path
        exchange.request = request
        exchange.upstream_address = upstream
        response = HttpResponse(200)
        response.trailers = headers_from({"grpc-status": str(status)})
        exchange.response = response
        exchange.started, exchange.finished = 1.0, 1.5
        self.filter.on_complete(exchange)
        return exchange

    def groups(self) -> dict[str, GroupData]:
        return {"/".join(value for _, value in data["labels"]): data for data in self.metrics.snapshot()}


def test_counts_by_service() -> None:
    scene = Scene(Settings())
    scene.call(b"/pkg.Echo/Say", 0)
    scene.call(b"/pkg.Echo/Ask", 0)
    scene.call(b"/pkg.Echo/Say", 14)
    assert list(scene.groups()) == ["pkg.Echo"]
    data = scene.groups()["pkg.Echo"]
    assert (data["type"], data["labels"]) == ("grpc", [("service", "pkg.Echo")])
    assert data["counters"] == {
        "request_total": 3,
        "response_succ_total": 2,
        "response_fail_total": 1,
        "response_unavailable_total": 1,
    }
    assert data["histograms"]["request_time"]["count"] == 3
    assert data["histograms"]["request_time"]["sum"] == pytest.approx(1.5)


def test_counts_by_method() -> None:
    scene = Scene(Settings(methods=True))
    scene.call(b"/pkg.Echo/Say", 0)
    scene.call(b"/pkg.Echo/Ask", 0)
    assert list(scene.groups()) == ["pkg.Echo", "pkg.Echo/Say", "pkg.Echo/Ask"]


def test_names_that_no_host_knows_are_not_kept() -> None:
    scene = Scene(Settings(methods=True))
    for number in range(20):
        scene.call(b"/made.Up%d/Say" % number, 12)
    assert list(scene.groups()) == ["other", "other/other"]
    assert scene.groups()["other"]["counters"]["request_total"] == 20


def test_the_number_of_names_is_bounded() -> None:
    scene = Scene(Settings(max_names=2))
    for number in range(5):
        scene.call(b"/pkg.Echo%d/Say" % number, 0)
    assert list(scene.groups()) == ["pkg.Echo0", "pkg.Echo1", "other"]
    assert scene.groups()["other"]["counters"]["request_total"] == 3


def test_failures_of_the_proxy_count_under_known_names_only() -> None:
    scene = Scene(Settings())
    scene.call(b"/pkg.Echo/Say", 0)
    for path in (b"/pkg.Echo/Say", b"/made.Up/Say"):
        exchange = scene.call(path, 14, upstream="")
        exchange.failure = NO_HOSTS
    assert [data["counters"]["request_total"] for data in scene.groups().values()] == [2, 1]


def test_other_requests_are_not_counted() -> None:
    scene = Scene(Settings())
    exchange = Exchange(Connection())
    exchange.request = HttpRequest()
    exchange.response = HttpResponse(200)
    scene.filter.on_complete(exchange)
    assert scene.groups() == {}


def test_settings_are_checked() -> None:
    with pytest.raises(FilterConfigError):
        GrpcMetricFilter(Settings(max_names=0))


def test_a_stream_that_the_client_ends_has_its_own_name() -> None:
    scene = Scene(Settings(methods=True))
    exchange = Exchange(Connection())
    exchange.request = GrpcRequest()
    exchange.request.raw_path = b"/pkg.Echo/Watch"
    exchange.upstream_address = "a:1"
    exchange.response, exchange.response_received = HttpResponse(200), 1.2
    exchange.failure = CLIENT_GONE
    scene.filter.on_complete(exchange)
    assert list(scene.groups()) == ["pkg.Echo", "pkg.Echo/Watch"]
    assert scene.groups()["pkg.Echo/Watch"]["counters"]["response_cancelled_total"] == 1
