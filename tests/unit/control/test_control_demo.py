import pytest
from tests.unit.control.asgi_client import AsgiClient

from pymosn.control.demo import create_demo


@pytest.fixture
def client() -> AsgiClient:
    return AsgiClient(create_demo())


def test_the_echo_shows_the_request(client: AsgiClient) -> None:
    answer = client.post("/any/p%61th?q=1", [b"123", b"45"], {"X-Request-Id": "abc"})
    assert answer.headers["content-type"].startswith("text/plain")
    assert "POST /any/p%61th?q=1 HTTP/1.1\n" in answer.text
    assert "x-request-id: abc\n" in answer.text
    assert "5 bytes of body" in answer.text


@pytest.mark.parametrize("count", [0, 1, 65536, 200_001])
def test_bytes(client: AsgiClient, count: int) -> None:
    answer = client.get(f"/bytes/{count}")
    assert (len(answer.content), answer.headers["content-length"]) == (count, str(count))


@pytest.mark.parametrize(("path", "status"), [("/status/503", 503), ("/status/204", 204), ("/status/99", 400)])
def test_status(client: AsgiClient, path: str, status: int) -> None:
    assert client.get(path).status == status


def test_slow_is_bounded(client: AsgiClient) -> None:
    assert client.get("/slow/0").text == "0 s later\n"
    assert client.get("/slow/99999").status == 400
