"""Checks the form of local replies."""

from pymosn.config.check.access_logs import check_condition
from pymosn.config.check.routes import check_additions
from pymosn.config.diagnostics import Diagnostics
from pymosn.config.schema.local_replies import LocalReplies, ReplyFormat
from pymosn.core.headers import encode_value
from pymosn.observe.reply_body import JsonBody, TextBody


def check_local_replies(replies: LocalReplies, path: str, report: Diagnostics) -> None:
    """Check the mappers and formats of a `proxy`."""
    _check_format(replies.format, f"{path}.format", report)
    for i, mapper in enumerate(replies.mappers):
        inner = f"{path}.mappers[{i}]"
        _check_format(mapper.format, f"{inner}.format", report)
        check_additions(mapper.headers_to_add, f"{inner}.headers_to_add", "response", report)
        if mapper.filter is not None:
            check_condition(mapper.filter, f"{inner}.filter", report)


def _check_format(format: ReplyFormat | None, path: str, report: Diagnostics) -> None:
    if format is None:
        return
    if format.json and format.text:
        report.error(f"{path}.json", "text and json are mutually exclusive")
        return
    if format.omit_empty and not format.json:
        report.warning(f"{path}.omit_empty", "has no effect without json")
    report.attempt(f"{path}.content_type", encode_value, "content-type", format.content_type)
    made: JsonBody | TextBody | None
    if format.json:
        made = report.attempt(f"{path}.json", JsonBody, format.json, format.omit_empty)
    else:
        made = report.attempt(f"{path}.text", TextBody, format.text, value=format.text)
    for warning in () if made is None else made.warnings:
        report.warning(f"{path}.{'json' if format.json else 'text'}", warning)
