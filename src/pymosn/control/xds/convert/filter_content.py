"""Filters that change messages, or note facts about them: compressor, transcoder, header_to_metadata, cors."""

from __future__ import annotations

import re
from typing import Any, Final

from pymosn.config.schema import StreamFilter
from pymosn.control.xds.convert.filter_access import enabled_share
from pymosn.control.xds.convert.filter_json import Known, as_json, check_route_settings, check_settings
from pymosn.control.xds.convert.route_settings import RouteSettings
from pymosn.control.xds.convert.values import string_match
from pymosn.control.xds.convert.view import View
from pymosn.filters.settings import StringMatch

_LIBRARIES: Final = {"gzip": "gzip", "brotli": "br", "zstd": "zstd"}
#: Envoy's content types of the compressor if it has none.
_COMPRESSED: Final = (
    *("text/html", "text/plain", "text/css", "application/javascript", "text/javascript", "text/xml"),
    *("application/json", "application/xhtml+xml", "image/svg+xml"),
)
_LEVELS: Final = {"DEFAULT_COMPRESSION": 0, "BEST_SPEED": 1, "BEST_COMPRESSION": 9}
_TRANSCODER: Final = "envoy.extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder"
_TRANSCODER_KNOWN: Final[Known] = {
    _TRANSCODER: (
        *("proto_descriptor", "proto_descriptor_bin", "services", "print_options", "match_incoming_request_route"),
        *("ignored_query_parameters", "auto_mapping", "ignore_unknown_query_parameters", "max_request_body_size"),
        "max_response_body_size",
    ),
    f"{_TRANSCODER}.PrintOptions": (
        *("add_whitespace", "always_print_primitive_fields", "always_print_enums_as_ints", "preserve_proto_field_names"),
        "stream_newline_delimited",
    ),
}


def compressor(view: View) -> StreamFilter | None:
    """A Compressor of responses; without one for requests, which is not supported."""
    with view:
        config: dict[str, Any] = {"content_length": 30, "content_types": list(_COMPRESSED)}
        is_enabled = True
        view.refuse("request_direction_config", "requests are not compressed")
        library = view.inner("compressor_library")
        if library is None:
            view.fault("compressor_library", "missing")
        else:
            with library:
                library.value("name")
                _read_library(library, config)
        for name in ("content_length", "content_type"):
            if view.has(name):
                _read_common(view, name, config)
        response = view.inner("response_direction_config")
        if response is not None:
            with response:
                common = response.inner("common_config")
                if common is not None:
                    with common:
                        is_enabled = _flag(common)
                        for name in ("min_content_length", "content_type"):
                            if common.has(name):
                                _read_common(common, name, config)
    return StreamFilter(type="gzip", config=check_settings(view, "gzip", config)) if is_enabled else None


def _flag(view: View) -> bool:
    """A RuntimeFeatureFlag `enabled`; true without it."""
    inner = view.inner("enabled")
    if inner is None:
        return True
    with inner:
        inner.value("runtime_key")
        value = inner.wrapped("default_value")
        return value is None or bool(value)


def _read_common(view: View, name: str, config: dict[str, Any]) -> None:
    if name == "content_type":
        config["content_types"] = view.values(name) or list(_COMPRESSED)
    else:
        config["content_length"] = view.wrapped(name)


def _read_library(view: View, config: dict[str, Any]) -> None:
    inner = view.typed("typed_config")
    if inner is None:
        return
    kind = inner.type_name.removeprefix("envoy.extensions.compression.").partition(".")[0]
    with inner:
        if kind not in _LIBRARIES:
            inner.fault("", f"{inner.type_name} is not supported")
            return
        config["encodings"] = [_LIBRARIES[kind]]
        if kind == "gzip":
            level = inner.enum("compression_level")
            number = level.rpartition("_")[2]
            config["gzip_level"] = int(number) if number.isdigit() else _LEVELS.get(level, 0)


def transcoder(view: View) -> StreamFilter:
    """A GrpcJsonTranscoder with its descriptors inline, as a control plane has to send them."""
    view.refuse("proto_descriptor", "files are not supported; expected proto_descriptor_bin")
    config = as_json(view, _TRANSCODER_KNOWN)
    return StreamFilter(type="grpc_json_transcoder", config=check_settings(view, "grpc_json_transcoder", config))


def header_to_metadata(view: View) -> StreamFilter:
    """A Config of header_to_metadata: dynamic metadata; of the namespace `envoy.lb` also labels of hosts."""
    with view:
        rules: list[dict[str, Any]] = []
        view.refuse("response_rules", "not supported; only rules for requests are")
        for item in view.items("request_rules"):
            with item:
                rule: dict[str, Any] = {"header": item.value("header"), "remove": item.value("remove")}
                item.refuse("cookie", "cookies are not supported")
                for name in ("on_header_present", "on_header_missing"):
                    inner = item.inner(name)
                    if inner is not None:
                        rule[name] = _pair(inner)
                rules.append(rule)
        config = {"request_rules": rules}
    return StreamFilter(type="header_to_metadata", config=check_settings(view, "header_to_metadata", config))


def _pair(view: View) -> dict[str, Any]:
    with view:
        if view.enum("type") != "STRING":
            view.fault("type", "only STRING is supported")
        if view.enum("encode") != "NONE":
            view.fault("encode", "not supported")
        view.refuse("regex_value_rewrite", "not supported")
        space = view.value("metadata_namespace") or "envoy.filters.http.header_to_metadata"
        return {"key": view.value("key"), "value": view.value("value"), "namespace": space}


def cors_policy(view: View) -> RouteSettings:
    """A CorsPolicy, of a route or virtual host."""
    with view:
        share = enabled_share(view, "filter_enabled")
        if 0.0 < share < 100.0:
            view.fault("filter_enabled", "only 0 % and 100 % are supported")
        if view.has("shadow_enabled"):
            view.value("shadow_enabled")  # only counts
        if view.wrapped("allow_private_network_access"):
            view.fault("allow_private_network_access", "not supported")
        origins = [_as_regex(string_match(item)) for item in view.items("allow_origin_string_match")]
        age = view.value("max_age")
        if age and not re.fullmatch("[0-9]{1,9}", age):
            view.fault("max_age", f"must be a number of seconds, got {age!r}")
            age = ""
        forwards = view.wrapped("forward_not_matching_preflights")
        config: dict[str, Any] = {
            "allow_origin_regexes": origins,
            "allow_methods": _names(view.value("allow_methods")),
            "allow_headers": _names(view.value("allow_headers")),
            "expose_headers": _names(view.value("expose_headers")),
            **({"max_age": f"{age}s"} if age else {"without_max_age": True}),
            "allow_credentials": bool(view.wrapped("allow_credentials")),
            "forward_other_preflights": forwards is None or forwards,
        }
        if not share or not origins:
            config = {"enabled": False}
    return RouteSettings("cors", check_route_settings(view, "cors", config))


def _as_regex(match: StringMatch) -> str:
    """A condition on an origin. The origin `*` is every one, which is then repeated in the response, as Envoy does."""
    if match.exact == "*":
        return ".*"
    if match.regex:
        return match.regex
    flags = "(?i)" if match.ignore_case else ""
    for text, form in ((match.exact, "{}"), (match.prefix, "{}.*"), (match.suffix, ".*{}"), (match.contains, ".*{}.*")):
        if text:
            return flags + form.format(re.escape(text))
    return r"\z."  # never


def _names(text: str) -> list[str]:
    return [name for part in text.split(",") if (name := part.strip())]
