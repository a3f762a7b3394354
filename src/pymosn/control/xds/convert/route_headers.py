"""Changes to headers at every level of a table: `request_headers_to_add` and the others."""

from __future__ import annotations

from typing import Final

from pymosn.config.schema.router import HeaderChanges, HeaderPair, HeaderToAdd
from pymosn.control.xds.convert import values
from pymosn.control.xds.convert.formats import translate_value
from pymosn.control.xds.convert.view import View
from pymosn.core.headers import HeaderError, encode_name
from pymosn.routing.changes import HeaderAction

_ACTIONS: Final = ("APPEND_IF_EXISTS_OR_ADD", "ADD_IF_ABSENT", "OVERWRITE_IF_EXISTS_OR_ADD", "OVERWRITE_IF_EXISTS")


def read_changes(view: View, made: HeaderChanges) -> None:
    """Reads the four fields of a message into a block."""
    made.request_headers_to_add = additions(view, "request_headers_to_add")
    made.request_headers_to_remove = removals(view, "request_headers_to_remove")
    made.response_headers_to_add = additions(view, "response_headers_to_add")
    made.response_headers_to_remove = removals(view, "response_headers_to_remove")


def additions(view: View, name: str) -> list[HeaderToAdd]:
    """The fields that are added or set."""
    return [_addition(item, of_request=name.startswith("request")) for item in view.items(name)]


def removals(view: View, name: str) -> list[str]:
    """The names of fields that are removed."""
    names: list[str] = view.values(name)
    for i, header in enumerate(names):
        if header.lower() == "host":
            view.fault(f"{name}[{i}]", "the host of a request cannot be removed")
            continue
        try:
            encode_name(header)
        except HeaderError as error:
            view.fault(f"{name}[{i}]", str(error))
    return names


def _addition(view: View, *, of_request: bool) -> HeaderToAdd:
    option = values.header_option(view)
    value = translate_value(option.value, view, "header.value", of_request=of_request)
    if option.action not in _ACTIONS:
        view.fault("append_action", f"unknown action {option.action}")
    if option.name.lower() == "host":
        view.fault("header.key", "the host is changed by host_rewrite_literal and the like")
    elif option.name:
        try:
            HeaderAction(option.name, value, option.action, option.keeps_empty)
        except HeaderError as error:
            view.fault("header", str(error))
    header = HeaderPair(key=option.name, value=value)
    return HeaderToAdd(header=header, append_action=option.action, keep_empty_value=option.keeps_empty)  # type: ignore[arg-type]
