"""HTTP filters -> stream filters: a reader for each type of message."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from pymosn.config.schema import StreamFilter
from pymosn.control.xds.convert.view import View

#: The stream filter for a message; None if it needs none.
Reader = Callable[[View], StreamFilter | None]


def _router(_view: View) -> None:
    """The end of every chain of filters, which needs none."""


#: Full name of the type -> its reader.
READERS: Final[Mapping[str, Reader]] = {"envoy.extensions.filters.http.router.v3.Router": _router}


def convert_http_filter(view: View) -> StreamFilter | None:
    """The stream filter for a typed config; None if it needs none, or, with a fault, for an unknown type."""
    with view:
        reader = READERS.get(view.type_name)
        if reader is None:
            view.fault("", f"{view.type_name} is not supported")
            return None
        return reader(view)
