"""The form of local replies of a `proxy`."""

from __future__ import annotations

from pymosn.assembly.access_logs import log_condition
from pymosn.assembly.header_changes import addition
from pymosn.config.schema import Listener
from pymosn.config.schema.local_replies import HTML, JSON, TEXT, ReplyFormat, ReplyMapper
from pymosn.config.schema.local_replies import LocalReplies as Config
from pymosn.core.clock import Clock
from pymosn.observe.reply_body import body_of
from pymosn.proxy.local_replies import LocalReplies, ReplyBodies, ReplyBodyFormat, ReplyMapping
from pymosn.routing.changes import EnvoyLevel


def local_replies(config: Config | None, clock: Clock, listener: Listener) -> LocalReplies | None:
    """Their form on a listener; None if they are sent as they are made. ValueError, which the check has reported."""
    if config is None:
        return None
    return LocalReplies(
        [_mapping(mapper, clock, listener) for mapper in config.mappers],
        _bodies(config.format, config.formats, clock, listener),
    )


def _mapping(mapper: ReplyMapper, clock: Clock, listener: Listener) -> ReplyMapping:
    return ReplyMapping(
        log_condition(mapper.filter),
        mapper.status,
        None if mapper.body is None else mapper.body.encode(),
        _bodies(mapper.format, mapper.formats, clock, listener),
        EnvoyLevel([addition(item) for item in mapper.headers_to_add], []) if mapper.headers_to_add else None,
    )


def _bodies(single: ReplyFormat | None, several: list[ReplyFormat], clock: Clock, listener: Listener) -> ReplyBodies | None:
    formats = several if single is None else [single]
    return ReplyBodies([_format(config, clock, listener) for config in formats]) if formats else None


def _format(config: ReplyFormat, clock: Clock, listener: Listener) -> ReplyBodyFormat:
    body = body_of(config.text, config.json, config.html, config.omit_empty)
    body.bind(clock, listener.known_name(), listener.type)
    default = JSON if config.json else HTML if config.html else TEXT
    return ReplyBodyFormat(body.make, (config.content_type or default).encode(), bool(config.html))
