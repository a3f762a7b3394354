"""Makes the tracer of a worker from the configuration."""

from __future__ import annotations

import socket

from pymosn.config.schema.observability import Tracing
from pymosn.core.stamps import Stamps
from pymosn.observe.tracing.buffer import TraceBuffer
from pymosn.observe.tracing.formats import OF_DRIVERS
from pymosn.observe.tracing.sampling import Sampling, SamplingRule
from pymosn.observe.tracing.tracer import WorkerTracer


def make_tracer(tracing: Tracing | None, buffer: TraceBuffer, stamps: Stamps) -> WorkerTracer | None:
    """The tracer for a checked configuration; None if tracing is off, or its driver is one that cannot be made."""
    if tracing is None or not tracing.enable or tracing.driver not in OF_DRIVERS or not _has_valid_rate(tracing):
        return None
    names = tracing.propagation or list(OF_DRIVERS[tracing.driver])
    buffer.open()
    return WorkerTracer(names, sampling_of(tracing), buffer, stamps, service_name(tracing), instance_name())


def service_name(tracing: Tracing) -> str:
    """What SkyWalking calls this proxy."""
    name = tracing.config.get("service_name")
    return name if isinstance(name, str) and name else "mosn"


def instance_name() -> str:
    """What SkyWalking calls this process: all workers are one instance."""
    return socket.gethostname() or "mosn"


def _has_valid_rate(tracing: Tracing) -> bool:
    """Whether Zipkin's `sample_rate`, if it counts, is one. MOSN does not make the driver otherwise."""
    if tracing.driver != "Zipkin" or tracing.sampling.rate is not None:
        return True
    return 0.0 <= float(tracing.config.get("sample_rate") or 0.0) <= 1.0


def sampling_of(tracing: Tracing) -> Sampling:
    """The decisions about sampling."""
    block = tracing.sampling
    rate = block.rate
    if rate is None:
        rate = float(tracing.config.get("sample_rate") or 0.0) if tracing.driver == "Zipkin" else 1.0
    rules = [
        SamplingRule(
            rule.rate,
            path=rule.path,
            method=rule.method,
            service=rule.service,
            listener=rule.listener,
            route=rule.route,
            header=rule.header.lower(),
            value=rule.header_value,
        )
        for rule in block.rules
    ]
    return Sampling(rate, block.parent, block.header.lower(), rules)
