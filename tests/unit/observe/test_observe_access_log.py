import json
import time

import pytest
from tests.kit import FakeClock

from pymosn.api.exchange import Exchange
from pymosn.api.http import HttpRequest, HttpResponse
from pymosn.api.network import Connection
from pymosn.api.routing import Route, RouteAction, RouteMatcher
from pymosn.api.variables import PREFIXES
from pymosn.core.failure import CONNECT_REFUSED, FILTER_ERROR, NO_ROUTE
from pymosn.core.headers import HttpHeaders
from pymosn.observe.access_log import DEFAULT_FORMAT, AccessLogFile, compile_format
from pymosn.observe.destination import Destination
from pymosn.observe.variables import BOUND, UNAVAILABLE, VARIABLES

STARTED = 1000.0
WALL = time.mktime((2026, 3, 4, 12, 0, 0, 0, 0, -1)) + 0.5


class Lines(Destination):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def write(self, line: str, level: int = 20) -> None:
        self.lines.append(line)


def exchange(request_lines: bytes = b"", response_lines: bytes = b"", query: bytes | None = b"a=1&b=x%20y") -> Exchange:
    connection = Connection()
    connection.id = 7
    connection.remote_ip, connection.remote_port = "10.0.0.9", 4711
    connection.local_ip, connection.local_port = "::1", 2045
    made = Exchange(connection)
    request = made.request = HttpRequest()
    request.raw_method, request.raw_path, request.raw_query, request.raw_host = b"GET", b"/p", query, b"example.com"
    request.head_size = 31
    request.headers = HttpHeaders(request_lines)
    made.response = HttpResponse(200, b"OK", HttpHeaders(response_lines))
    made.protocol = "Http1"
    made.cluster_name = "backend"
    made.upstream_address = "10.1.1.1:8080"
    made.upstream_connection_id = 9
    made.route = Route("table/host/0", RouteMatcher(), RouteAction())
    made.started = STARTED
    made.request_received = made.request_sent = STARTED + 0.25
    made.response_received = STARTED + 0.375
    made.response_completed = STARTED + 0.375
    made.finished = STARTED + 0.5
    made.bytes_received = 10
    made.bytes_sent = 2000
    made.attempts = 1
    return made


def line(text: str, made: Exchange | None = None) -> str:
    return compile_format(text).bind(FakeClock(STARTED + 0.5, WALL), "clientListener", "egress")(made or exchange())


def test_the_default_format_is_mosns_to_the_letter() -> None:
    assert line("") == (
        "2026/03/04 12:00:00.000 -  7 9 250ms 375ms 2000 10 Http1 200 500ms false 200 "
        "10.1.1.1:8080 [::1]:2045 10.0.0.9:4711 -"
    )
    assert compile_format("").warnings == compile_format(DEFAULT_FORMAT).warnings == []


def test_where_no_format_is_given_a_failure_has_its_reason_at_the_end() -> None:
    made = exchange()
    made.failure = NO_ROUTE
    assert line("", made) == line(DEFAULT_FORMAT, made) + " no_route"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("%start_time%", "2026/03/04 12:00:00.000"),
        ("%duration% %request_received_duration% %response_received_duration%", "500ms 250ms 375ms"),
        ("%request_finished_duration% %process_time_duration%", "500ms 375ms"),
        ("%upstream_cluster% %upstream_address% %upstream_protocol% %attempts%", "backend 10.1.1.1:8080 Http1 1"),
        ("%route_name% %reason% %upstream_transport_failure_reason%", "table/host/0 - 0x0"),
        ("%listener_name% %listener_type% %listener_port%", "clientListener egress 2045"),
        ("%request_path% %request_uri% %request_arg% %request_scheme%", "/p /p?a=1&b=x%20y a=1&b=x%20y http"),
        ("%Http1_request_method% %Http1_request_uri% %Http1_request_arg_b%", "GET /p?a=1&b=x%20y x y"),
        ("%Http1_request_length%", "41"),
        ("%Http2_request_scheme%", "-"),
        ("%x-mosn-method% %x-mosn-host% %x-mosn-status%", "GET example.com 200"),
        ("%request_arg_missing% %cookie_missing% %request_header_missing%", "- - -"),
        (r"50\% of %protocol%", r"50\% of Http1"),
        ("[%nonsense%] [%stream_id%]", "[-] [-]"),
    ],
)
def test_variables(text: str, expected: str) -> None:
    assert line(text) == expected


def test_text_that_looks_like_a_python_format_is_text() -> None:
    assert line(r"\%s {0} \%(x)s %protocol%") == r"\%s {0} \%(x)s Http1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a %protocol", "odd number of %, the last at character 3"),
        ("%a% %b% 100%", "odd number of %, the last at character 12"),
        ("%protocol% %% x", "%% at character 12 names no variable"),
        ("a\nb", r"control character '\\n' at character 2"),
    ],
)
def test_faults_name_the_position(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compile_format(text)


def test_variables_that_are_always_empty_are_warned_of_once() -> None:
    assert compile_format("%durration% %durration% %span_key% %protocol% %request_header_%").warnings == [
        "%durration% is not a known variable; it is always logged as -; did you mean %duration%?",
        "%span_key% is not available here; it is always logged as -",
        "%request_header_% lacks the name at its end; it is always logged as -",
    ]


def test_failures_show_mosns_flags_and_our_word() -> None:
    text = "%response_code% %response_flag% %response_flags% %upstream_transport_failure_reason% %reason%"
    made = exchange()
    made.failure = CONNECT_REFUSED
    made.response = HttpResponse(502)
    assert line(text, made) == "502 true true 0x20 connect_refused"
    made.failure = FILTER_ERROR
    assert line(text, made) == "502 false false 0x0 filter_error"
    made.response = None
    assert line("%response_code% %response_header_x%", made) == "0 -"


def test_an_exchange_that_hardly_began_has_a_line() -> None:
    made = Exchange(Connection())
    names = [*VARIABLES, *BOUND, *UNAVAILABLE, *(prefix + "x" for prefix in PREFIXES)]
    text = line(" ".join(f"%{name}%" for name in names), made)
    assert "\n" not in text
    assert line("%duration% %upstream_connection_id% %route_name% %request_uri%", made) == "0s - - -"


def test_headers_cookies_and_arguments() -> None:
    made = exchange(b"User-Agent: curl/8\r\nCookie: a=1; session=abc=; b=2\r\nX-A: 1\r\nx-a: 2\r\n", b"Server: up\r\n")
    assert line("%request_header_user-agent% %request_header_X-A%", made) == "curl/8 1,2"
    assert line("%response_header_SERVER% %Http1_request_header_x-a%", made) == "up 1,2"
    assert line("%cookie_session% %Http1_cookie_b% %cookie_c%", made) == "abc= 2 -"
    assert line("%request_arg_b%", made) == "x y"


@pytest.mark.parametrize(
    "value",
    [b'x" "admin": "yes', b"x\\", b"\x1b[2J", b"\xff\xfe", "\u2028\u202e".encode(), b'\\" , "a": "', b"%s %(x)s"],
)
def test_a_client_cannot_forge_a_line_or_a_json_field(value: bytes) -> None:
    made = exchange(b"x: " + value + b"\r\nCookie: c=" + value + b"\r\n", query=None)
    made.request.raw_path = b"/" + value
    made.request.raw_host = value
    names = ("request_header_x", "cookie_c", "request_path", "x-mosn-host")
    text = line("{" + ", ".join(f'"{name}": "%{name}%"' for name in names) + "}", made)
    assert text.isascii()
    assert text.isprintable()
    shown = json.loads(text)
    assert list(shown) == list(names)
    assert shown["request_header_x"] == value.decode("utf-8", "surrogateescape")


def test_a_decoded_argument_cannot_forge_a_line() -> None:
    made = exchange(query=b"a=%0d%0a2026/03/04%20forged%1b[2J%22")
    assert line("%request_arg_a%", made) == '\\r\\n2026/03/04 forged\\u001b[2J\\"'


def test_an_upstream_cannot_forge_a_line_either() -> None:
    made = exchange()
    made.upstream_hostname = "a\nb"
    made.cluster_name = 'c"d'
    assert line("%upstream_host% %upstream_cluster%", made) == 'a\\nb c\\"d'


def test_a_log_that_is_switched_off_makes_no_lines() -> None:
    lines = Lines()
    log = AccessLogFile(lines, compile_format("%protocol% %bytes_sent%").bind(FakeClock(STARTED + 0.5, WALL)))
    log.log(exchange())
    lines.enabled = False
    log.log(exchange())
    assert lines.lines == ["Http1 2000"]
