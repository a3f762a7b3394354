"""What an upstream connection of HTTP/2 tells its pool."""

from __future__ import annotations

from typing import Final

from mypy_extensions import mypyc_attr


@mypyc_attr(allow_interpreted_subclasses=True)
class ClientOwner:
    """Sees what concerns the pool of a connection."""

    def on_free_stream(self) -> None:
        """The connection may take more streams than before."""

    def on_end(self) -> None:
        """A GOAWAY: the connection takes no more streams; those that are open may finish."""

    def on_worn(self) -> None:
        """So many streams were cancelled that another connection should replace it."""

    def on_lost(self) -> None:
        """The connection is broken, and its streams are about to be reset."""

    def on_idle_too_long(self) -> None:
        """The connection has had no stream for its idle timeout."""

    def on_http1(self) -> None:
        """The host demands HTTP/1.1 for all requests."""


#: The owner of a connection that is gone.
NO_OWNER: Final = ClientOwner()
