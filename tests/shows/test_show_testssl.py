"""Issue 14: testssl.sh finds nothing above LOW in a listener with default settings."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from process_fixtures import Start
from pymosn_process import READY, free_ports
from showing import tell
from tests.kit.certificates import server
from tls_peers import config_of, context_for, listener_of, proxy_filter, table_of

#: Whether the protocols, ciphers, key exchange and vulnerabilities that it looks at are fine; `OK` and `INFO` say so.
FINE = {"OK", "INFO", "LOW"}
#: What a scan without the network and with a private CA cannot judge.
CHECKS = ("--protocols", "--std", "--fs", "--server-preference", "--vulnerable")


@pytest.mark.show
@pytest.mark.timeout(900)
def test_testssl(start: Start, tmp_path: Path) -> None:
    program = shutil.which("testssl") or shutil.which("testssl.sh")
    if program is None:
        reason = "testssl is not installed (Debian: testssl.sh)"
        tell("testssl", skipped=reason)
        pytest.skip(reason)
    (port,) = free_ports(1)
    chain = {"tls_context": context_for(server()), "filters": [proxy_filter("r")]}
    start(config_of([listener_of("l", port, [chain])], [table_of("r", "hello")])).wait_for(READY)
    report = tmp_path / "report.json"
    command = [program, "--quiet", "--color", "0", "--ip", "one", "--warnings", "batch", "--jsonfile", str(report), *CHECKS]
    ran = subprocess.run([*command, f"127.0.0.1:{port}"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert report.exists(), ran.stdout[-2000:] + ran.stderr[-2000:]
    found = json.loads(report.read_text())
    ids = {entry["id"] for entry in found}
    assert {"TLS1", "TLS1_2", "TLS1_3", "heartbleed", "ROBOT", "secure_renego", "BEAST", "LUCKY13"} <= ids, (
        "it came to an end"
    )
    wrong = [(entry["id"], entry["severity"], entry["finding"]) for entry in found if entry["severity"] not in FINE]
    low = [entry["id"] for entry in found if entry["severity"] == "LOW"]
    tell("testssl", checks=len(found), low=", ".join(low) or "none", above_low=len(wrong))
    assert not wrong
