"""Tracing: formats of contexts, and sampling; `trace_drivers` has the drivers."""

from collections.abc import Collection

from pymosn.config.diagnostics import Diagnostics
from pymosn.config.schema.observability import SamplingRule, Tracing
from pymosn.core.headers import is_token
from pymosn.observe.tracing.formats import FORMATS


def check_tracing(tracing: Tracing, report: Diagnostics, listeners: Collection[str]) -> None:
    """Reports faults of `tracing`, also if it is not enabled. `listeners`: their names."""
    path = "tracing"
    for i, name in enumerate(tracing.propagation):
        if name not in FORMATS:
            report.error(f"{path}.propagation[{i}]", f"must be one of {', '.join(FORMATS)}", name, FORMATS)
        elif name in tracing.propagation[:i]:
            report.error(f"{path}.propagation[{i}]", "is listed before", name)
    sampling = tracing.sampling
    if sampling.header and not is_token(sampling.header.encode(errors="replace")):
        report.error(f"{path}.sampling.header", "not a header name", sampling.header)
    for i, rule in enumerate(sampling.rules):
        _check_rule(rule, f"{path}.sampling.rules[{i}]", report, listeners)
    _check_rate(tracing, report)


def _check_rule(rule: SamplingRule, path: str, report: Diagnostics, listeners: Collection[str]) -> None:
    if not (rule.path or rule.method or rule.service or rule.listener or rule.route or rule.header):
        report.error(path, "needs path, method, service, listener, route or header; the rate of all others is `rate`")
    if rule.path and not rule.path.startswith("/"):
        report.error(f"{path}.path", "must begin with a slash", rule.path)
    if rule.listener and rule.listener not in listeners:
        report.error(f"{path}.listener", "there is no such listener", rule.listener, listeners)
    if rule.header and not is_token(rule.header.encode(errors="replace")):
        report.error(f"{path}.header", "not a header name", rule.header)
    if rule.header_value and not rule.header:
        report.error(f"{path}.header_value", "needs `header`", rule.header_value)


def _check_rate(tracing: Tracing, report: Diagnostics) -> None:
    """Zipkin's `sample_rate`, which is 0 unless it is set."""
    if tracing.driver != "Zipkin" or tracing.sampling.rate is not None:
        return
    rate = tracing.config.get("sample_rate", 0)
    if isinstance(rate, bool) or not isinstance(rate, (int, float)):
        return  # reported when it was read
    if not 0 <= rate <= 1:
        report.odd("tracing.config.sample_rate", "must be between 0 and 1: no traces are recorded, as in MOSN", rate)
    elif not rate and tracing.enable and not tracing.sampling.rules:
        message = "is 0 unless it is set, as in MOSN: only traces that callers want to be recorded are"
        report.warning("tracing.config.sample_rate" if "sample_rate" in tracing.config else "tracing.config", message)
