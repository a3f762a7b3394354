"""grpc-go's interoperability tests: its client and server with pymosn between them, over one hop and two.

Each case runs 100 times, or as often as PYMOSN_INTEROP_TIMES says; soak tests run once.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator

import pytest
from tests.system.interop_service import InteropServer

from interop.programs import GrpcGoServer, Http2Hops, hops_to, program, run

TIMES = int(os.environ.get("PYMOSN_INTEROP_TIMES", "100"))
CASES = (
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "cancel_after_begin",
    "cancel_after_first_response",
    "timeout_on_sleeping_server",
    "status_code_and_message",
    "special_status_message",
    "custom_metadata",
    "unimplemented_method",
    "unimplemented_service",
    "orca_per_rpc",
    "orca_oob",
)
SOAKS = ("rpc_soak", "channel_soak")
#: The cases of ORCA read their reports in a balancer of the client.
BALANCER = "--service_config_json=" + json.dumps({"loadBalancingConfig": [{"test_backend_metrics_load_balancer": {}}]})
#: Those that show which host answers, or wait for seconds, say nothing of hosts that change.
WITH_CHANGES = [case for case in CASES if not case.startswith("orca")]

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def servers() -> Iterator[list[GrpcGoServer]]:
    found = program("interop_server")
    made = [GrpcGoServer(found) for _ in range(3)]
    yield made
    for server in made:
        server.close()


@pytest.fixture(scope="module")
def hops(servers: list[GrpcGoServer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Http2Hops]:
    with hops_to(tmp_path_factory.mktemp("hops"), [servers[0].address]) as made:
        yield made


def case_through(port: int, case: str, *options: str) -> None:
    """Runs a case of grpc-go's client once; it must succeed."""
    command = [program("interop_client"), "-server_host", "127.0.0.1", "-server_port", str(port), "-test_case", case]
    ran = run([*command, *options])
    assert ran.returncode == 0, ran.stdout[-2000:]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("hop", ["one", "two"])
def test_case(hops: Http2Hops, hop: str, case: str) -> None:
    for _ in range(TIMES):
        case_through(getattr(hops, hop), case, BALANCER)


@pytest.mark.parametrize("case", SOAKS)
@pytest.mark.parametrize("hop", ["one", "two"])
def test_soak(hops: Http2Hops, hop: str, case: str) -> None:
    case_through(getattr(hops, hop), case, "-soak_iterations", "1000", "-soak_overall_timeout_seconds", "120")


@pytest.mark.parametrize("hop", ["one", "two"])
def test_pick_first_unary(hop: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """With the server of this repository: grpc-go's own names none, and fails this case without a proxy too."""
    program("interop_client")
    server = InteropServer()
    try:
        with hops_to(tmp_path_factory.mktemp("hops"), [server.address]) as hops:
            for _ in range(TIMES):
                case_through(getattr(hops, hop), "pick_first_unary")
    finally:
        server.close()


@pytest.mark.parametrize("case", ["large_unary", "ping_pong", "custom_metadata", "special_status_message"])
def test_case_over_tls(hops: Http2Hops, case: str) -> None:
    options = ["-use_tls", "-ca_file", str(hops.files.ca), "-use_test_ca", "-server_host_override", "server.test"]
    for _ in range(TIMES):
        case_through(hops.tls, case, *options)


@pytest.mark.parametrize("hop", ["one", "two"])
def test_hosts_come_and_go(servers: list[GrpcGoServer], hop: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Two of three hosts are removed and added all the time: no call notices, because none is cut."""
    client = program("interop_client")
    first, *others = [server.address for server in servers]
    changes = 0
    over = threading.Event()

    def change(hops: Http2Hops) -> None:
        nonlocal changes
        while not over.is_set():
            hops.hosts("remove", [others[changes % 2]])
            over.wait(0.05)
            hops.hosts("add", [others[changes % 2]])
            over.wait(0.02)
            changes += 1

    with hops_to(tmp_path_factory.mktemp("hops"), [first, *others]) as hops:
        thread = threading.Thread(target=change, args=(hops,))
        thread.start()
        try:
            for _ in range(TIMES):
                for case in WITH_CHANGES:
                    case_through(getattr(hops, hop), case)
        finally:
            over.set()
            thread.join()
    assert client
    assert changes > TIMES // 10
