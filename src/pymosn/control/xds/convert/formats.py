"""Envoy's format strings (`%REQ(:METHOD)%`) -> ours, with variables (`%request_method%`).

In a log, what is unknown becomes `-`, with a warning: it decides nothing. In a header field, which hosts may rely on, it is
a fault. Literal percent signs and backslashes before a variable become variables, too: our formats have no escapes for them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from pymosn.api.variables import is_known
from pymosn.control.xds.convert.view import View
from pymosn.observe.reply_body import BODY_VARIABLE

_COMMAND: Final = re.compile(r"%%|%([A-Z0-9_]+)(?:\(((?:[^()]|\([^()]*\))*)\))?(?::(\d+))?%")
#: Envoy's commands without an argument.
_PLAIN: Final[Mapping[str, str]] = {
    "BYTES_RECEIVED": "bytes_received",
    "BYTES_SENT": "bytes_sent",
    "CONNECTION_ID": "connection_id",
    "CONNECTION_TERMINATION_DETAILS": "reason",
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS": "downstream_direct_remote_address",
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT": "downstream_direct_remote_ip",
    "DOWNSTREAM_LOCAL_ADDRESS": "original_destination",
    "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT": "downstream_local_ip",
    "DOWNSTREAM_LOCAL_PORT": "listener_port",
    "DOWNSTREAM_LOCAL_URI_SAN": "",
    "DOWNSTREAM_PEER_CERT_V_END": "downstream_peer_cert_v_end",
    "DOWNSTREAM_PEER_DNS_SAN": "downstream_peer_dns_san",
    "DOWNSTREAM_PEER_FINGERPRINT_256": "downstream_peer_fingerprint_256",
    "DOWNSTREAM_PEER_ISSUER": "downstream_peer_issuer",
    "DOWNSTREAM_PEER_SERIAL": "downstream_peer_serial",
    "DOWNSTREAM_PEER_SUBJECT": "downstream_peer_subject",
    "DOWNSTREAM_PEER_URI_SAN": "downstream_peer_uri_san",
    "DOWNSTREAM_REMOTE_ADDRESS": "downstream_remote_address",
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": "downstream_remote_ip",
    "DOWNSTREAM_TLS_CIPHER": "downstream_tls_cipher",
    "DOWNSTREAM_TLS_VERSION": "downstream_tls_version",
    "DURATION": "duration_ms",
    "GRPC_STATUS": "grpc_status",
    "GRPC_STATUS_NUMBER": "grpc_status",
    "PATH": "request_uri",
    "PROTOCOL": "protocol_envoy",
    "REQUESTED_SERVER_NAME": "requested_server_name",
    "REQUEST_DURATION": "request_duration_ms",
    "RESPONSE_CODE": "response_code",
    "RESPONSE_CODE_DETAILS": "response_code_details",
    "RESPONSE_DURATION": "response_duration_ms",
    "RESPONSE_FLAGS": "response_flags_envoy",
    "RESPONSE_FLAGS_LONG": "reason",
    "RESPONSE_TX_DURATION": "response_tx_duration_ms",
    "ROUTE_NAME": "route_name",
    "START_TIME": "start_time_utc",
    "STREAM_ID": "request_header_x-request-id",
    "TLS_JA3_FINGERPRINT": "tls_ja3_fingerprint",
    "TLS_JA4_FINGERPRINT": "tls_ja4_fingerprint",
    "UPSTREAM_CLUSTER": "upstream_cluster",
    "UPSTREAM_CLUSTER_RAW": "upstream_cluster",
    "UPSTREAM_HOST": "upstream_address",
    "UPSTREAM_HOST_NAME": "upstream_host",
    "UPSTREAM_PROTOCOL": "upstream_protocol_envoy",
    "UPSTREAM_REMOTE_ADDRESS": "upstream_address",
    "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": "upstream_remote_ip",
    "UPSTREAM_REQUEST_ATTEMPT_COUNT": "attempts",
    "UPSTREAM_TRANSPORT_FAILURE_REASON": "reason",
}
_PSEUDO: Final[Mapping[str, str]] = {
    ":method": "request_method",
    ":path": "path_now",
    ":authority": "authority",
    "host": "authority",
    ":scheme": "request_scheme",
    # Envoy sets it if it has rewritten the path: the path as it was.
    "x-envoy-original-path": "request_uri",
}
_SERVICE_TIME: Final = "x-envoy-upstream-service-time"


#: Names of variables that may be in the value of a header field.
_USABLE: Final = re.compile(r"[A-Za-z0-9_.:|-]+")


def translate(text: str, view: View, name: str) -> str:
    """The format of a log. What is unknown is `-`, with a warning at the field `name` of `view`."""
    return _Translation(view, name).text(text)


def translate_value(text: str, view: View, name: str, *, of_request: bool) -> str:
    """The value of a header field. What is unknown is a fault at the field `name` of `view`.

    `of_request`: of a request, whose fields are set before its path is rewritten, as in Envoy.
    """
    return _ValueTranslation(view, name, of_request).text(text)


def translate_body(text: str, view: View, name: str) -> str:
    """The format of the body of local replies, as of a log."""
    return _BodyTranslation(view, name).text(text)


class _Translation:
    """Translates the text of one field."""

    #: What a variable of the environment is that is not set.
    missing = "-"

    def __init__(self, view: View, name: str) -> None:
        self._view = view
        self._name = name

    def text(self, text: str) -> str:
        """The whole format."""
        out: list[str] = []
        end = 0
        for match in _COMMAND.finditer(text):
            out.append(self._literal(text[end : match.start()], before_variable=True))
            out.append(self._command(match))
            end = match.end()
        out.append(self._literal(text[end:], before_variable=False))
        return "".join(out)

    def report(self, message: str) -> None:
        """Part of the text has no effect, or another one."""
        self._view.warn(self._name, message)

    def report_unknown(self, command: str) -> None:
        """A command is not known."""
        self.report(f"%{command}% is not available; it is logged as -")

    def report_time(self, argument: str) -> None:
        """The format of a time is not known."""
        self.report(f"%START_TIME({argument})%: times are logged in ISO 8601")

    def variable(self, command: str, argument: str | None) -> str:
        """The name of our variable; empty for none."""
        return _variable(command, argument)

    def _literal(self, text: str, *, before_variable: bool) -> str:
        if "%" in text:
            self.report(f"invalid format {text.strip()!r}: it has a single percent sign")
        found = text.replace("\\%", "%backslash%%percent%").replace("%", "%percent%") if "%" in text else text
        if before_variable and found.endswith("\\"):
            found = found[:-1] + "%backslash%"
        return found

    def _command(self, match: re.Match[str]) -> str:
        command, argument, longest = match.group(1), match.group(2), match.group(3)
        if command is None:
            return "%percent%"
        if command == "ENVIRONMENT":
            return self._literal(os.environ.get(argument or "", self.missing), before_variable=True)
        if command == "HOSTNAME":
            return os.uname().nodename
        variable = self.variable(command, argument)
        if command == "START_TIME" and argument:
            variable = "start_time_seconds" if argument == "%s" else "start_time_utc"
            if argument != "%s":
                self.report_time(argument)
        if not variable:
            self.report_unknown(command)
            return "-"
        return f"%{variable}{f':{longest}' if longest and variable not in ('start_time_utc', 'start_time_seconds') else ''}%"


class _BodyTranslation(_Translation):
    """Translates the format of the body of local replies."""

    def variable(self, command: str, argument: str | None) -> str:
        return BODY_VARIABLE if command == "LOCAL_REPLY_BODY" and argument is None else _variable(command, argument)


class _ValueTranslation(_Translation):
    """Translates the value of a header field."""

    missing = ""

    def __init__(self, view: View, name: str, of_request: bool) -> None:
        super().__init__(view, name)
        self._of_request = of_request

    def report(self, message: str) -> None:
        self._view.fault(self._name, message)

    def report_unknown(self, command: str) -> None:
        self.report(f"%{command}% is not available in the value of a header field")

    def report_time(self, argument: str) -> None:
        self.report(f"%START_TIME({argument})%: the format is not supported; expected none or %s")

    def variable(self, command: str, argument: str | None) -> str:
        found = _variable(command, argument)
        if self._of_request:
            found = "|".join("request_uri" if part == "path_now" else part for part in found.split("|"))
        return found if _USABLE.fullmatch(found) and is_known(found) else ""


def _variable(command: str, argument: str | None) -> str:
    """The name of our variable; empty for none."""
    if argument is None or command in ("START_TIME", "DOWNSTREAM_PEER_CERT_V_END"):
        return _PLAIN.get(command, "")
    if command in ("REQ", "RESP"):
        names = [_header(command, part.strip().lower()) for part in argument.split("?") if part.strip()]
        return "|".join(names)
    if command == "QUERY_PARAM":
        return f"request_arg_{argument}"
    return "grpc_status" if command == "GRPC_STATUS" else ""


def _header(command: str, header: str) -> str:
    if command == "REQ":
        return _PSEUDO.get(header, f"request_header_{header}")
    if header == ":status":
        return "response_code"
    return "upstream_service_time_ms" if header == _SERVICE_TIME else f"response_header_{header}"


def one_line(text: str, view: View, name: str) -> str:
    """A format for one line of a log: without its end, which every line has."""
    found = text.rstrip("\r\n")
    if any(not char.isprintable() and char != "\t" for char in found):
        view.warn(name, "control characters within a line are logged as spaces")
        found = "".join(char if char.isprintable() or char == "\t" else " " for char in found)
    return translate(found, view, name)


def json_members(value: Any, view: View, name: str, member: Callable[[str, View, str], str] = one_line) -> Any:
    """A JSON format (a Struct as a plain value) with our formats, sorted as in Envoy. `member`: makes the one of a text."""
    if isinstance(value, dict):
        return {key: json_members(item, view, name, member) for key, item in sorted(value.items())}
    if isinstance(value, list):
        return [json_members(item, view, name, member) for item in value]
    return member(value, view, name) if isinstance(value, str) else value
