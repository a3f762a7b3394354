"""LocalReplyConfig of the HTTP connection manager -> `local_replies`."""

from __future__ import annotations

from pymosn.config.schema.local_replies import LocalReplies, ReplyFormat, ReplyMapper
from pymosn.control.xds.convert import route_headers, values
from pymosn.control.xds.convert.access_logs import log_filter
from pymosn.control.xds.convert.formats import json_members, translate_body
from pymosn.control.xds.convert.view import View

#: Envoy's default for texts.
_TEXT = "text/plain"


def read_local_replies(view: View) -> LocalReplies | None:
    """The field `local_reply_config`; None without it."""
    config = view.inner("local_reply_config")
    if config is None:
        return None
    with config:
        mappers = [_mapper(item) for item in config.items("mappers")]
        return LocalReplies(mappers=mappers, format=_format(config, "body_format"))


def _mapper(view: View) -> ReplyMapper:
    with view:
        condition = view.inner("filter")
        if condition is None:
            view.fault("filter", "missing")
        made = ReplyMapper(filter=None if condition is None else log_filter(condition))
        made.status = view.wrapped("status_code")
        if made.status is not None and not 200 <= made.status <= 599:
            view.fault("status_code", f"must be from 200 to 599, got {made.status}")
            made.status = None
        body = view.inner("body")
        made.body = None if body is None else values.inline_text(body)
        made.format = _format(view, "body_format_override")
        made.headers_to_add = route_headers.additions(view, "headers_to_add")
    return made


def _format(outer: View, name: str) -> ReplyFormat | None:
    """A SubstitutionFormatString."""
    view = outer.inner(name)
    if view is None:
        return None
    with view:
        made = ReplyFormat(content_type=view.line("content_type"))
        view.refuse("formatters", "command operators of extensions are not supported")
        omits = view.value("omit_empty_values")
        kind = view.which("format")
        if kind == "json_format":
            made.omit_empty = omits
            made.json = json_members(view.struct(kind), view, kind, translate_body)
            if not made.json:
                view.fault(kind, "must not be empty")
            return made
        text = ""
        if kind == "text_format":
            text = view.value(kind)
        elif kind == "text_format_source":
            inner = view.inner(kind)
            text = "" if inner is None else values.inline_text(inner)
        else:
            view.fault("", "expected text_format_source or json_format")
        if omits:
            view.warn("omit_empty_values", "of texts is not supported: what has no value is -")
        made.text = translate_body(text, view, kind)
        made.content_type = made.content_type or _TEXT
    return made
