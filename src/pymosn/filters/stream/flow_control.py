"""MOSN's `flowControlFilter`: Sentinel's flow rules by path, query or both (section 13)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Final

from pymosn.api.exchange import Exchange, Reply
from pymosn.api.stream_filter import StreamFilter
from pymosn.core.failure import RATE_LIMITED
from pymosn.filters.stream.flow_rules import ASSOCIATED, BLOCKED, THROTTLE, Rule, Windows, check_rule
from pymosn.filters.stream.problems import Problems
from pymosn.routing.matchers import path_text
from pymosn.upstream.limits import worker_share

KEY_TYPES: Final = ("PATH", "ARG", "URI")


class FlowControlFilter(StreamFilter):
    """Requests for a resource that has rules pass when all of them allow it, at once or after a wait.

    Each worker has its part of each threshold. Per request: one look-up in a dict; for a resource with rules the sum of ten
    numbers for each. Throttling costs a task for each request that waits.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        problems = Problems()
        if config.limit_key_type not in KEY_TYPES:
            problems.add(".limit_key_type", f"must be one of {', '.join(KEY_TYPES)}, not {config.limit_key_type!r}")
        if config.callback_name:
            problems.add(".callback_name", "callbacks compiled into MOSN are not here; write a filter in Python")
        if config.dynamic_data_resources:
            problems.add(".dynamic_data_resources", "rules from Nacos are not built")
        if config.action is not None:
            problems.status(".action.status", config.action.status)
        for place, rule in enumerate(config.rules):
            check_rule(rule, f".rules[{place}]", problems)
        problems.end()
        self._config = config
        self._key_type: str = config.limit_key_type
        self._is_on: bool = config.global_switch
        self._only_counts: bool = config.monitor
        self._status: int = 509 if config.action is None else config.action.status
        self._body: str = "current request is limited" if config.action is None else config.action.body
        self._windows = Windows()
        self._rules: dict[bytes, list[Rule]] | None = None

    def on_route(self, exchange: Exchange) -> Reply | Awaitable[Reply | None] | None:
        if not self._is_on:
            return None
        if self._rules is None:
            self._rules = self._make_rules()
        key = self._key(exchange)
        now = self.context.clock.now
        wait = 0.0
        for rule in self._rules.get(key, ()):
            own = rule.wait(now)
            if own == BLOCKED:
                self.context.counter("limited").value += 1
                if self._only_counts:
                    break
                exchange.failure = RATE_LIMITED
                return Reply(self._status, self._body)
            wait = max(wait, own)
        self._windows.count(key, now)
        if wait > 0.0 and not self._only_counts:
            self.context.counter("queued").value += 1
            return _pause(wait)
        return None

    def _key(self, exchange: Exchange) -> bytes:
        request = exchange.request
        if self._key_type == "PATH":
            return request.raw_path
        query = request.raw_query
        if self._key_type == "ARG":
            return query or b""
        return request.raw_path if query is None else request.raw_path + b"?" + query

    def _make_rules(self) -> dict[bytes, list[Rule]]:
        rules: dict[bytes, list[Rule]] = {}
        context = self.context
        for config in self._config.rules:
            threshold: float = config.threshold
            if config.controlBehavior == THROTTLE:
                threshold /= context.workers
            elif threshold >= 1.0:  # requests are counted whole: the parts are whole numbers that add up to it
                threshold = float(worker_share(int(threshold), context.workers, context.worker))
            resource = self._resource(config.resource)
            counted = self._resource(config.refResource) if config.relationStrategy == ASSOCIATED else resource
            rules.setdefault(resource, []).append(Rule(config, resource, counted, threshold, self._windows))
        return rules

    def _resource(self, text: str) -> bytes:
        """A resource in the form that keys have."""
        if self._key_type == "ARG":
            return text.encode()
        path, question, query = text.partition("?")
        return path_text(path) + (question + query).encode()


async def _pause(seconds: float) -> None:
    await asyncio.sleep(seconds)
