"""Writes docs/compatibility.md from the schema: every key of MOSN and what it does in this version.

python -m pymosn.config.compatibility           prints the page
python -m pymosn.config.compatibility --write   writes docs/compatibility.md of the current directory
"""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import inspect

from pymosn.config import surface
from pymosn.config.duration import format_duration
from pymosn.config.schema import (
    Cluster,
    ClusterManager,
    FilterChain,
    Host,
    Listener,
    MosnConfig,
    ProxyConfig,
    Route,
    RouteAction,
    RouterConfiguration,
    Server,
    TlsContext,
    VirtualHost,
)
from pymosn.config.schema.cluster import HealthCheck
from pymosn.config.schema.extensions import EXTENDS
from pymosn.config.schema.network_filters import StreamProxyConfig
from pymosn.config.schema.observability import METRICS_SINKS, TRACE_DRIVERS, Metrics, Tracing
from pymosn.config.schema.router import HeaderToAdd, Metadata
from pymosn.config.schema.stream_filters import LISTENER_FILTERS, PLANNED
from pymosn.filters.settings import DURATION, NOTE, OWN, STATE, State
from pymosn.filters.stream.shipped import SHIPPED, spec_of

PAGE: Final = Path("docs/compatibility.md")

_INTRO: Final = """# Compatibility with MOSN

Written by `python -m pymosn.config.compatibility --write` from the schema in `src/pymosn/config/schema`; do not edit.

- **works**: has its effect.
- **planned**: valid, read and checked, without effect in this version; one warning says so where it is used. Where going on
  without it would be dangerous, the file is refused.
- **no effect**: does nothing here and nothing that matters in MOSN; taken so that existing files load.

Keys marked † are pymosn's own. Keys match in any case, as in MOSN. Unknown keys are warnings, with `--strict` errors.
"""

_TITLES: Final = {State.WORKS: "works", State.PLANNED: "planned", State.IGNORED: "no effect"}

_SHIPPED: Final = tuple(spec_of(name) for name in SHIPPED)
_STREAM_FILTERS: Final = (*((spec.name, State.WORKS, spec.note) for spec in _SHIPPED), *surface.OTHER_STREAM_FILTERS)
_FILTER_DIFFERENCES: Final = (
    *surface.FILTER_DIFFERENCES,
    *((f"`{spec.name}`: {subject}", mosn, ours) for spec in _SHIPPED for subject, mosn, ours in spec.differences),
)
_SURFACE: Final[tuple[tuple[str, str, tuple[surface.Row, ...]], ...]] = (
    ("Network filters", "`type`", surface.NETWORK_FILTERS),
    ("Stream filters", "`type`", _STREAM_FILTERS),
    ("Listener filters", "`type`", surface.LISTENER_FILTERS),
    ("Protocols", "`downstream_protocol`", surface.PROTOCOLS),
    ("Load balancers", "`lb_type`", surface.BALANCERS),
    ("Cluster types", "`type`", surface.CLUSTER_TYPES),
    ("Command line", "command or flag", surface.COMMANDS),
    ("Signals", "signal", surface.SIGNALS),
    ("Admin API", "path", surface.ADMIN_PATHS),
    ("MOSN's shipped examples", "file", surface.EXAMPLES),
)

# Blocks with a heading of their own; all others are shown inside the block that holds them.
_SECTIONS: Final[dict[type, str]] = {
    MosnConfig: "The file",
    Server: "Server",
    Listener: "Listener",
    FilterChain: "Filter chain",
    ProxyConfig: "Network filter `proxy`",
    StreamProxyConfig: "Network filters `tcp_proxy`, `udp_proxy`",
    RouterConfiguration: "Router table",
    VirtualHost: "Virtual host",
    Route: "Route",
    RouteAction: "Route action",
    ClusterManager: "Cluster manager",
    Cluster: "Cluster",
    Host: "Host",
    HealthCheck: "Health check",
    TlsContext: "TLS context",
    Metrics: "Metrics",
    Tracing: "Tracing",
    HeaderToAdd: "Header to add",
    Metadata: "Metadata",
}

_BY_NAME: Final = (
    ("Stream filter", {**{spec.name: spec.settings for spec in _SHIPPED}, **PLANNED}),
    ("Listener filter", LISTENER_FILTERS),
    ("Extension", EXTENDS),
    ("Metrics sink", METRICS_SINKS),
    ("Trace driver", TRACE_DRIVERS),
    (
        "Settings of a route for",
        # Those that differ from the settings of a listener.
        {spec.name: spec.route.settings for spec in _SHIPPED if spec.route and spec.route.settings is not spec.settings},
    ),
)
_DIFFERENCES_HEAD: Final = ("matter", "MOSN", "pymosn")
_HEAD: Final = ("key", "type", "default", "state", "note")


def page() -> str:
    """The whole page as Markdown."""
    parts = [_INTRO]
    for title, head, surface_rows in _SURFACE:
        parts.append(f"## {title}\n\n" + _table((head, "state", "note"), _surface_rows(surface_rows)))
    parts.append("## Routing and retries: what differs on purpose\n\n" + _table(_DIFFERENCES_HEAD, surface.DIFFERENCES))
    parts.append("## Stream filters: what differs on purpose\n\n" + _table(_DIFFERENCES_HEAD, _FILTER_DIFFERENCES))
    parts.append("## Configuration keys\n\n`[]` stands for the entries of an array.\n")
    parts += _Sections().parts(MosnConfig)
    for title, schemas in _BY_NAME:
        for name, schema in schemas.items():
            state = State.WORKS if name in SHIPPED else State.PLANNED
            sections = _Sections()
            rows = list(sections.rows(schema, "", state))
            if rows:
                parts.append(f"### {title} `{name}`\n\n" + _table(_HEAD, rows))
    return "\n".join(parts)


class _Sections:
    """Walks the schema; a block that has a heading is shown once, under it."""

    def __init__(self) -> None:
        self._waiting: list[tuple[type, State]] = []
        self._met: set[type] = set()

    def parts(self, top: type) -> Iterator[str]:
        """One piece of the page for `top` and for every block with a heading below it."""
        self._waiting.append((top, State.WORKS))
        for cls, state in self._waiting:
            rows = list(self.rows(cls, "", state))
            yield f"### {_SECTIONS[cls]}\n\n" + _table(_HEAD, rows)

    def rows(self, cls: type, prefix: str, parent: State) -> Iterator[tuple[str, ...]]:
        """The rows of a block's keys and of the blocks in them. What stands inside a planned key is planned."""
        kind = inspect.type_info(cls)
        assert isinstance(kind, inspect.StructType)
        for field in kind.fields:
            extra, inner = _unwrap(field.type)
            state: State = extra.get(STATE, parent)
            state = parent if state is State.WORKS else state
            name = f"{prefix}{field.encode_name}"
            mark = " †" if extra.get(OWN) else ""
            word = "duration" if extra.get(DURATION) else _word(inner)
            yield (f"`{name}`{mark}", word, _default(field, extra), _TITLES[state], extra.get(NOTE, ""))
            for path, block in _blocks(inner, name):
                if block not in _SECTIONS:
                    yield from self.rows(block, path, state)
                elif block not in self._met:
                    self._met.add(block)
                    self._waiting.append((block, state))


def _surface_rows(rows: Iterable[surface.Row]) -> Iterator[tuple[str, ...]]:
    for name, state, note in rows:
        yield (name if " " in name or "*" in name else f"`{name}`", _TITLES[state], note)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _unwrap(kind: inspect.Type) -> tuple[dict[str, Any], inspect.Type]:
    extra: dict[str, Any] = {}
    if isinstance(kind, inspect.Metadata):
        extra, kind = kind.extra or {}, kind.type
    if isinstance(kind, inspect.UnionType):
        members = [member for member in kind.types if not isinstance(member, inspect.NoneType)]
        if len(members) == 1:
            kind = members[0]
    return extra, kind


def _blocks(kind: inspect.Type, path: str) -> Iterator[tuple[str, type]]:
    """The blocks inside a key, with the prefix of their keys."""
    kind = _unwrap(kind)[1]
    if isinstance(kind, inspect.StructType):
        yield f"{path}.", kind.cls
    elif isinstance(kind, inspect.ListType):
        yield from _blocks(kind.item_type, f"{path}[]")
    elif isinstance(kind, inspect.DictType):
        yield from _blocks(kind.value_type, f"{path}.*")
    elif isinstance(kind, inspect.UnionType):
        for member in kind.types:
            if isinstance(member, inspect.StructType):
                yield f"{path}({member.tag})." if member.tag else f"{path}.", member.cls


_WORDS: Final[dict[type, str]] = {
    inspect.StrType: "string",
    inspect.BoolType: "bool",
    inspect.IntType: "integer",
    inspect.FloatType: "number",
    inspect.DictType: "object",
    inspect.StructType: "object",
    inspect.AnyType: "any",
}


def _word(kind: inspect.Type) -> str:
    kind = _unwrap(kind)[1]
    if isinstance(kind, inspect.StructType) and kind.cls in _SECTIONS:
        return _link(kind.cls)
    if isinstance(kind, inspect.ListType):
        return f"array of {_word(kind.item_type)}"
    if isinstance(kind, inspect.LiteralType):
        return " or ".join(f'"{value}"' for value in kind.values)
    if isinstance(kind, inspect.UnionType):
        if all(isinstance(member, inspect.StructType) for member in kind.types):
            return "object"
        lists = any(isinstance(member, inspect.ListType) for member in kind.types)
        return "object or array of object" if lists else "number or string"
    return _WORDS[type(kind)]


def _link(cls: type) -> str:
    title = _SECTIONS[cls]
    anchor = "".join(char for char in title.lower().replace(" ", "-") if char.isalnum() or char in "-_")
    return f"[{title}](#{anchor})"


def _default(field: inspect.Field, extra: dict[str, Any]) -> str:
    value = field.default
    if value is msgspec.NODEFAULT or value is None or value == "":
        return ""
    if extra.get(DURATION):
        return format_duration(value) if value else "0"
    return msgspec.json.encode(value).decode()


def main() -> None:
    """Print the page, or write it with `--write`."""
    if "--write" in sys.argv[1:]:
        PAGE.write_text(page(), encoding="utf-8")
    else:
        sys.stdout.write(page())


if __name__ == "__main__":
    main()
