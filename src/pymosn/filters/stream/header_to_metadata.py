"""MOSN's `header_to_metadata`: request headers select the labels that a host must have (section 13)."""

from __future__ import annotations

from typing import Final

from pymosn.api.exchange import Exchange
from pymosn.api.stream_filter import StreamFilter
from pymosn.filters.settings import Block
from pymosn.filters.spec import FilterSpec
from pymosn.filters.stream.problems import Problems

NAME: Final = "header_to_metadata"


class Label(Block, kw_only=True):
    """A label to set."""

    key: str = ""
    value: str = ""


class Rule(Block, kw_only=True):
    """A label from a header."""

    header: str = ""
    on_header_present: Label | None = None
    on_header_missing: Label | None = None
    remove: bool = False


class Settings(Block, kw_only=True):
    """`header_to_metadata`."""

    request_rules: list[Rule] = []


class HeaderToMetadataFilter(StreamFilter):
    """Adds labels to those of the route (`metadata_match`), and replaces those with the same key.

    Cost per request: one header lookup per rule.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        problems = Problems()
        if not settings.request_rules:
            problems.add(".request_rules", "at least one rule is required")
        for i, rule in enumerate(settings.request_rules):
            _check(rule, f".request_rules[{i}]", problems)
        problems.end()
        self._rules = settings.request_rules

    def on_route(self, exchange: Exchange) -> None:
        labels: dict[str, str] = {}
        headers = exchange.request.headers
        for rule in self._rules:
            value = headers.get(rule.header)
            label = _label(rule, value)
            if label is not None:
                labels[label[0]] = label[1]
            if rule.remove and value is not None:
                headers.remove(rule.header)
        if labels:
            choices = exchange.overrides
            before = {} if choices is None or choices.subset is None else dict(choices.subset)
            exchange.choose(subset={**before, **labels})


def _label(rule: Rule, value: str | None) -> tuple[str, str] | None:
    """The label for the header's value; None if the rule sets none."""
    if value is None:
        missing = rule.on_header_missing
        return None if missing is None else (missing.key, missing.value)
    present = rule.on_header_present
    if present is None:
        return None
    text = present.value or value
    return (present.key, text) if text else None


def _check(rule: Rule, path: str, problems: Problems) -> None:
    problems.header(f"{path}.header", rule.header)
    if rule.on_header_present is None and rule.on_header_missing is None:
        problems.add(path, "a rule needs on_header_present or on_header_missing")
    if rule.on_header_present is not None and not rule.on_header_present.key:
        problems.add(f"{path}.on_header_present.key", "the label's name is missing")
    if rule.on_header_missing is not None:
        for key in ("key", "value"):
            if not getattr(rule.on_header_missing, key):
                problems.add(f"{path}.on_header_missing.{key}", f"the label's {key} is missing")


SPEC: Final = FilterSpec(NAME, Settings, HeaderToMetadataFilter)
