"""A profile as a flame graph: one SVG file without scripts, fonts or links.

Each box is a function, as wide as its share; what it calls is above it. Boxes of equal functions with equal callers are one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from xml.sax.saxutils import escape

from pymosn.observe.profile import Profile, quantity

_WIDTH: Final = 1200.0
_MARGIN: Final = 10.0
_ROW: Final = 18.0
_HEAD: Final = 58.0
#: Width of a character of the labels, and of the narrowest box that is drawn.
_CHAR: Final = 6.7
_NARROWEST: Final = 0.3
_MOST_BOXES: Final = 20_000
_DEEPEST: Final = 120

_STYLE: Final = (
    "text{font:11px ui-monospace,Menlo,Consolas,monospace;fill:#1c1c1c;pointer-events:none}"
    ".t{font:bold 16px sans-serif}.n{font:12px sans-serif;fill:#555}"
    "rect{stroke:#fff;stroke-width:.6}g:hover>rect{stroke:#000;stroke-width:1.2}"
)
#: Colours of filters and other code of users, of pymosn, of the standard library and packages, and of native code.
_OWN: Final = ("#f2a25c", "#f0b577", "#ee9448", "#f5bd85")
_PYMOSN: Final = ("#8fb8de", "#a3c6e6", "#7dacd7", "#b4d0ea")
_LIBRARY: Final = ("#b9d7a8", "#c7e0b9", "#abcd97", "#d3e7c8")
_NATIVE: Final = ("#c9c9c9",)


class _Box:
    def __init__(self, function: str, file: str) -> None:
        self.function = function
        self.file = file
        self.number = 0
        self.inner: dict[tuple[str, str], _Box] = {}


def as_flame(profile: Profile, title: str) -> str:
    """The SVG file."""
    root = _tree(profile, title)
    boxes = list(_boxes(root, 0, _MARGIN, _WIDTH - 2 * _MARGIN, max(root.number, 1)))
    depth = max((level for _, level, _, _ in boxes), default=0) + 1
    height = _HEAD + depth * _ROW + _MARGIN
    unit = profile.values[-1][1]
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:g} {height:g}" width="{_WIDTH:g}" '
        f'height="{height:g}">',
        f"<style>{_STYLE}</style>",
        f'<rect width="{_WIDTH:g}" height="{height:g}" fill="#fdfdfb" style="stroke:none"/>',
        f'<text class="t" x="{_MARGIN:g}" y="24">{_xml(title)}</text>',
        f'<text class="n" x="{_MARGIN:g}" y="44">{_xml(_subtitle(profile))}</text>',
    ]
    for box, level, left, width in boxes:
        top = height - _MARGIN - (level + 1) * _ROW
        share = 100.0 * box.number / max(root.number, 1)
        file = f"\n{box.file}" if box.file else ""
        tip = f"{box.function}{file}\n{quantity(box.number, unit)}, {share:.1f} %"
        label = _fitting(box.function, width)
        text = f'<text x="{left + 3:.1f}" y="{top + 13:.1f}">{_xml(label)}</text>' if label else ""
        lines.append(
            f'<g><title>{_xml(tip)}</title><rect x="{left:.2f}" y="{top:.1f}" width="{width:.2f}" height="{_ROW - 1:g}" '
            f'rx="1.5" fill="{_colour(box)}"/>{text}</g>'
        )
    return "\n".join([*lines, "</svg>", ""])


def _subtitle(profile: Profile) -> str:
    unit = profile.values[-1][1]
    text = f"{quantity(profile.total(), unit)} of {profile.values[-1][0]} in {profile.seconds:.1f} s"
    return ". ".join([text, *profile.notes])


def _tree(profile: Profile, title: str) -> _Box:
    root = _Box(title, "")
    for stack, numbers in profile.samples:
        box = root
        box.number += numbers[-1]
        for call in list(reversed(stack))[:_DEEPEST]:
            key = call.function, call.file
            inner = box.inner.get(key)
            if inner is None:
                inner = box.inner[key] = _Box(call.function, call.file)
            inner.number += numbers[-1]
            box = inner
    return root


def _boxes(root: _Box, level: int, left: float, width: float, total: int) -> Iterator[tuple[_Box, int, float, float]]:
    """The boxes with their levels, left edges and widths, those of callers first."""
    waiting = [(root, level, left, width)]
    drawn = 0
    while waiting and drawn < _MOST_BOXES:
        box, level, left, width = waiting.pop()
        yield box, level, left, width
        drawn += 1
        for inner in sorted(box.inner.values(), key=lambda each: each.function):
            inner_width = width * inner.number / max(box.number, 1)
            if inner_width >= _NARROWEST:
                waiting.append((inner, level + 1, left, inner_width))
            left += inner_width


def _fitting(text: str, width: float) -> str:
    """As much of a name as a box has space for: without its modules, if that is what fits."""
    room = int((width - 6.0) / _CHAR)
    if len(text) <= room:
        return text
    short = text.rpartition(".")[2]
    if len(short) <= room:
        return short
    return f"{short[: room - 2]}.." if room >= 5 else ""


def _colour(box: _Box) -> str:
    colours: tuple[str, ...]
    if not box.file:
        colours = _NATIVE
    elif "/pymosn/" in box.file:
        colours = _PYMOSN
    elif "/site-packages/" in box.file or "/lib/python" in box.file or box.file.startswith("<"):
        colours = _LIBRARY
    else:
        colours = _OWN
    return colours[sum(box.function.encode("utf-8", "replace")) % len(colours)]


def _xml(text: str) -> str:
    """A text for XML 1.0, which has no control characters."""
    return escape("".join(char if char.isprintable() or char == "\n" else "?" for char in text))
