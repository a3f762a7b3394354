"""gRPC's interoperability cases with grpcio on both sides, through one hop of HTTP/2 and through two.

Without those of ORCA and the soak tests, which only grpc-go's programs run (`interop/test_interop_grpc.py`).
"""

import queue
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from interop_service import ECHO_INITIAL, ECHO_TRAILING, InteropClient, InteropServer, message
from process_fixtures import Start
from pymosn_process import PATIENCE, READY, free_ports
from tls_peers import config_of, listener_of

pytestmark = pytest.mark.once

LARGE_REQUEST, LARGE_RESPONSE = 271828, 314159
#: Sizes of requests and of the responses to them, from the description of the cases.
REQUEST_SIZES, RESPONSE_SIZES = (27182, 8, 1828, 45904), (31415, 9, 2653, 58979)
STATUS_MESSAGE = "test status message"
SPECIAL_MESSAGE = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """The ports of a proxy in front of the server, and of one in front of that proxy."""
    server = InteropServer()
    start = Start(tmp_path_factory.mktemp("grpc"))
    first, second = free_ports(2)
    try:
        start(hops(first, second, server.address)).wait_for(READY)
        yield {"one hop": first, "two hops": second}
    finally:
        start.end()
        server.close()


def hops(first: int, second: int, server: str) -> dict[str, Any]:
    """A listener that forwards to the server, and one that forwards to that listener."""
    clusters = {"server": server, "proxy": f"127.0.0.1:{first}"}
    listeners, tables = [], []
    for cluster, port in zip(clusters, (first, second), strict=True):
        settings = {"downstream_protocol": "Http2", "router_config_name": cluster}
        listeners.append(listener_of(cluster, port, [{"filters": [{"type": "proxy", "config": settings}]}]))
        route = {"match": {"prefix": "/"}, "route": {"cluster_name": cluster}}
        host = {"name": cluster, "domains": ["*"], "routers": [route]}
        tables.append({"router_config_name": cluster, "virtual_hosts": [host]})
    return config_of(listeners, tables, clusters)


@pytest.fixture(params=["one hop", "two hops"])
def client(request: pytest.FixtureRequest, ports: dict[str, int]) -> Iterator[InteropClient]:
    made = InteropClient(ports[request.param])
    yield made
    made.close()


def simple(request_size: int = 0, response_size: int = 0, **more: Any) -> Any:
    request = message("SimpleRequest")(response_size=response_size, **more)
    request.payload.body = bytes(request_size)
    return request


def output(*sizes: int, request_size: int = 0, interval_us: int = 0) -> Any:
    request = message("StreamingOutputCallRequest")()
    request.payload.body = bytes(request_size)
    for size in sizes:
        request.response_parameters.add(size=size, interval_us=interval_us)
    return request


def inputs() -> Iterator[Any]:
    for size in REQUEST_SIZES:
        request = message("StreamingInputCallRequest")()
        request.payload.body = bytes(size)
        yield request


def failure(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    """The status of a call that must fail."""
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return raised.value.code(), raised.value.details()


class Duplex:
    """A call with streams in both directions. Its requests end when None is put into `requests`."""

    def __init__(self, client: InteropClient, **settings: Any) -> None:
        self.requests: queue.Queue[Any] = queue.Queue()
        settings.setdefault("timeout", PATIENCE)
        self.responses = client.call("FullDuplexCall")(iter(self.requests.get, None), **settings)


def test_empty_unary(client: InteropClient) -> None:
    assert client.call("EmptyCall")(message("Empty")(), timeout=PATIENCE) == message("Empty")()


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_large_unary(client: InteropClient, compression: grpc.Compression) -> None:
    request = simple(LARGE_REQUEST, LARGE_RESPONSE)
    response = client.call("UnaryCall")(request, timeout=PATIENCE, compression=compression)
    assert response.payload.body == bytes(LARGE_RESPONSE)


def test_client_streaming(client: InteropClient) -> None:
    response = client.call("StreamingInputCall")(inputs(), timeout=PATIENCE)
    assert response.aggregated_payload_size == sum(REQUEST_SIZES)


def test_server_streaming(client: InteropClient) -> None:
    responses = client.call("StreamingOutputCall")(output(*RESPONSE_SIZES), timeout=PATIENCE)
    assert [len(response.payload.body) for response in responses] == list(RESPONSE_SIZES)


def test_half_duplex(client: InteropClient) -> None:
    requests = (output(size) for size in RESPONSE_SIZES)
    responses = client.call("HalfDuplexCall")(requests, timeout=PATIENCE)
    assert [len(response.payload.body) for response in responses] == list(RESPONSE_SIZES)


def test_ping_pong(client: InteropClient) -> None:
    call = Duplex(client)
    for request_size, response_size in zip(REQUEST_SIZES, RESPONSE_SIZES, strict=True):
        call.requests.put(output(response_size, request_size=request_size))
        assert len(next(call.responses).payload.body) == response_size
    call.requests.put(None)
    assert list(call.responses) == []
    assert call.responses.code() is grpc.StatusCode.OK


def test_empty_stream(client: InteropClient) -> None:
    call = Duplex(client)
    call.requests.put(None)
    assert list(call.responses) == []
    assert call.responses.code() is grpc.StatusCode.OK


def test_cancel_after_begin(client: InteropClient) -> None:
    requests: queue.Queue[Any] = queue.Queue()
    call = client.call("StreamingInputCall").future(iter(requests.get, None), timeout=PATIENCE)
    call.cancel()
    assert call.cancelled()
    assert call.code() is grpc.StatusCode.CANCELLED
    requests.put(None)


def test_cancel_after_first_response(client: InteropClient) -> None:
    call = Duplex(client)
    call.requests.put(output(RESPONSE_SIZES[0], request_size=REQUEST_SIZES[0]))
    assert len(next(call.responses).payload.body) == RESPONSE_SIZES[0]
    call.responses.cancel()
    assert failure(lambda: next(call.responses))[0] is grpc.StatusCode.CANCELLED
    call.requests.put(None)


def test_timeout_on_sleeping_server(client: InteropClient) -> None:
    call = Duplex(client, timeout=0.001)
    call.requests.put(output(31415, request_size=27182, interval_us=40_000))
    assert failure(lambda: next(call.responses))[0] is grpc.StatusCode.DEADLINE_EXCEEDED
    call.requests.put(None)


def test_custom_metadata(client: InteropClient) -> None:
    metadata = ((ECHO_INITIAL, "test_initial_metadata_value"), (ECHO_TRAILING, b"\xab\xab\xab"))
    _, unary = client.call("UnaryCall").with_call(simple(LARGE_REQUEST, LARGE_RESPONSE), metadata=metadata, timeout=PATIENCE)
    assert metadata[0] in [tuple(each) for each in unary.initial_metadata()]
    assert metadata[1] in [tuple(each) for each in unary.trailing_metadata()]
    call = Duplex(client, metadata=metadata)
    call.requests.put(output(LARGE_RESPONSE, request_size=LARGE_REQUEST))
    call.requests.put(None)
    assert [len(response.payload.body) for response in call.responses] == [LARGE_RESPONSE]
    assert metadata[0] in [tuple(each) for each in call.responses.initial_metadata()]
    assert metadata[1] in [tuple(each) for each in call.responses.trailing_metadata()]


@pytest.mark.parametrize("text", [STATUS_MESSAGE, SPECIAL_MESSAGE])
def test_status_code_and_message(client: InteropClient, text: str) -> None:
    status = message("EchoStatus")(code=2, message=text)
    request = simple(response_status=status)
    wanted = (grpc.StatusCode.UNKNOWN, text)
    assert failure(lambda: client.call("UnaryCall")(request, timeout=PATIENCE)) == wanted
    call = Duplex(client)
    call.requests.put(message("StreamingOutputCallRequest")(response_status=status))
    call.requests.put(None)
    assert failure(lambda: list(call.responses)) == wanted


@pytest.mark.parametrize("service", ["grpc.testing.TestService", "grpc.testing.UnimplementedService"])
def test_unimplemented(client: InteropClient, service: str) -> None:
    call = client.call("UnimplementedCall", service)
    assert failure(lambda: call(message("Empty")(), timeout=PATIENCE))[0] is grpc.StatusCode.UNIMPLEMENTED


def test_pick_first_unary(client: InteropClient) -> None:
    call = client.call("UnaryCall")
    answers = {call(simple(1, 1, fill_server_id=True), timeout=PATIENCE).server_id for _ in range(100)}
    assert answers == {"one"}
