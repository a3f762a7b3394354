"""Generates docs/compatibility.md from the schema: every key of MOSN and its effect in this version.

python -m pymosn.config.compatibility           prints the page
python -m pymosn.config.compatibility --write   writes docs/compatibility.md of the current directory
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from string import Template
from typing import Any, Final

import msgspec
from msgspec import inspect

from pymosn.config.duration import format_duration
from pymosn.config.schema import absent, cluster, network_filters, observability, router, server, tls, top
from pymosn.config.schema.extensions import EXTENDS
from pymosn.config.schema.observability import METRICS_SINKS, TRACE_DRIVERS
from pymosn.config.schema.stream_filters import LISTENER_FILTERS, PLANNED
from pymosn.filters.settings import DURATION, NOTE, OWN, QUIET, STATE, Block, State
from pymosn.filters.stream.shipped import SHIPPED, spec_of

PAGE: Final = Path("docs/compatibility.md")
# What is written by hand: everything but the keys and the rows of shipped filters.
_TEMPLATE: Final = Path(__file__).with_name("compatibility.md")
#: The states of MOSN's samples, which tests/system/test_mosn_samples.py confirms by running them.
SAMPLES: Final = Path(__file__).with_name("compatibility_samples.json")
_TITLES: Final = {State.WORKS: "works", State.PLANNED: "planned", State.IGNORED: "no effect"}

# Blocks with their own heading; all others are shown inside the block that contains them.
_SECTIONS: Final[dict[type, str]] = {
    top.MosnConfig: "The file",
    server.Server: "Server",
    server.Listener: "Listener",
    server.FilterChain: "Filter chain",
    network_filters.ProxyConfig: "Network filter `proxy`",
    network_filters.StreamProxyConfig: "Network filters `tcp_proxy`, `udp_proxy`",
    router.RouterConfiguration: "Router table",
    router.VirtualHost: "Virtual host",
    router.Route: "Route",
    router.RouteAction: "Route action",
    cluster.ClusterManager: "Cluster manager",
    cluster.Cluster: "Cluster",
    cluster.Host: "Host",
    cluster.HealthCheck: "Health check",
    tls.TlsContext: "TLS context",
    observability.Metrics: "Metrics",
    observability.Tracing: "Tracing",
    router.HeaderToAdd: "Header to add",
    router.Metadata: "Metadata",
}


def sample_states() -> dict[str, list[str]]:
    """State and note of each of MOSN's samples, by its path in MOSN's repository."""
    found: dict[str, list[str]] = msgspec.json.decode(SAMPLES.read_bytes())
    return found


def page() -> str:
    """The whole page as Markdown."""
    shipped = [spec_of(name) for name in SHIPPED]
    differences = [(f"`{spec.name}`: {row[0]}", *row[1:]) for spec in shipped for row in spec.differences]
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        shipped_filters=_rows((f"`{spec.name}`", "works", spec.note) for spec in shipped),
        planned_filters=_rows((f"`{name}`", "planned", _rejected(absent.STREAM_FILTERS.get(name, ""))) for name in PLANNED),
        planned_network_filters=_rows(
            (f"`{name}`", "planned", _rejected(text)) for name, text in absent.NETWORK_FILTERS.items()
        ),
        absent=_rows((f"{kind} `{name}`", text) for kind, name, text in _absent()),
        samples=_rows((f"`{path}`", *found) for path, found in sample_states().items()),
        filter_differences=_rows(differences),
        keys="\n".join([*_sections(), *_sections_by_name()]),
    )


def _rejected(instead: str) -> str:
    return f"a file that uses it is rejected: {instead}" if instead else "a file that uses it is rejected"


def _absent() -> Iterator[tuple[str, str, str]]:
    """What is neither a filter nor built: its kind, name, and what to use instead."""
    for kind, sentences in (
        ("`extends` of the type", absent.EXTENSIONS),
        ("trace driver", absent.TRACE_DRIVERS),
        ("codec of the type", absent.CODECS),
    ):
        for name, text in sentences.items():
            yield kind, name, text


def _sections() -> Iterator[str]:
    """A section for every block with a heading, in the order in which they are found in the file."""
    found: list[tuple[type, State]] = [(top.MosnConfig, State.WORKS)]
    for cls, state in found:
        yield f"### {_SECTIONS[cls]}\n\n{_table(_keys(cls, '', state, found))}"


def _sections_by_name() -> Iterator[str]:
    """The settings that depend on a name; those of routes only if they differ from the settings of a listener."""
    shipped = [spec_of(name) for name in SHIPPED]
    routes = {spec.name: spec.route.settings for spec in shipped if spec.route and spec.route.settings is not spec.settings}
    by_title: dict[str, dict[str, type[Block]]] = {
        "Stream filter": {**{spec.name: spec.settings for spec in shipped}, **PLANNED},
        "Listener filter": LISTENER_FILTERS,
        "Extension": EXTENDS,
        "Metrics sink": METRICS_SINKS,
        "Trace driver": TRACE_DRIVERS,
        "Settings of a route for": routes,
    }
    for title, blocks in by_title.items():
        for name, block in blocks.items():
            works = name in SHIPPED or name in LISTENER_FILTERS
            keys = list(_keys(block, "", State.WORKS if works else State.PLANNED, []))
            if keys:
                yield f"### {title} `{name}`\n\n{_table(keys)}"


def _keys(cls: type, prefix: str, parent: State, found: list[tuple[type, State]]) -> Iterator[tuple[str, ...]]:
    """The rows of a block's keys and of the blocks inside. Everything inside a planned key is planned.

    Blocks with a heading are added to `found` instead, once each.
    """
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
                inner_state = State.PLANNED if block in network_filters.PLANNED else state
                if block in network_filters.REJECTED:
                    inner_state = State.IGNORED
                yield from _keys(block, path, inner_state, found)
            elif all(block is not other for other, _ in found):
                found.append((block, state))


def own_keys(cls: type) -> Iterator[tuple[str | int, ...]]:
    """The paths of pymosn's own keys in a block and in the blocks inside. The index of an item is 0.

    Blocks within themselves, in maps and of filters with a `type` are left out.
    """
    return (path for path, _ in _marked(cls, lambda extra: bool(extra.get(OWN)), ()))


def keys_without_effect(cls: type) -> Iterator[tuple[tuple[str | int, ...], inspect.Type]]:
    """The same of planned keys and of those without effect, with their types; not those that have checks of their own."""

    def is_idle(extra: dict[str, Any]) -> bool:
        return extra.get(STATE, State.WORKS) is not State.WORKS and not extra.get(QUIET)

    return _marked(cls, is_idle, ())


def _marked(
    cls: type, is_meant: Callable[[dict[str, Any]], bool], seen: tuple[type, ...]
) -> Iterator[tuple[tuple[str | int, ...], inspect.Type]]:
    kind = inspect.type_info(cls)
    assert isinstance(kind, inspect.StructType)
    for field in kind.fields:
        extra, inner = _unwrap(field.type)
        if is_meant(extra):
            yield (field.encode_name,), inner
        for path, block in _blocks(inner, field.encode_name):
            if block in seen or "*" in path or "(" in path:
                continue
            steps = path.removesuffix(".").replace("[]", ".0").split(".")
            for keys, found in _marked(block, is_meant, (*seen, cls)):
                yield (*(0 if step == "0" else step for step in steps), *keys), found


def _table(keys: Iterable[tuple[str, ...]]) -> str:
    return f"| key | type | default | state | note |\n|---|---|---|---|---|\n{_rows(keys)}\n"


def _rows(rows: Iterable[tuple[str, ...]]) -> str:
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def _unwrap(kind: inspect.Type) -> tuple[dict[str, Any], inspect.Type]:
    """What a type is besides its marks and None, and all of its marks."""
    if isinstance(kind, inspect.Metadata):
        extra, inner = _unwrap(kind.type)
        return {**extra, **(kind.extra or {})}, inner
    if isinstance(kind, inspect.UnionType):
        members = [member for member in kind.types if not isinstance(member, inspect.NoneType)]
        if len(members) == 1:
            return _unwrap(members[0])
    return {}, kind


def _blocks(kind: inspect.Type, path: str) -> Iterator[tuple[str, type]]:
    """The blocks inside a key, with the prefix for their keys."""
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
        title = _SECTIONS[kind.cls]
        anchor = "".join(char for char in title.lower().replace(" ", "-") if char.isalnum() or char in "-_")
        return f"[{title}](#{anchor})"
    if isinstance(kind, inspect.ListType):
        return f"array of {_word(kind.item_type)}"
    if isinstance(kind, inspect.LiteralType):
        return " or ".join(f'"{value}"' for value in kind.values)
    if isinstance(kind, inspect.UnionType):
        if all(isinstance(member, inspect.StructType) for member in kind.types):
            return "object"
        if any(isinstance(member, inspect.BoolType) for member in kind.types):
            return " or ".join([_word(member) for member in kind.types])
        lists = any(isinstance(member, inspect.ListType) for member in kind.types)
        return "object or array of object" if lists else "number or string"
    return _WORDS[type(kind)]


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
