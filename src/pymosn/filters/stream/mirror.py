"""MOSN's `mirror`: how many copies of a request are sent, where its route mirrors (key reference section 13)."""

from __future__ import annotations

from pymosn.api.proxy import Exchange
from pymosn.api.stream_filter import StreamFilter
from pymosn.proxy.mirroring import AMPLIFICATION, BROADCAST


class MirrorFilter(StreamFilter):
    """Sets the variables that mirroring goes by; other filters may set them for single requests."""

    def __init__(self, config: dict[str, object]) -> None:
        """`config`: `amplification` (1) and `broadcast` (false), in any case of letters."""
        super().__init__(config)
        values = {key.lower(): value for key, value in config.items()}
        self._amplification = str(values.get("amplification", 1))
        self._broadcasts = values.get("broadcast") is True

    def on_request(self, exchange: Exchange) -> None:
        exchange.set_variable(AMPLIFICATION, self._amplification)
        if self._broadcasts:
            exchange.set_variable(BROADCAST, "true")
