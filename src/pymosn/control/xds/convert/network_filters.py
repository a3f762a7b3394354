"""Network filters besides the connection manager and tcp_proxy: a reader for each type of message.

A chain with a filter that is not known here is rejected: connections must not bypass it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from pymosn.config.schema.network_filters import NetworkFilter
from pymosn.control.xds.convert.view import View

#: The network filter for a message; None if it needs none.
Reader = Callable[[View], NetworkFilter | None]
#: Full name of the type -> its reader.
READERS: Final[Mapping[str, Reader]] = {}


def convert_network_filter(view: View) -> NetworkFilter | None:
    """The network filter for a typed config; None if it needs none, or, with a fault, for an unknown type."""
    with view:
        reader = READERS.get(view.type_name)
        if reader is None:
            view.fault("", f"{view.type_name} is not supported; rejected, because connections must not bypass it")
            return None
        return reader(view)
