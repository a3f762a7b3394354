"""MOSN's feature gates, as the flag `--feature-gates` sets them."""

from __future__ import annotations

from typing import Final

AUTO_CONFIG: Final = "auto_config"
#: All gates: why one that is on changes nothing here; None: it does.
GATES: Final[dict[str, str | None]] = {
    AUTO_CONFIG: None,
    "XdsMtlsEnable": "TLS to a control plane is used whenever it is configured",
    "PayLoadLimitEnable": "the filter for the size of bodies needs no gate",
    "MultiTenantMode": "MOSN does not use it either",
}
#: The texts that Go reads as a boolean.
_TRUE: Final = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE: Final = frozenset(("0", "f", "F", "FALSE", "false", "False"))


class GateError(ValueError):
    """The text names no gate, or gives one no state."""


def go_bool(text: str) -> bool:
    """A boolean as Go reads it; ValueError."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f"expected true or false, got {text!r}")


def parse_gates(text: str) -> dict[str, bool]:
    """The states of the gates in a text such as `auto_config=true,MultiTenantMode=false`; the last one of a name counts.

    GateError as in MOSN: for an unknown name, a missing state, or one that Go does not read as a boolean.
    """
    found: dict[str, bool] = {}
    for item in filter(None, text.split(",")):
        name, equals, state = (part.strip() for part in item.partition("="))
        if not equals:
            raise GateError(f"expected NAME=true or NAME=false, got {item!r}")
        try:
            found[name] = go_bool(state)
        except ValueError as error:
            raise GateError(f"{name}: {error}") from None
    for name in found:
        if name not in GATES:
            raise GateError(f"there is no feature gate {name!r}, only {', '.join(GATES)}")
    return found
