"""The formats of contexts by name, and those that each driver has by default."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from pymosn.observe.tracing.b3 import B3Multi, B3Single
from pymosn.observe.tracing.context import TraceFormat
from pymosn.observe.tracing.jaeger import Jaeger
from pymosn.observe.tracing.skywalking import SkyWalking
from pymosn.observe.tracing.sofa import Sofa
from pymosn.observe.tracing.w3c import W3c

#: The names in `tracing.propagation`.
FORMATS: Final = ("w3c", "b3", "b3multi", "jaeger", "sw8", "sofa")

#: What a driver reads and writes unless `tracing.propagation` is set.
OF_DRIVERS: Final[dict[str, tuple[str, ...]]] = {
    "SOFATracer": ("sofa",),
    "Zipkin": ("b3", "b3multi"),
    "jaeger": ("jaeger",),
    "SkyWalking": ("sw8",),
    "otel": ("w3c",),
}


def formats(names: Sequence[str], service: str, instance: str, new_sofa_id: Callable[[], str]) -> list[TraceFormat]:
    """The formats with these names. For the other arguments see `SkyWalking` and `Sofa`."""
    made: list[TraceFormat] = []
    for name in names:
        if name == "w3c":
            made.append(W3c(name))
        elif name == "b3":
            made.append(B3Single(name))
        elif name == "b3multi":
            made.append(B3Multi(name))
        elif name == "jaeger":
            made.append(Jaeger(name))
        elif name == "sw8":
            made.append(SkyWalking(name, service, instance))
        elif name == "sofa":
            made.append(Sofa(name, new_sofa_id))
        else:
            raise ValueError(f"unknown format {name!r}")
    return made
