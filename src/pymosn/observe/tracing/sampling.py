"""Which traces are recorded: by a header, the caller's decision, rules and a rate, in this order."""

from __future__ import annotations

import random
from collections.abc import Callable

from pymosn.api.record import ExchangeRecord
from pymosn.observe.tracing.context import NOT_SAMPLED, SAMPLED, UNDECIDED, TraceContext


class SamplingRule:
    """The rate for some requests: those that meet all conditions that are not empty."""

    def __init__(
        self,
        rate: float,
        *,
        path: str = "",
        method: str = "",
        service: str = "",
        listener: str = "",
        route: str = "",
        header: str = "",
        value: str = "",
    ) -> None:
        """`rate`: from 0 to 1. `path`: a prefix. `service`: of an RPC request. `route`: its name, or its label.

        `header`, `value`: a header field, with this value unless it is empty.
        """
        self.rate = rate
        self.path = path.encode("utf-8", "surrogateescape")
        self.method = method
        self.service = service
        self.listener = listener
        self.route = route
        self.header = header
        self.value = value

    def matches(self, exchange: ExchangeRecord, listener: str) -> bool:
        """Whether the rule is for this request. Raises UnreadableHeaders."""
        request = exchange.request
        if self.listener and self.listener != listener:
            return False
        if self.path and not (exchange.original_path or request.raw_path).startswith(self.path):
            return False
        if self.method and self.method not in (request.method_name(), request.rpc_method()):
            return False
        if self.service and self.service != request.service():
            return False
        route = exchange.route
        if self.route and (route is None or self.route not in (route.label, route.name)):
            return False
        if self.header:
            found = request.route_value(self.header)
            return found is not None and (not self.value or found == self.value)
        return True


class Sampling:
    """Decides for each trace, once."""

    def __init__(
        self,
        rate: float = 1.0,
        obeys_parent: bool = True,
        header: str = "",
        rules: list[SamplingRule] | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """`header`: the name, in lower case, of a field that demands a record; empty for none. `draw`: from 0 to below 1."""
        self.rate = rate
        self.obeys_parent = obeys_parent
        self.header: bytes = header.encode()
        self.rules: list[SamplingRule] = rules or []
        #: Whether the route must be known.
        self.needs_route: bool = any([bool(rule.route) for rule in self.rules])  # noqa: C419 - no generator in compiled code
        self._draw = draw

    def decide(self, context: TraceContext, exchange: ExchangeRecord, listener: str) -> None:
        """Sets `context.sampled`. A debug flag is a decision of the caller; one that is not obeyed is not forwarded."""
        if not self.obeys_parent:
            context.is_debug = False
        if len(self.header) > 0 and self._is_demanded(exchange):
            context.sampled = SAMPLED
        elif self.obeys_parent and context.received != UNDECIDED:
            context.sampled = context.received
        else:
            rate = self.rate
            if self.rules:
                rate = self._rate_of(exchange, listener)
            context.sampled = SAMPLED if rate >= 1.0 or (rate > 0.0 and self._draw() < rate) else NOT_SAMPLED

    def _is_demanded(self, exchange: ExchangeRecord) -> bool:
        try:
            return exchange.request.headers.has_raw(self.header)
        except BaseException:  # UnreadableHeaders, and what headers of an installed protocol raise
            return False

    def _rate_of(self, exchange: ExchangeRecord, listener: str) -> float:
        for rule in self.rules:
            try:
                if rule.matches(exchange, listener):
                    return rule.rate
            except BaseException:  # as above
                continue
        return self.rate
