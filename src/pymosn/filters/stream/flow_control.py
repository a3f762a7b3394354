"""MOSN's `flowControlFilter`: Sentinel's flow rules by path, query or both (section 13)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Annotated, Final

from pymosn.api.exchange import Exchange, Reply
from pymosn.api.stream_filter import StreamFilter
from pymosn.core.failure import RATE_LIMITED, Failure
from pymosn.core.uri import target_of
from pymosn.filters.settings import AnyMap, Block, ignored, planned_checked, works
from pymosn.filters.spec import FilterSpec
from pymosn.filters.stream.flow_rules import ASSOCIATED, BLOCKED, THROTTLE, FlowRule, Rule, Windows, check_rule
from pymosn.filters.stream.problems import Problems
from pymosn.routing.matchers import path_text
from pymosn.upstream.limits import worker_share

_NOT_WRITTEN: Final = "Sentinel's own logs are not written; counts are in the metrics"


class FlowAction(Block, kw_only=True):
    """The reply to a limited request."""

    status: int = 509
    body: str = "current request is limited"


class Settings(Block, kw_only=True):
    """`flowControlFilter`; the rules are Sentinel's."""

    app_name: Annotated[str, ignored(_NOT_WRITTEN)] = "unknown"
    log_path: Annotated[str, ignored(_NOT_WRITTEN)] = "/tmp/sentinel"
    global_switch: Annotated[bool, works("false: the rules do nothing")] = False
    monitor: Annotated[bool, works("count what would be limited, and let it pass")] = False
    limit_key_type: Annotated[str, works("PATH, ARG (the query) or URI (both)")] = "PATH"
    action: FlowAction | None = None
    rules: list[FlowRule] = []
    dynamic_data_resources: Annotated[list[AnyMap], planned_checked("rules from Nacos: rejected")] = []
    callback_name: Annotated[str, planned_checked("callbacks are compiled into MOSN: rejected")] = ""


_NO_NACOS: Final = (
    "rules from Nacos are not supported: write them in `rules`, and change them by a reload or by POST /api/v1/update_config"
)


class FlowControlFilter(StreamFilter):
    """Passes a request when all rules of its resource allow it, immediately or after a wait.

    Each worker has its share of each threshold. Cost per request: one dict lookup; for a resource with rules the sum of ten
    numbers per rule. Throttling costs a task for each request that waits.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        problems = Problems()
        problems.one_of(".limit_key_type", settings.limit_key_type, ("PATH", "ARG", "URI"))
        text = "MOSN's compiled-in callbacks are not available; write a Python filter instead"
        problems.require(not settings.callback_name, ".callback_name", text)
        nacos = settings.dynamic_data_resources
        problems.require(not nacos, ".dynamic_data_resources", _NO_NACOS)
        self._action = settings.action or FlowAction()
        problems.status(".action.status", self._action.status)
        for i, rule in enumerate(settings.rules):
            check_rule(rule, f".rules[{i}]", problems)
        problems.end()
        self._settings = settings
        # With the status of the reply, so that calls have the status of this failure.
        self._failure = Failure(RATE_LIMITED.reason, self._action.status, RATE_LIMITED.flag)
        self._windows = Windows()
        self._rules: dict[bytes, list[Rule]] | None = None

    def on_route(self, exchange: Exchange) -> Reply | Awaitable[Reply | None] | None:
        if not self._settings.global_switch:
            return None
        if self._rules is None:
            self._rules = self._make_rules()
        key = self._key(exchange)
        now = self.context.clock.now
        longest = 0.0
        for rule in self._rules.get(key, ()):
            wait = rule.wait(now)
            if wait == BLOCKED:
                self.context.counter("limited").value += 1
                if self._settings.monitor:
                    break
                exchange.failure = self._failure
                return Reply(self._action.status, self._action.body)
            longest = max(longest, wait)
        self._windows.count(key, now)
        if longest > 0.0 and not self._settings.monitor:
            self.context.counter("queued").value += 1
            return asyncio.sleep(longest)
        return None

    def _key(self, exchange: Exchange) -> bytes:
        request = exchange.request
        if self._settings.limit_key_type == "PATH":
            return request.raw_path
        if self._settings.limit_key_type == "ARG":
            return request.raw_query or b""
        return request.raw_target()

    def _make_rules(self) -> dict[bytes, list[Rule]]:
        rules: dict[bytes, list[Rule]] = {}
        context = self.context
        for flow_rule in self._settings.rules:
            threshold = flow_rule.threshold
            if flow_rule.controlBehavior == THROTTLE:
                threshold /= context.workers
            elif threshold >= 1.0:  # requests are whole numbers, so the shares must be whole and add up to the threshold
                threshold = float(worker_share(int(threshold), context.workers, context.worker))
            resource = self._resource(flow_rule.resource)
            is_associated = flow_rule.relationStrategy == ASSOCIATED
            counted = self._resource(flow_rule.refResource) if is_associated else resource
            rules.setdefault(resource, []).append(Rule(flow_rule, resource, counted, threshold, self._windows))
        return rules

    def _resource(self, text: str) -> bytes:
        """A resource in the form of the keys."""
        if self._settings.limit_key_type == "ARG":
            return text.encode()
        path, question, query = text.partition("?")
        return target_of(path_text(path), query.encode() if question else None)


DIFFERENCES: Final = (
    ("rules", "of all listeners together", "of the filter; each worker has its share of a threshold"),
    ("Nacos, callbacks, memory", "built in", "the file is rejected"),
    ("window", "two halves of a second", "ten parts of `statIntervalInMs`"),
)
_NOTE: Final = "Sentinel's rules, from the file; not from Nacos"
SPEC: Final = FilterSpec("flowControlFilter", Settings, FlowControlFilter, _NOTE, DIFFERENCES, guards=True)
