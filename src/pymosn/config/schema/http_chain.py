"""Stream filters and access logs, of a listener or of the proxy of one filter chain."""

from typing import Annotated, Literal

import msgspec

from pymosn.filters.settings import AnyMap, Block, Duration, StringMatch, Unsigned, own, planned_checked

Status = Annotated[int, msgspec.Meta(ge=200, le=599)]


class Comparison(Block, kw_only=True):
    """Compares a number with `value`."""

    op: Literal["eq", "ne", "ge", "le"] = "eq"
    value: Unsigned = 0


class LogHeader(Block, kw_only=True):
    """A condition on a request header: its values, joined with commas; without `match` its presence."""

    name: str = ""
    match: StringMatch | None = None
    invert: bool = False


class LogCondition(Block, kw_only=True):
    """A condition on an exchange; all of its keys that are given must hold."""

    status: Annotated[Comparison | None, own("status of the response; 0 without one")] = None
    statuses: Annotated[list[Status], own("only responses with one of these statuses")] = []
    reasons: Annotated[list[str], own("only failures with one of these reason words, as in `%reason%`")] = []
    duration_ms: Comparison | None = None
    failed: Annotated[bool, own("only exchanges with a response flag")] = False
    response_flags: Annotated[list[str], own("only those with one of these flags in Envoy's letters, such as NR, UF")] = []
    header: LogHeader | None = None
    grpc_status: Annotated[list[int], own("only calls with one of these statuses")] = []
    exclude_grpc_status: Annotated[bool, own("of grpc_status: all others instead")] = False
    sample: Annotated[float, msgspec.Meta(ge=0.0, le=100.0), own("per cent of the exchanges, at random")] = 100.0


class LogFilter(LogCondition, kw_only=True):
    """Which exchanges an access log has; all given conditions must hold."""

    all_of: Annotated[list[LogCondition], own("each of these must hold, too")] = []
    any_of: Annotated[list[LogCondition], own("one of these must hold, too")] = []


class AccessLog(Block, kw_only=True):
    """One access log of a listener; empty strings mean MOSN's default path and format."""

    log_path: str = ""
    log_format: str = ""
    json_format: Annotated[
        AnyMap, own("instead of log_format: an object with a format for each member; a number's alone is a number")
    ] = {}
    name: Annotated[str, own("by which routes and virtual hosts switch it, with their key `access_logs`")] = ""
    disabled: Annotated[bool, own("unless a route or virtual host switches it on")] = False
    omit_empty: Annotated[bool, own("of json_format: leave out members without a value, instead of null")] = False
    filter: Annotated[LogFilter | None, own("log only some exchanges; see docs/operations.md")] = None


class GoPlugin(Block, kw_only=True):
    """A filter in a Go shared object."""

    so_path: str = ""
    factory_method: str = "CreateFilterFactory"


class StreamFilter(Block, kw_only=True):
    """A filter on requests and responses. The filter gets `config` unchanged."""

    type: str = ""
    name: Annotated[str, own("for settings of routes: keys `TYPE/NAME` and `/NAME` of `per_filter_config`")] = ""
    disabled: Annotated[bool, own("unless a route enables the filter by its `name`, or has settings for it")] = False
    config: AnyMap = {}
    on_error: Annotated[
        str,
        own("on an error of the filter: `fail` (500), or `skip` it (not filters that guard); default: the filter's own"),
    ] = ""
    timeout: Annotated[Duration | None, own("for each call of an `async` filter; default: the filter's own, else none")] = (
        None
    )
    go_plugin_config: Annotated[
        GoPlugin | None, planned_checked("Go shared objects cannot be loaded: a filter with it is rejected")
    ] = None
