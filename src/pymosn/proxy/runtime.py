"""The objects of one worker that all its parts share. They are passed explicitly, so that no global is needed."""

from __future__ import annotations

from contextvars import Context

from pymosn.api.stream import StreamProtocol
from pymosn.api.tracer import Tracer
from pymosn.core.clock import Clock, HttpDates
from pymosn.core.counters import Metrics
from pymosn.core.log import LineLimit, Log
from pymosn.core.overload import OverloadState
from pymosn.core.registry import Registry
from pymosn.core.request_ids import RequestIds
from pymosn.core.route_stats import RouteBook
from pymosn.core.stamps import Stamps
from pymosn.core.timers import TimerWheel
from pymosn.core.turn_limit import TurnLimit
from pymosn.proxy.contexts import ExchangeContext
from pymosn.proxy.stories import Stories
from pymosn.proxy.taps import Taps
from pymosn.proxy.task_starter import TaskStarter
from pymosn.upstream.clusters import Clusters


class Runtime:
    """Clock, timers, counters, log, load, protocols and clusters of one worker."""

    def __init__(
        self,
        clock: Clock,
        wheel: TimerWheel,
        metrics: Metrics,
        log: Log,
        protocols: Registry[StreamProtocol],
        clusters: Clusters,
    ) -> None:
        self.clock = clock
        self.wheel = wheel
        self.metrics = metrics
        self.log = log
        self.protocols = protocols
        self.clusters = clusters
        #: The counters of routes.
        self.routes = RouteBook(metrics, clock)
        self.overload = OverloadState()
        self.dates = HttpDates(clock)
        self.request_ids = RequestIds()
        self.stamps = Stamps(clock)
        #: Begins the traces of exchanges; None if tracing is off. Changes replace it.
        self.tracer: Tracer | None = None
        #: Limits the lines about clients whose frames cannot be decoded.
        self.codec_lines = LineLimit()
        self.tasks = TaskStarter()
        #: An empty context for calls of filters, if it `is_spare`.
        self.spare_context = ExchangeContext(Context())
        #: For what filters await, when it completes without waiting.
        self.turns = TurnLimit()
        #: The exchanges that failed, and the slowest ones.
        self.stories = Stories(clock)
        #: What operators watch now; usually None.
        self.taps: Taps | None = None
