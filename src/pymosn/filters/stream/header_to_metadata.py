"""MOSN's `header_to_metadata`: request headers say which labels a host must have (section 13)."""

from __future__ import annotations

from typing import Any

from pymosn.api.exchange import Exchange
from pymosn.api.stream_filter import StreamFilter
from pymosn.filters.stream.problems import Problems


class _Rule:
    def __init__(self, config: Any) -> None:
        self.header: str = config.header
        self.present: Any = config.on_header_present
        self.missing: Any = config.on_header_missing
        self.removes: bool = config.remove

    def label(self, value: str | None) -> tuple[str, str] | None:
        """The label for the header's value; None when there is none to set."""
        if value is None:
            return None if self.missing is None else (self.missing.key, self.missing.value)
        if self.present is None:
            return None
        text: str = self.present.value or value
        return (self.present.key, text) if text else None


class HeaderToMetadataFilter(StreamFilter):
    """The labels join those of the route (`metadata_match`), and of equal keys these count.

    Per request: a look-up in the headers for each rule.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        problems = Problems()
        if not config.request_rules:
            problems.add(".request_rules", "at least one rule is needed")
        for place, rule in enumerate(config.request_rules):
            _check(rule, f".request_rules[{place}]", problems)
        problems.end()
        self._rules = [_Rule(rule) for rule in config.request_rules]

    def on_route(self, exchange: Exchange) -> None:
        labels: dict[str, str] = {}
        headers = exchange.request.headers
        for rule in self._rules:
            value = headers.get(rule.header)
            label = rule.label(value)
            if label is not None:
                labels[label[0]] = label[1]
            if rule.removes and value is not None:
                headers.remove(rule.header)
        if labels:
            choices = exchange.overrides
            before = {} if choices is None or choices.subset is None else dict(choices.subset)
            exchange.choose(subset={**before, **labels})


def _check(rule: Any, path: str, problems: Problems) -> None:
    problems.header(f"{path}.header", rule.header)
    if rule.on_header_present is None and rule.on_header_missing is None:
        problems.add(path, "a rule needs on_header_present or on_header_missing")
    if rule.on_header_present is not None and not rule.on_header_present.key:
        problems.add(f"{path}.on_header_present.key", "the label's name is missing")
    if rule.on_header_missing is not None:
        for key in ("key", "value"):
            if not getattr(rule.on_header_missing, key):
                problems.add(f"{path}.on_header_missing.{key}", f"the label's {key} is missing")
