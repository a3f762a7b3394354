"""Families of metrics as text: Prometheus' text format, or OpenMetrics 1.0.

Written line by line, because a scrape may have a million samples: the text of a group's labels is made once for all of them.
"""

from __future__ import annotations

import math
import re
from typing import Final

from pymosn.core.histograms import BUCKET_BOUNDS, Exemplar, HistogramData
from pymosn.observe.families import COUNTER, GAUGE, INFO, Family

_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_:]")
_NOT_IN_LABELS: Final = re.compile(r"[^A-Za-z0-9_]")
#: Characters that an exemplar may have, in its names and values together (OpenMetrics 1.0).
_EXEMPLAR_SIZE: Final = 128
_BOUNDS: Final = (*[f"{bound:g}" for bound in BUCKET_BOUNDS], "+Inf")

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def content_type(accept: str) -> str:
    """TEXT, or OPEN_METRICS if a request with this `Accept` asks for it."""
    for choice in accept.split(","):
        name, *parameters = [part.strip().lower() for part in choice.split(";")]
        if name == "application/openmetrics-text" and not any(re.fullmatch(r"q=0(\.0*)?", one) for one in parameters):
            return OPEN_METRICS
    return TEXT


def metric_name(text: str) -> str:
    """`text` as a name of a metric."""
    name = _NOT_IN_NAMES.sub("_", text)
    return f"_{name}" if name[:1].isdigit() else name


def label_name(text: str) -> str:
    """`text` as a name of a label."""
    name = _NOT_IN_LABELS.sub("_", text)
    return f"_{name}" if name[:1].isdigit() else name


def number(value: float) -> str:
    """A number as both formats have it."""
    if isinstance(value, int):
        return f"{value}.0"
    return repr(value) if math.isfinite(value) else "NaN" if math.isnan(value) else f"{'+' if value > 0 else '-'}Inf"


class LabelText:
    """The labels of a sample, ordered by name; `le` of a bucket is added between `before` and `after`."""

    def __init__(self, labels: dict[str, str]) -> None:
        pairs = [f'{name}="{_quoted(value)}"' for name, value in sorted(labels.items())]
        low = sum(name < "le" for name in labels)
        self.all = f"{{{','.join(pairs)}}}" if pairs else ""
        self.before = "".join(f"{pair}," for pair in pairs[:low])
        self.after = "".join(f",{pair}" for pair in pairs[low:])


class FamilyText:
    """The lines of one family, as far as they have been added."""

    def __init__(self, family: Family, is_open: bool) -> None:
        """`is_open`: OpenMetrics."""
        self._family = family
        self._is_open = is_open
        self._lines: list[str] = []

    def add(self, labels: LabelText, value: float) -> None:
        """Adds a sample of a counter, a gauge, or an info."""
        self._lines.append(f"{self._family.shown_name}{labels.all} {number(value)}\n")

    def add_histogram(self, labels: LabelText, histogram: HistogramData) -> None:
        """Adds the samples of a histogram."""
        name, lines = self._family.name, self._lines
        bounds = (*[f"{bound:.12g}" for bound in histogram["bounds"]], "+Inf") if histogram["bounds"] else _BOUNDS
        exemplars = {found[0]: _exemplar(found) for found in histogram["exemplars"]} if self._is_open else {}
        before, after = f'{name}_bucket{{{labels.before}le="', f'"{labels.after}}} '
        counted = 0
        for index, (bound, inside) in enumerate(zip(bounds, histogram["buckets"], strict=True)):
            counted += inside
            lines.append(f"{before}{bound}{after}{counted}.0{exemplars.get(index, '') if exemplars else ''}\n")
        lines.append(f"{name}_count{labels.all} {counted}.0\n")
        lines.append(f"{name}_sum{labels.all} {number(histogram['sum'])}\n")

    def text(self) -> str:
        """The family, or nothing if it has no samples."""
        if not self._lines:
            return ""
        family = self._family
        help_text = family.help.replace("\\", "\\\\").replace("\n", "\\n")
        if self._is_open:
            name, kind = family.name, family.kind
            help_text = help_text.replace('"', '\\"')
        else:
            name = family.shown_name if family.kind in (COUNTER, INFO) else family.name
            kind = GAUGE if family.kind == INFO else family.kind
        unit = f"# UNIT {name} {family.unit}\n" if self._is_open and family.unit else ""
        return f"# HELP {name} {help_text}\n# TYPE {name} {kind}\n{unit}{''.join(self._lines)}"


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _exemplar(exemplar: Exemplar) -> str:
    _, trace_id, value, at = exemplar
    return f' # {{trace_id="{_quoted(trace_id[: _EXEMPLAR_SIZE - len("trace_id")])}"}} {number(value)} {number(at)}'
