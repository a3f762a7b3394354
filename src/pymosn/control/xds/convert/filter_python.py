"""`pymosn.python.v1.Filter` -> a stream filter in Python, of an installed package."""

from __future__ import annotations

from typing import Any

from pymosn.config.schema import StreamFilter
from pymosn.control.xds.convert.view import View
from pymosn.filters.loading import FILTERS, class_fault, installed


def python_filter(view: View) -> StreamFilter | None:
    """A filter by its class, `package.module:Class`, or by the name that its package offers it under.

    Never a file: what a control plane can start is only what the machine's owner has installed.
    """
    with view:
        class_, name = view.value("class"), view.value("name")
        config: dict[str, Any] = {}
        if view.has("config"):
            config = _with_integers(view.struct("config"))
        if bool(class_) is bool(name):
            view.fault("", "needs either class or name")
        elif class_:
            fault = class_fault(class_)
            if fault:
                view.fault("class", fault)
        elif name not in installed(FILTERS):
            view.fault("name", f"no installed package offers a stream filter {name!r}")
        return StreamFilter(type=class_ or name, config=config)


def _with_integers(value: Any) -> Any:
    """A JSON value whose numbers are all floats, as in a Struct: those without a fraction become integers."""
    if isinstance(value, dict):
        return {key: _with_integers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_integers(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
