"""All groups of guards."""

from __future__ import annotations

from interop import guards_clients, guards_requests, guards_routes, guards_services
from interop.guards_kit import Guarded

GUARDS: list[Guarded] = [
    *guards_requests.GUARDS,
    *guards_clients.GUARDS,
    *guards_routes.GUARDS,
    *guards_services.GUARDS,
]


def count() -> int:
    """The number of requests."""
    return sum(len(one.tries) for one in GUARDS)
