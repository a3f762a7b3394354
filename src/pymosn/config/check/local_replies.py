"""Checks the form of local replies."""

import re
from typing import Final

from pymosn.config.check.access_logs import check_condition
from pymosn.config.check.routes import check_additions
from pymosn.config.diagnostics import Diagnostics
from pymosn.config.schema.local_replies import HTML, JSON, TEXT, LocalReplies, ReplyFormat
from pymosn.observe.reply_body import body_of

#: Characters of a body or a format in the configuration.
LONGEST_TEXT: Final = 256 * 1024
_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
#: RFC 9110 section 8.3.1.
_MEDIA_TYPE: Final = re.compile(rf'{_TOKEN}/{_TOKEN}([ \t]*;[ \t]*{_TOKEN}=({_TOKEN}|"[ !#-\[\]-~]*"))*')


def check_local_replies(replies: LocalReplies, path: str, report: Diagnostics) -> None:
    """Check the mappers and formats of a `proxy`."""
    _check_formats(replies.format, replies.formats, path, report)
    for i, mapper in enumerate(replies.mappers):
        inner = f"{path}.mappers[{i}]"
        _check_formats(mapper.format, mapper.formats, inner, report)
        if mapper.body is not None:
            _check_length(mapper.body, f"{inner}.body", report)
        check_additions(mapper.headers_to_add, f"{inner}.headers_to_add", "response", report)
        if mapper.filter is not None:
            check_condition(mapper.filter, f"{inner}.filter", report)


def _check_formats(single: ReplyFormat | None, several: list[ReplyFormat], path: str, report: Diagnostics) -> None:
    if single is not None:
        _check_format(single, f"{path}.format", report)
        if several:
            report.error(f"{path}.formats", "format and formats are mutually exclusive")
            return
    types: dict[str, str] = {}
    for i, format in enumerate(several):
        inner = f"{path}.formats[{i}]"
        _check_format(format, inner, report)
        kind = format.content_type or (JSON if format.json else HTML if format.html else TEXT)
        if (earlier := types.setdefault(kind.partition(";")[0].strip().lower(), inner)) != inner:
            report.error(inner, f"has the content type of the one in {report.line(earlier)}: no Accept prefers it")


def _check_format(format: ReplyFormat, path: str, report: Diagnostics) -> None:
    given = [key for key in ("text", "json", "html") if getattr(format, key)]
    for key in given[1:]:
        report.error(f"{path}.{key}", f"{given[0]} and {key} are mutually exclusive")
    if len(given) > 1:
        return
    if format.omit_empty and not format.json:
        report.warning(f"{path}.omit_empty", "has no effect without json")
    if format.content_type and not _MEDIA_TYPE.fullmatch(format.content_type):
        report.error(f"{path}.content_type", "not a media type, such as text/plain", format.content_type)
    for key in ("text", "html"):
        _check_length(getattr(format, key), f"{path}.{key}", report)
    key = given[0] if given else "text"
    made = report.attempt(f"{path}.{key}", body_of, format.text, format.json, format.html, format.omit_empty)
    for warning in () if made is None else made.warnings:
        report.warning(f"{path}.{key}", warning)


def _check_length(text: str, path: str, report: Diagnostics) -> None:
    if len(text) > LONGEST_TEXT:
        report.error(path, f"must not be longer than {LONGEST_TEXT} characters; it has {len(text)}")
