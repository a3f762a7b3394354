"""`/api/v1/upgrade` of the admin API."""

import json

import pytest
from tests.kit import Lines
from tests.unit.control.asgi_client import AsgiClient
from tests.unit.control.fake_plane import FakePlane

from pymosn.config.schema.top import Admin
from pymosn.control.access import TcpDoor
from pymosn.control.admin import create_app


class Api:
    """Through the unix socket, or through a port where no token is needed."""

    def __init__(self, is_unix: bool = True) -> None:
        self.plane = FakePlane()
        log = Lines()
        door = TcpDoor(Admin(allow_changes_without_token=True), "/", lambda: True, log)
        doors = {} if is_unix else {"door": door}
        self._client = AsgiClient(create_app(self.plane, log, environment={}, **doors))

    def post(self, body: object = None) -> tuple[int, list[dict[str, object]]]:
        """The status, and the lines of the response, or the error."""
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        answer = self._client.request("POST", "/api/v1/upgrade", [content], {"host": "127.0.0.1"})
        return answer.status, [
            json.loads(each) for each in (answer.text.splitlines() if answer.status == 200 else [answer.text])
        ]


def test_the_response_has_a_line_for_each_step() -> None:
    api = Api()
    status, lines = api.post({"keep_config": True, "timeout": 5, "workers": 3, "command": ["/new/pymosn"]})
    assert (status, lines[0], lines[-1]["done"]) == (200, {"progress": "process 4711 starts"}, True)
    ((source, options),) = api.plane.upgrades
    assert source == "admin /api/v1/upgrade"
    assert (options.keep_config, options.timeout, options.workers, options.command) == (True, 5.0, 3, ["/new/pymosn"])


def test_everything_is_optional() -> None:
    api = Api(is_unix=False)
    assert api.post()[0] == 200
    assert [(options.keep_config, options.workers, options.command) for _, options in api.plane.upgrades] == [
        (None, None, [])
    ]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"{", "not JSON"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": 1e9}, "timeout"),
        ({"workers": 0}, "workers"),
        ({"command": "/bin/sh"}, "command"),
        ({"comand": []}, "comand"),
    ],
)
def test_an_invalid_request_is_rejected(body: object, word: str) -> None:
    api = Api()
    status, (answer,) = api.post(body)
    assert status == 400
    assert word in str(answer["error"])
    assert api.plane.upgrades == []


def test_a_program_to_execute_is_only_accepted_on_the_unix_socket() -> None:
    api = Api(is_unix=False)
    status, (answer,) = api.post({"command": ["/bin/sh"]})
    assert status == 403
    assert "unix socket" in str(answer["error"])
    assert api.plane.upgrades == []
