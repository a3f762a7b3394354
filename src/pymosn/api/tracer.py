"""What begins the traces of exchanges: the contract between the proxy and `observe/tracing`."""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from pymosn.api.record import ExchangeRecord, ExchangeTrace


@mypyc_attr(allow_interpreted_subclasses=True)
class Tracer:
    """Begins traces. A change of the configuration replaces it; exchanges in flight keep the trace that they have."""

    def begin(self, exchange: ExchangeRecord, listener: str) -> ExchangeTrace:
        """The trace of an exchange whose request has been received on `listener`. Never raises."""
        raise NotImplementedError
