"""Access loggers -> `access_logs`."""

from __future__ import annotations

from typing import Final

from pymosn.config.schema import AccessLog
from pymosn.config.schema.http_chain import Comparison, LogCondition, LogFilter, LogHeader
from pymosn.control.xds.convert.formats import json_members, one_line
from pymosn.control.xds.convert.values import fraction, header_match
from pymosn.control.xds.convert.view import View

_LOGGERS: Final = "envoy.extensions.access_loggers."
_STREAMS: Final = {
    f"{_LOGGERS}stream.v3.StdoutAccessLog": "stdout",
    f"{_LOGGERS}stream.v3.StderrAccessLog": "stderr",
}
_PATHS: Final = {"/dev/stdout": "stdout", "/dev/stderr": "stderr"}
_OPS: Final = {"EQ": "eq", "GE": "ge", "LE": "le", "NE": "ne"}
#: Envoy's default format.
DEFAULT: Final = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% '
    '%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" '
    '"%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"'
)


def read_access_logs(view: View) -> list[AccessLog]:
    """The `access_log` of a listener or filter. Loggers of other kinds are left out, with a warning."""
    return [made for item in view.items("access_log") if (made := _access_log(item)) is not None]


def _access_log(view: View) -> AccessLog | None:
    with view:
        view.value("name")
        inner = view.inner("filter")
        condition = None if inner is None else log_filter(inner)
        if not view.has("typed_config"):
            view.fault("typed_config", "missing")
            return None
        url = view.message.typed_config.type_url.rpartition("/")[2]
        if url != f"{_LOGGERS}file.v3.FileAccessLog" and url not in _STREAMS:
            view.value("typed_config")
            view.warn("typed_config", f"{url} is not supported; this access log is left out")
            return None
        config = view.typed("typed_config")
        if config is None:
            return None
        with config:
            log = AccessLog(filter=condition)
            if url in _STREAMS:
                log.log_path = _STREAMS[url]
            else:
                path = config.value("path")
                log.log_path = _PATHS.get(path, path)
            _read_format(config, log)
        return log


def _read_format(view: View, log: AccessLog) -> None:
    kind = view.which("access_log_format")
    if kind == "log_format":
        inner = view.inner(kind)
        assert inner is not None
        with inner:
            _read_log_format(inner, log)
    elif kind == "format":
        log.log_format = one_line(view.value(kind), view, kind)
    elif kind in ("json_format", "typed_json_format"):
        log.json_format = json_members(view.struct(kind), view, kind)
    else:
        log.log_format = one_line(DEFAULT, view, "")


def _read_log_format(view: View, log: AccessLog) -> None:
    log.omit_empty = view.value("omit_empty_values")
    kind = view.which("format")
    if kind == "json_format":
        log.json_format = json_members(view.struct(kind), view, kind)
        return
    log.omit_empty = False
    if kind == "text_format":
        log.log_format = one_line(view.value(kind), view, kind)
        return
    source = view.inner("text_format_source")
    if source is None:
        view.fault("", "expected text_format_source or json_format")
        return
    with source:
        how = source.which("specifier")
        if how not in ("inline_string", "inline_bytes"):
            source.fault(how, "expected inline_string")
            return
        text = source.value(how)
        log.log_format = one_line(text if isinstance(text, str) else text.decode("utf-8", "replace"), source, how)


def log_filter(view: View) -> LogFilter:
    """An AccessLogFilter. Conditions may be combined once, by `and_filter` or `or_filter`."""
    with view:
        kind = view.which("filter_specifier")
        if kind in ("and_filter", "or_filter"):
            inner = view.inner(kind)
            assert inner is not None
            with inner:
                conditions = [_condition(item) for item in inner.items("filters")]
            return LogFilter(all_of=conditions) if kind == "and_filter" else LogFilter(any_of=conditions)
        return LogFilter(all_of=[_read_condition(view, kind)])


def _condition(view: View) -> LogCondition:
    with view:
        kind = view.which("filter_specifier")
        if kind in ("and_filter", "or_filter"):
            view.refuse(kind, "conditions of access logs can be combined only once")
            return LogCondition()
        return _read_condition(view, kind)


def _read_condition(view: View, kind: str) -> LogCondition:
    made = LogCondition()
    inner = view.inner(kind) if kind in _READERS else None
    if inner is None:
        if kind:
            view.refuse(kind, "not supported")
        else:
            view.fault("", "expected a condition")
        return made
    with inner:
        _READERS[kind](inner, made)
    return made


def _status(view: View, made: LogCondition) -> None:
    made.status = _comparison(view)


def _duration(view: View, made: LogCondition) -> None:
    made.duration_ms = _comparison(view)


def _comparison(view: View) -> Comparison:
    inner = view.inner("comparison")
    if inner is None:
        view.fault("comparison", "missing")
        return Comparison()
    with inner:
        op = _OPS.get(inner.enum("op"))
        if op is None:
            inner.fault("op", "unknown")
        value = inner.inner("value")
        number = 0
        if value is not None:
            with value:
                number = value.value("default_value")
                value.value("runtime_key")  # there is no run-time layer
    return Comparison(op=op or "eq", value=number)  # type: ignore[arg-type]


def _flags(view: View, made: LogCondition) -> None:
    made.response_flags = view.values("flags")
    made.failed = not made.response_flags


def _header(view: View, made: LogCondition) -> None:
    inner = view.inner("header")
    if inner is None:
        view.fault("header", "missing")
        return
    match = header_match(inner)
    if match.range_match is not None or match.name.startswith(":"):
        view.fault("header", "only conditions on the text of a header are supported")
    made.header = LogHeader(name=match.name, match=match.string_match, invert=match.invert_match)


def _grpc(view: View, made: LogCondition) -> None:
    statuses = view.message.statuses
    view.values("statuses")
    made.grpc_status = [int(status) for status in statuses]
    made.exclude_grpc_status = view.value("exclude")


def _sample(view: View, made: LogCondition) -> None:
    view.value("runtime_key")
    view.value("use_independent_randomness")
    inner = view.inner("percent_sampled")
    made.sample = 100.0 if inner is None else fraction(inner)


def _all(_view: View, _made: LogCondition) -> None:
    """No request is recognized as a health check: all are logged."""


_READERS: Final = {
    "status_code_filter": _status,
    "duration_filter": _duration,
    "response_flag_filter": _flags,
    "header_filter": _header,
    "grpc_status_filter": _grpc,
    "runtime_filter": _sample,
    "not_health_check_filter": _all,
}
