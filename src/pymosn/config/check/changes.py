"""Checks how routes change messages: rewrites, headers, cookies for hashing."""

import re

from pymosn.config.check.report import Report
from pymosn.config.schema import RouteAction, RouteMatch
from pymosn.config.schema.router import HeaderChanges
from pymosn.core.headers import HeaderError
from pymosn.core.uri import is_host
from pymosn.routing.changes import ChangeLevel, HeaderAddition
from pymosn.routing.regex import PatternError, Replacement

#: A token (RFC 9110), and the value of `Path=` in a cookie (RFC 6265 section 4.1.1).
_COOKIE_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_COOKIE_PATH = re.compile(r"[ -:<-~]*")


def check_rewrites(match: RouteMatch, action: RouteAction, path: str, report: Report) -> None:
    """Check prefix_rewrite, regex_rewrite and host_rewrite of a route."""
    if action.prefix_rewrite and not match.prefix and not match.path:
        message = "has no effect on a route without prefix or path, as in MOSN; regex_rewrite works on any route"
        report.warning(f"{path}.prefix_rewrite", message, action.prefix_rewrite)
    rewrite = action.regex_rewrite
    if rewrite is not None and action.prefix_rewrite:
        report.warning(f"{path}.regex_rewrite", "has no effect together with prefix_rewrite, as in MOSN")
    elif rewrite is not None and rewrite.pattern.regex:
        try:
            Replacement(rewrite.pattern.regex, rewrite.substitution)
        except PatternError as error:
            report.error(f"{path}.regex_rewrite", f"cannot be used: {error}")
    if action.host_rewrite and not is_host(action.host_rewrite.encode()):
        report.error(f"{path}.host_rewrite", "not a host", action.host_rewrite)
    others = [name for name in ("auto_host_rewrite_header", "auto_host_rewrite") if getattr(action, name)]
    for name in others if action.host_rewrite else others[1:]:
        stronger = "host_rewrite" if action.host_rewrite else others[0]
        report.warning(f"{path}.{name}", f"has no effect together with {stronger}, as in MOSN")


def check_header_changes(level: HeaderChanges, path: str, report: Report) -> None:
    """Check the header changes of a route, a virtual host or a table."""
    for side in ("request", "response"):
        for i, entry in enumerate(getattr(level, f"{side}_headers_to_add")):
            inner = f"{path}.{side}_headers_to_add[{i}].header"
            if side == "request" and entry.header.key.lower() == "host":
                report.error(f"{inner}.key", "use host_rewrite to change the host", entry.header.key)
                continue
            try:
                HeaderAddition(entry.header.key, entry.header.value, entry.append)
            except HeaderError as error:
                report.error(inner, str(error))
        for i, name in enumerate(getattr(level, f"{side}_headers_to_remove")):
            inner = f"{path}.{side}_headers_to_remove[{i}]"
            if side == "request" and name.lower() == "host":
                report.error(inner, "the host of a request cannot be removed", name)
                continue
            try:
                ChangeLevel([], [name])
            except HeaderError as error:
                report.error(inner, str(error))


def check_hash_policies(action: RouteAction, path: str, report: Report) -> None:
    """Check that each entry has one source, and that its cookie is valid."""
    for i, entry in enumerate(action.hash_policy):
        inner = f"{path}.hash_policy[{i}]"
        kinds = [name for name in ("header", "cookie", "source_ip") if getattr(entry, name) is not None]
        if not kinds:
            report.error(inner, "needs one of header, cookie and source_ip")
        for name in kinds[1:]:
            report.warning(f"{inner}.{name}", f"has no effect together with {kinds[0]}, as in MOSN")
        if entry.header is not None and not entry.header.key:
            report.error(f"{inner}.header.key", "missing header name")
        cookie = entry.cookie
        if cookie is not None:
            if not _COOKIE_NAME.fullmatch(cookie.name):
                report.error(f"{inner}.cookie.name", "not a cookie name", cookie.name)
            if not _COOKIE_PATH.fullmatch(cookie.path):
                report.error(f"{inner}.cookie.path", "not a cookie path", cookie.path)
