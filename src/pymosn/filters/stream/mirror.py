"""MOSN's `mirror`: how many copies of a request are sent, where its route mirrors (key reference section 13)."""

from __future__ import annotations

from typing import Any

from pymosn.api.exchange import Exchange
from pymosn.api.stream_filter import StreamFilter
from pymosn.proxy.mirroring import AMPLIFICATION, BROADCAST


class MirrorFilter(StreamFilter):
    """Sets the variables that mirroring goes by; other filters may set them for single requests.

    Per request: one or two entries in a dict.
    """

    def __init__(self, config: Any) -> None:
        """`config`: `amplification` and `broadcast`."""
        super().__init__(config)
        self._amplification = str(config.amplification)
        self._broadcasts: bool = config.broadcast

    def on_request(self, exchange: Exchange) -> None:
        exchange.set_variable(AMPLIFICATION, self._amplification)
        if self._broadcasts:
            exchange.set_variable(BROADCAST, "true")
