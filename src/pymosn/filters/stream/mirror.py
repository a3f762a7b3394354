"""MOSN's `mirror`: how many copies of a request are sent where its route mirrors (key reference section 13)."""

from __future__ import annotations

from typing import Annotated, Final

from pymosn.api.exchange import Exchange
from pymosn.api.stream_filter import StreamFilter
from pymosn.filters.settings import Block, Unsigned, works
from pymosn.filters.spec import FilterSpec
from pymosn.proxy.mirroring import AMPLIFICATION, BROADCAST


class Settings(Block, kw_only=True):
    """`mirror`: how requests of a listener are mirrored where their route has mirror policies."""

    amplification: Annotated[Unsigned, works("copies for each mirror; 0 is none")] = 1
    broadcast: Annotated[
        bool, works("a copy to every healthy host of the mirror's cluster and an empty 200 instead of the response")
    ] = False


class MirrorFilter(StreamFilter):
    """Sets the variables that control mirroring; other filters may set them for single requests.

    Cost per request: one or two dict entries.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._amplification = str(settings.amplification)
        self._broadcasts = settings.broadcast

    def on_request(self, exchange: Exchange) -> None:
        exchange.set_variable(AMPLIFICATION, self._amplification)
        if self._broadcasts:
            exchange.set_variable(BROADCAST, "true")


SPEC: Final = FilterSpec("mirror", Settings, MirrorFilter, "number of copies, or broadcast; mirroring works without it too")
