"""Where a resource comes from: Envoy's ConfigSource, of routes, endpoints and secrets."""

from __future__ import annotations

from typing import Any, NamedTuple

from google.protobuf import json_format

from pymosn.control.xds.convert.view import View

_ONE_SERVICE = "expected exactly one gRPC service"


class Source(NamedTuple):
    """Where a resource comes from.

    `kind`: `ads`; `grpc` for a server of its own; `path` for a file. `cluster`: of the server (envoy_grpc). `target`: the
    server's address (google_grpc). `is_delta`: by incremental xDS. `path`: of the file. `fetch_timeout`: seconds to wait for
    the resource, 0: for ever.
    """

    kind: str = "ads"
    cluster: str = ""
    target: str = ""
    is_delta: bool = False
    path: str = ""
    fetch_timeout: float = 15.0


def as_json(view: View) -> dict[str, Any]:
    """A message as JSON with the names of its fields in the .proto file: the form that files have, such as `sdsConfig`.

    What JSON cannot express is a fault: a duration out of range, for example, or an `Any` of an unknown type.
    """
    try:
        found: dict[str, Any] = json_format.MessageToDict(view.message, preserving_proto_field_name=True)
    except (TypeError, ValueError, json_format.Error) as error:
        view.fault("", f"cannot be written as JSON: {error}")
        return {}
    return found


def read_source(view: View) -> Source | None:
    """The source in a ConfigSource; None, with a fault, if it is not supported."""
    with view:
        _check_version(view, "resource_api_version")
        timeout = view.seconds("initial_fetch_timeout")
        wait = 15.0 if timeout is None else timeout
        kind = view.which("config_source_specifier")
        if kind in ("ads", "self"):
            _close(view.inner(kind))
            return Source(fetch_timeout=wait)
        if kind == "path":
            return _file(view, wait)
        if kind == "path_config_source":
            inner = view.inner(kind)
            assert inner is not None
            with inner:
                inner.inner("watched_directory")  # changes are always noticed
                return _file(inner, wait)
        server = view.inner("api_config_source")
        if server is None:
            view.fault("", "expected a source: ads, api_config_source or path_config_source")
            return None
        return _server(server, wait)


def _file(view: View, wait: float) -> Source:
    path: str = view.value("path")
    if not path:
        view.fault("path", "must not be empty")
    return Source("path", path=path, fetch_timeout=wait)


def _server(view: View, wait: float) -> Source | None:
    with view:
        _check_version(view, "transport_api_version")
        kind = view.enum("api_type")
        is_delta = kind in ("DELTA_GRPC", "AGGREGATED_DELTA_GRPC")
        services = view.items("grpc_services")
        view.value("set_node_on_first_message_only")  # the client sends it with the first message of each stream
        if kind in ("AGGREGATED_GRPC", "AGGREGATED_DELTA_GRPC"):
            return Source(is_delta=is_delta, fetch_timeout=wait)
        if kind not in ("GRPC", "DELTA_GRPC"):
            view.fault("api_type", f"{kind} is not supported; expected GRPC or DELTA_GRPC")
            return None
        if len(services) != 1:
            view.fault("grpc_services", f"{_ONE_SERVICE}, got {len(services)}")
            return None
        return _service(services[0], Source("grpc", is_delta=is_delta, fetch_timeout=wait))


def _service(view: View, source: Source) -> Source | None:
    with view:
        view.seconds("timeout")  # of unary calls
        envoy, google = view.inner("envoy_grpc"), view.inner("google_grpc")
        if envoy is not None:
            with envoy:
                return source._replace(cluster=envoy.value("cluster_name"))
        if google is not None:
            with google:
                google.value("stat_prefix")
                return source._replace(target=google.value("target_uri"))
        view.fault("", "expected envoy_grpc or google_grpc")
        return None


def _check_version(view: View, name: str) -> None:
    version = view.enum(name)
    if version == "V2":
        view.fault(name, "V2 is not supported: only version 3 of xDS is")


def _close(view: View | None) -> None:
    if view is not None:
        view.close()
