"""Lists the available stream and connection filters: shipped, installed, and those of a configuration."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

import msgspec
from msgspec import structs

from pymosn.api.connection_filter import ConnectionFilter
from pymosn.api.stream_filter import FAIL, SKIP, StreamFilter
from pymosn.assembly.filters import FilterBuilder, filter_name, modules_on_disk
from pymosn.config.schema import Listener, MosnConfig
from pymosn.config.schema import StreamFilter as FilterConfig
from pymosn.config.schema.stream_filters import NO_OP_STREAM_FILTERS, PLANNED, stream_filter_settings
from pymosn.core import errors
from pymosn.core.counters import Metrics
from pymosn.core.log import Log
from pymosn.filters.errors import describe
from pymosn.filters.loading import CONNECTION_FILTERS, FILTERS, is_connection_filter, is_filter
from pymosn.filters.stream.shipped import SHIPPED as SHIPPED_FILTERS
from pymosn.filters.stream.shipped import spec_of
from pymosn.kit.schema import Field, Schema, config_schema, fields

PHASES: Final = ("on_request", "on_route", "on_host", "on_request_body", "on_response", "on_response_body", "on_complete")
#: The methods of connection filters.
METHODS: Final = (
    *("on_connection", "on_data", "on_write", "on_eof", "on_write_eof", "on_writable", "on_idle", "on_drain", "on_close"),
)
NOT_BUILT: Final = "not built"


class FilterInfo(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A stream or connection filter. `origin`: shipped, installed or configured.

    `state`: `works`, `not built`, or why it cannot be used.

    `source`: its file or package. `phases`: the methods that it implements; coroutines are followed by ` async`.
    `protocols`: the protocols whose exchanges it handles; empty for all. `schema`: JSON Schema of its configuration; None
    if it accepts any object. `timeout` in seconds, 0 for none.
    """

    name: str
    origin: str
    state: str = "works"
    source: str = ""
    about: str = ""
    phases: list[str] = []
    protocols: list[str] = []
    on_error: str = ""
    timeout: float = 0.0
    schema: Schema | None = None


def shipped() -> list[FilterInfo]:
    """The filters that come with pymosn, and those of MOSN that are not implemented yet."""
    found = []
    for spec in map(spec_of, SHIPPED_FILTERS):
        info = FilterInfo(name=spec.name, origin="shipped", about=_first_line(spec.settings))
        if isinstance(spec.make, type):
            info = _describe(info, spec.make)
        found.append(structs.replace(info, schema=config_schema(spec.settings)))
    for name, block in PLANNED.items():
        schema = config_schema(block)
        found.append(FilterInfo(name=name, origin="shipped", about=_first_line(block), state=NOT_BUILT, schema=schema))
    return sorted(found, key=lambda info: (info.state != "works", info.name))


def installed() -> list[FilterInfo]:
    """The filters of installed packages."""
    groups = (FILTERS, CONNECTION_FILTERS)
    return [_installed(p, group) for group in groups for p in sorted(entry_points(group=group), key=lambda p: p.name)]


def _installed(point: EntryPoint, group: str) -> FilterInfo:
    package = f"{point.dist.name} {point.dist.version}, " if point.dist is not None else ""
    info = FilterInfo(name=point.name, origin="installed", source=f"{package}{point.value}")
    try:
        kind = point.load()
    except BaseException as error:  # a package may call `sys.exit`
        return structs.replace(info, state=f"cannot be loaded: {describe(error)}")
    if group == CONNECTION_FILTERS:
        if not is_connection_filter(kind):
            return structs.replace(info, state="is not a subclass of pymosn.api.ConnectionFilter")
        return _describe_connection(info, kind)
    if not is_filter(kind):
        return structs.replace(info, state="is not a subclass of pymosn.api.StreamFilter")
    return _describe(info, kind)


def configured(config: MosnConfig, config_dir: str) -> list[FilterInfo]:
    """The filters of a configuration, listener by listener. Creates each of them like `check`, without starting it."""
    found = []
    modules = modules_on_disk(config.servers[0].listeners, config_dir)
    for listener in config.servers[0].listeners:
        builder = FilterBuilder(config_dir, Metrics(), Log(), {}, {}, modules)
        for key, entries in listener.filter_lists():
            for index, entry in enumerate(entries):
                if entry.type not in NO_OP_STREAM_FILTERS:
                    alone = structs.replace(listener, stream_filters=[entry])
                    path = f"{listener.name or listener.address}, {key}[{index}]"
                    found.append(_configured(builder, alone, entry, path))
        for chain in range(len(listener.filter_chains)):
            found += _connection_filters(builder, listener, chain)
    modules.rollback()
    return found


def _connection_filters(builder: FilterBuilder, listener: Listener, index: int) -> list[FilterInfo]:
    """The connection filters of a chain."""
    found = []
    for place, entry in listener.filter_chains[index].connection_filters():
        path = f"{listener.known_name()}, filter_chains[{index}].filters[{place}]"
        info = FilterInfo(name=filter_name(entry), origin="configured", source=f"{path}, {entry.path or entry.name}")
        known = len(builder.faults)
        handle = builder.connection_filter(listener, index, place, entry)
        if handle is None:
            info = structs.replace(info, state="; ".join(fault.message for fault in builder.faults[known:]))
        else:
            info = _describe_connection(info, handle.kind)
        found.append(info)
    return found


def _configured(builder: FilterBuilder, listener: Any, entry: FilterConfig, path: str) -> FilterInfo:
    source = f"{path}, {entry.config.get('path')}" if entry.type == "python" else f"{path}, type {entry.type}"
    info = FilterInfo(name=filter_name(entry), origin="configured", source=source)
    known = len(builder.faults)
    chain = builder.chain(listener, "")
    if not chain.all:
        faults = [f"{fault.path.partition(']')[2].lstrip('.')} {fault.message}".strip() for fault in builder.faults[known:]]
        return structs.replace(info, state="; ".join(faults))
    named = chain.all[0]
    info = _describe(info, type(named.filter))
    if info.schema is None and entry.type != "python":
        info.schema = config_schema(stream_filter_settings(entry.type))
    return structs.replace(info, on_error=SKIP if named.skips_errors else "fail", timeout=named.timeout)


def _describe(info: FilterInfo, kind: type[StreamFilter]) -> FilterInfo:
    try:
        schema = config_schema(kind.Config)
    except BaseException as error:  # of a validator, for example
        return structs.replace(info, state=f"its Config has no schema: {errors.describe(error)}")
    try:
        return structs.replace(
            info,
            about=errors.text_of(_first_line(kind)),
            phases=[_phase(kind, name) for name in PHASES if getattr(kind, name) is not getattr(StreamFilter, name)],
            protocols=[errors.text_of(name) for name in kind.protocols],
            on_error=errors.text_of(kind.on_error),
            timeout=float(kind.timeout),
            schema=schema,
        )
    except BaseException as error:  # of an attribute of its class
        return structs.replace(info, state=f"cannot be described: {describe(error)}")


def _describe_connection(info: FilterInfo, kind: type[ConnectionFilter]) -> FilterInfo:
    try:
        return structs.replace(
            info,
            about=errors.text_of(_first_line(kind)),
            phases=[_phase(kind, name) for name in METHODS if getattr(kind, name) is not getattr(ConnectionFilter, name)],
            on_error=FAIL,
            timeout=float(kind.timeout),
            schema=config_schema(kind.Config),
        )
    except BaseException as error:  # of an attribute of its class, or of its Config
        return structs.replace(info, state=f"cannot be described: {describe(error)}")


def _phase(kind: type, name: str) -> str:
    return f"{name} async" if inspect.iscoroutinefunction(getattr(kind, name)) else name


def _first_line(kind: type) -> str:
    return inspect.cleandoc(kind.__doc__ or "").partition("\n")[0]


def as_text(found: Iterable[FilterInfo]) -> str:
    """A readable list of the filters."""
    known = list(found)
    missing = ", ".join(info.name for info in known if info.state == NOT_BUILT)
    texts = [_text(info) for info in known if info.state != NOT_BUILT]
    return "\n\n".join([*texts, f"MOSN's filters that are not implemented yet: {missing}"] if missing else texts)


def _text(info: FilterInfo) -> str:
    source = f" ({info.source})" if info.source else ""
    lines = [f"{info.name}: {info.origin}{source}{'' if info.state == 'works' else f': {info.state}'}"]
    if info.about:
        lines.append(f"  {info.about}")
    if info.state != "works":
        return "\n".join(lines)
    if info.phases:
        lines.append(f"  phases    {', '.join(info.phases)}")
    if info.protocols:
        lines.append(f"  only for  {', '.join(info.protocols)}")
    if info.on_error:
        timeout = f", timeout {info.timeout:g} s" if info.timeout else ""
        lines.append(f"  on error  {info.on_error}{timeout}")
    if info.schema is None:
        lines.append("  config    any object, checked by the filter itself")
        return "\n".join(lines)
    keys = fields(info.schema)
    lines.append("  config" if keys else "  config    no keys")
    return "\n".join([*lines, *(_field_text(key) for key in keys)])


def _field_text(field: Field) -> str:
    default = f" = {field.default}" if field.default else ", required"
    about = f"  {field.about}" if field.about else ""
    return f"    {field.name}: {field.type}{default}{about}"
