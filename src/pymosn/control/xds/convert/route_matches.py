"""Conditions of routes: RouteMatch -> the `match` of a route."""

from __future__ import annotations

from pymosn.config.schema import RouteMatch
from pymosn.control.xds.convert import values
from pymosn.control.xds.convert.view import View
from pymosn.filters.settings import HeaderMatch


def route_match(view: View) -> RouteMatch:
    """A RouteMatch. Conditions that are not built reject the resource, because the route would match more without them."""
    with view:
        made = RouteMatch()
        kind = view.which("path_specifier")
        is_sensitive = view.wrapped("case_sensitive") is not False
        if kind in ("prefix", "path", "path_separated_prefix"):
            _read_text(view, kind, made, is_sensitive)
        elif kind == "safe_regex":
            made.path_regex = values.regex(view.inner(kind))
        elif kind == "connect_matcher":
            made.connect = True
            _close(view.inner(kind))
        elif kind:
            view.refuse(kind, "conditions of extensions are not supported")
        else:
            view.fault("", "expected one of prefix, path, path_separated_prefix, safe_regex, connect_matcher")
        made.headers = [values.header_match(item) for item in view.items("headers")]
        made.query_parameters = [_query_match(item) for item in view.items("query_parameters")]
        fraction = view.inner("runtime_fraction")
        if fraction is not None:
            made.percent = values.runtime_fraction(fraction)
        if view.has("grpc"):
            made.grpc = True
            _close(view.inner("grpc"))
        client = view.inner("tls_context")
        if client is not None:
            with client:
                made.certificate_presented = client.wrapped("presented")
                made.certificate_verified = client.wrapped("validated")
        for name in ("dynamic_metadata", "filter_state"):
            view.refuse(name, "this condition is not supported; without it the route would match more requests")
    return made


def _read_text(view: View, kind: str, made: RouteMatch, is_sensitive: bool) -> None:
    text: str = view.value(kind)
    if not text and kind == "prefix":
        return  # every request
    if not text.startswith("/") and kind == "path_separated_prefix":
        view.fault(kind, "must start with a slash")
    if text.endswith("/") and kind == "path_separated_prefix":
        view.fault(kind, "must not end with a slash")
    if not text:
        view.fault(kind, "must not be empty")
    if "?" in text or "#" in text:
        view.fault(kind, "must not contain ? or #")
    setattr(made, kind, text)
    made.case_sensitive = is_sensitive


def _query_match(view: View) -> HeaderMatch:
    """A QueryParameterMatcher; without a condition the parameter must exist."""
    with view:
        made = HeaderMatch(name=view.value("name"))
        if not made.name:
            view.fault("name", "must not be empty")
        kind = view.which("query_parameter_match_specifier")
        inner = view.inner("string_match") if kind == "string_match" else None
        if inner is not None:
            made.string_match = values.string_match(inner)
        else:
            made.present_match = view.value(kind) if kind else True
    return made


def _close(view: View | None) -> None:
    """Reads a message without fields, so that those of newer versions reject it."""
    if view is not None:
        view.close()
