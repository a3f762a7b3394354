"""The Vary field (RFC 9110 section 12.5.5)."""

from __future__ import annotations

from pymosn.core.headers import Headers


def add_vary(headers: Headers, name: str) -> None:
    """Adds the request header `name` to Vary, unless it is there already."""
    values = headers.get_all("vary")
    if not values:
        headers.set("Vary", name)
        return
    names = [part.strip().lower() for value in values for part in value.split(",")]
    if "*" not in names and name.lower() not in names:
        headers.set("Vary", ", ".join([*values, name]))
