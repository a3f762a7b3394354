"""Small messages that many others contain: conditions on texts and headers, fractions, addresses, header changes.

Each reader takes the `View` of one message, reads all of its fields, closes it, and returns a block or a plain value.
Faults are reported to the view; the result is then a valid placeholder, because the resource is rejected anyway.
"""

from __future__ import annotations

from typing import Any, Final

from pymosn.control.xds.convert.view import View
from pymosn.core.addresses import UNIX, normal_ip, write_address
from pymosn.core.regex import PatternError, compiled
from pymosn.filters.settings import HeaderMatch, IntegerRange, StringMatch

#: The parts that a fraction counts.
_DENOMINATORS: Final = {"HUNDRED": 1.0, "TEN_THOUSAND": 100.0, "MILLION": 10_000.0}
#: The kinds of a StringMatcher that need a text.
_SIMPLE: Final = ("prefix", "suffix", "contains")


def string_match(view: View) -> StringMatch:
    """A StringMatcher."""
    with view:
        made = StringMatch(ignore_case=view.value("ignore_case"))
        kind = view.which("match_pattern")
        if kind == "exact":
            made.exact = view.value(kind)
        elif kind in _SIMPLE:
            text = view.value(kind)
            if not text:
                view.fault(kind, "must not be empty")
            setattr(made, kind, text)
        elif kind == "safe_regex":
            made.regex = regex(view.inner(kind))
            if made.ignore_case:
                view.fault("ignore_case", "not valid with safe_regex; use (?i) in the expression")
        elif kind:
            view.refuse(kind, "conditions of extensions are not supported")
        else:
            view.fault("", "expected one of exact, prefix, suffix, contains, safe_regex")
    return made


def list_string_match(view: View) -> list[StringMatch]:
    """A ListStringMatcher: one of them must match."""
    with view:
        return [string_match(item) for item in view.items("patterns")]


def regex(view: View | None) -> str:
    """The expression of a RegexMatcher, which has to match the whole text; empty for None."""
    if view is None:
        return ""
    with view:
        engine = view.inner("google_re2")
        if engine is not None:
            with engine:
                engine.inner("max_program_size")  # a limit of Envoy's; here memory is limited
        text: str = view.value("regex")
        if not text:
            view.fault("regex", "must not be empty")
        try:
            compiled(text)
        except PatternError as error:
            view.fault("regex", f"not a regular expression (RE2): {error}")
    return text


def regex_substitution(view: View) -> tuple[str, str]:
    """A RegexMatchAndSubstitute: the expression, of which all matches are replaced, and the template in our syntax."""
    with view:
        pattern = view.inner("pattern")
        if pattern is None:
            view.fault("pattern", "missing")
        # Envoy only knows `\1`; a dollar sign has no meaning.
        return regex(pattern), view.value("substitution").replace("$", "$$")


def header_match(view: View) -> HeaderMatch:
    """A HeaderMatcher, including the deprecated forms such as `exact_match`."""
    with view:
        made = HeaderMatch(
            name=view.value("name").lower(),
            invert_match=view.value("invert_match"),
            treat_missing_header_as_empty=view.value("treat_missing_header_as_empty"),
        )
        if made.name == "host":
            made.name = ":authority"
        if not made.name:
            view.fault("name", "must not be empty")
        kind = view.which("header_match_specifier")
        if kind == "string_match":
            inner = view.inner(kind)
            made.string_match = None if inner is None else string_match(inner)
        elif kind == "safe_regex_match":
            made.string_match = StringMatch(regex=regex(view.inner(kind)))
        elif kind == "exact_match":
            # Envoy's deprecated form: an empty text accepts any value.
            text = view.value(kind)
            made.string_match = StringMatch(exact=text) if text else StringMatch(regex="(?s).*")
        elif kind in ("prefix_match", "suffix_match", "contains_match"):
            made.string_match = _deprecated(view, kind)
        elif kind == "range_match":
            made.range_match = _range(view.inner(kind))
        else:
            # A matcher with a name only asks for the header's presence.
            made.present_match = view.value(kind) if kind else True
    return made


def _deprecated(view: View, kind: str) -> StringMatch:
    text = view.value(kind)
    if not text:
        view.fault(kind, "must not be empty")
    key = kind.removesuffix("_match")
    return StringMatch(
        prefix=text if key == "prefix" else "",
        suffix=text if key == "suffix" else "",
        contains=text if key == "contains" else "",
    )


def _range(view: View | None) -> IntegerRange:
    if view is None:
        return IntegerRange()
    with view:
        return IntegerRange(start=view.value("start"), end=view.value("end"))


def fraction(view: View) -> float:
    """A FractionalPercent in per cent, 0 to 100, with up to four decimals."""
    with view:
        percent = float(view.value("numerator")) / _DENOMINATORS.get(view.enum("denominator"), 1.0)
        return min(percent, 100.0)


def runtime_fraction(view: View) -> float:
    """A RuntimeFractionalPercent in per cent. The value is the default: there is no run-time layer to override it."""
    with view:
        view.value("runtime_key")
        inner = view.inner("default_value")
        if inner is None:
            return 0.0
        return fraction(inner)


def address(view: View) -> str:
    """An Address in MOSN's form: `ip:port`, `[ip]:port`, `name:port` or `unix:/path`; empty with a fault."""
    with view:
        kind = view.which("address")
        inner = view.inner(kind) if kind in ("socket_address", "pipe") else None
        if inner is None:
            if kind:
                view.refuse(kind, "only socket addresses and pipes are supported")
            else:
                view.fault("", "missing address")
            return ""
        return _socket(inner) if kind == "socket_address" else _pipe(inner)


def _socket(view: View) -> str:
    with view:
        if view.enum("protocol") != "TCP":
            view.fault("protocol", "only TCP is supported")
        view.refuse("named_port", "ports by name are not supported")
        view.refuse("resolver_name", "resolvers by name are not supported")
        view.refuse("network_namespace_filepath", "other network namespaces are not supported")
        view.value("ipv4_compat")  # IPv6 listeners of ours take IPv4 only if their address is a mapped one
        host, port = view.value("address"), view.value("port_value")
        if not host:
            view.fault("address", "must not be empty")
        if port > 65535:
            view.fault("port_value", f"must be at most 65535, got {port}")
    return write_address(host, port)


def _pipe(view: View) -> str:
    with view:
        view.value("mode")  # of a listener's socket; MOSN's form has none
        path: str = view.value("path")
        if not path:
            view.fault("path", "must not be empty")
        elif path.startswith("@"):
            view.fault("path", "abstract sockets are not supported")
    return UNIX + path


def cidr(view: View) -> str:
    """A CidrRange as `10.0.0.0/8`; without `prefix_len` all addresses of the family, as in Envoy."""
    with view:
        prefix: str = view.value("address_prefix")
        length = view.wrapped("prefix_len") or 0
        if not normal_ip(prefix):
            view.fault("address_prefix", f"not an IP address: {prefix!r}")
            return "0.0.0.0/0"
        longest = 128 if ":" in prefix else 32
        if length > longest:
            view.fault("prefix_len", f"must be at most {longest}, got {length}")
    return f"{prefix}/{min(length, longest)}"


def inline_text(view: View) -> str:
    """A DataSource with text in itself."""
    with view:
        for name in ("filename", "environment_variable", "watched_directory"):
            view.refuse(name, "only inline_string and inline_bytes are supported")
        raw: bytes = view.value("inline_bytes")
        try:
            return raw.decode() or str(view.value("inline_string"))
        except UnicodeDecodeError:
            view.fault("inline_bytes", "only text in UTF-8 is supported")
            return ""


class HeaderOption:
    """A HeaderValueOption: what to do with one field. `value`: in Envoy's format, see `formats`."""

    def __init__(self, name: str, value: str, action: str, keeps_empty: bool) -> None:
        self.name = name
        self.value = value
        self.action = action
        self.keeps_empty = keeps_empty


def header_option(view: View) -> HeaderOption:
    """A HeaderValueOption; the deprecated `append` becomes an action."""
    with view:
        action = view.enum("append_action")
        append: Any = view.wrapped("append")
        if append is not None:
            if action != "APPEND_IF_EXISTS_OR_ADD":
                view.fault("append", "not valid together with append_action")
            action = "APPEND_IF_EXISTS_OR_ADD" if append else "OVERWRITE_IF_EXISTS_OR_ADD"
        inner = view.inner("header")
        name, value = ("", "") if inner is None else _header_value(inner)
        if not name:
            view.fault("header", "a header needs a key")
        return HeaderOption(name, value, action, view.value("keep_empty_value"))


def _header_value(view: View) -> tuple[str, str]:
    with view:
        name, value, raw = view.value("key"), view.value("value"), view.value("raw_value")
        if value and raw:
            view.fault("raw_value", "not valid together with value")
        return name, value or raw.decode("latin-1")
