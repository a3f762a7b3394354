"""Predicates of listener filters (`filter_disabled`) -> ranges of ports."""

from __future__ import annotations

from pymosn.control.xds.convert.view import View

#: Ranges of ports with both ends, in ascending order and apart from each other.
Ports = list[tuple[int, int]]
_ALL: Ports = [(0, 65535)]


def disabled_ports(view: View) -> str:
    """The ports on which a ListenerFilterChainMatchPredicate holds, such as `80,8000-8010`."""
    ranges = _ports(view)
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def _ports(view: View) -> Ports:
    with view:
        kind = view.which("rule")
        if kind == "any_match":
            view.value(kind)
            return _ALL
        inner = view.inner(kind) if kind else None
        if inner is None:
            view.fault("", "expected a condition")
            return []
        if kind == "not_match":
            return _inverted(_ports(inner))
        with inner:
            if kind == "destination_port_range":
                first, end = inner.value("start"), inner.value("end")
                return [(first, end - 1)] if first < end else []
            parts = [_ports(item) for item in inner.items("rules")]
    if kind == "or_match":
        return _joined(parts)
    return _inverted(_joined([_inverted(part) for part in parts]))


def _joined(parts: list[Ports]) -> Ports:
    found: Ports = []
    for first, last in sorted(entry for part in parts for entry in part):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


def _inverted(ports: Ports) -> Ports:
    found: Ports = []
    begin = 0
    for first, last in _joined([ports]):
        if begin < first:
            found.append((begin, first - 1))
        begin = last + 1
    return [*found, (begin, 65535)] if begin <= 65535 else found
