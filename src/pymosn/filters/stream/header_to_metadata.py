"""MOSN's `header_to_metadata`: request headers select the labels that a host must have (section 13)."""

from __future__ import annotations

from typing import Annotated, Final

from pymosn.api.exchange import Exchange
from pymosn.api.stream_filter import StreamFilter
from pymosn.filters.settings import Block, own
from pymosn.filters.spec import FilterSpec
from pymosn.filters.stream.dynamic_metadata import note_metadata
from pymosn.filters.stream.problems import Problems

#: The namespace of labels of hosts.
LABELS: Final = "envoy.lb"


class Label(Block, kw_only=True):
    """A label to set."""

    key: str = ""
    value: str = ""
    namespace: Annotated[
        str, own("note it as dynamic metadata of this namespace, which rbac reads; a label only with `envoy.lb`")
    ] = ""


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

    Raises RepeatedField for a repeated header. Cost per request: one header lookup per rule.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        problems = Problems()
        problems.require(settings.request_rules, ".request_rules", "at least one rule is required")
        for i, rule in enumerate(settings.request_rules):
            _check(rule, f".request_rules[{i}]", problems)
        problems.end()
        self._rules = settings.request_rules

    def on_route(self, exchange: Exchange) -> None:
        labels: dict[str, str] = {}
        headers = exchange.request.headers
        for rule in self._rules:
            value = headers.single(rule.header)
            label = rule.on_header_missing if value is None else rule.on_header_present
            text = "" if label is None else label.value or value
            if label is not None and text:
                if label.namespace:
                    note_metadata(exchange, label.namespace, {label.key: text})
                if label.namespace in ("", LABELS):
                    labels[label.key] = text
            if rule.remove and value is not None:
                headers.remove(rule.header)
        if labels:
            choices = exchange.overrides
            before = {} if choices is None or choices.subset is None else dict(choices.subset)
            exchange.choose(subset={**before, **labels})


def _check(rule: Rule, path: str, problems: Problems) -> None:
    check = problems.changed_header if rule.remove else problems.header
    check(f"{path}.header", rule.header)
    present, missing = rule.on_header_present, rule.on_header_missing
    problems.require(present or missing, path, "a rule needs on_header_present or on_header_missing")
    if present is not None:
        problems.require(present.key, f"{path}.on_header_present.key", "the label's name is missing")
    if missing is not None:
        problems.require(missing.key, f"{path}.on_header_missing.key", "the label's key is missing")
        problems.require(missing.value, f"{path}.on_header_missing.value", "the label's value is missing")


SPEC: Final = FilterSpec("header_to_metadata", Settings, HeaderToMetadataFilter)
