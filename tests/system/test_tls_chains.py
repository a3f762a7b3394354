"""Several filter chains and TLS contexts per listener, on the real program over real sockets."""

import subprocess
from pathlib import Path

import pytest
from process_fixtures import Start
from pymosn_process import READY, Upstream, free_ports
from tests.kit.certificates import ca, server
from tls_peers import config_of, context_for, listener_of, plain_answer, proxy_filter, table_of

pytestmark = pytest.mark.once


def test_curl_over_tls(start: Start, upstream: Upstream, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    chain = {"tls_context": context_for(server()), "filters": [proxy_filter("r")]}
    config = config_of([listener_of("l", port, [chain])], [table_of("r", cluster="c")], {"c": f"127.0.0.1:{upstream.port}"})
    proxy = start(config)
    proxy.wait_for(READY)
    (tmp_path / "ca.pem").write_bytes(ca().certificate)
    url = f"https://localhost:{port}/x"
    command = ["curl", "-sS", "--fail", "--max-time", "30", "--cacert", str(tmp_path / "ca.pem"), url]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.stdout == "hello from upstream, /x\n", (made.stderr, proxy.output)
    assert plain_answer(port)[0] == 400
