"""The feature gate `auto_config` in the real program: what the admin API changes is in the file, and after a restart."""

import json
import signal
from pathlib import Path

import pytest
from process_fixtures import Start
from pymosn_process import READY, TwoHops, Upstream

pytestmark = pytest.mark.once


def test_a_change_is_in_the_file_and_after_a_restart(
    start: Start, two_hops: TwoHops, upstream: Upstream, tmp_path: Path
) -> None:
    two_hops.config["cluster_manager"]["clusters"][1]["hosts"] = [{"address": "127.0.0.1:1"}]
    two_hops.server["processor"] = 1
    two_hops.config["note"] = {"of": "the operator"}
    proxy = start(two_hops.config, "-f", "auto_config=true")
    proxy.wait_for("admin API on")
    path = tmp_path / "conf" / "mosn.json"
    path.chmod(0o600)
    assert json.loads(two_hops.admin("/api/v1/features"))["auto_config"] is True
    hosts = [{"address": f"127.0.0.1:{upstream.port}"}]
    assert proxy.post("/api/v1/update_hosts", {"type": "set", "config": {"cluster": "server", "hosts": hosts}})[0] == 200
    proxy.wait_for("auto_config: .*mosn.json has the change")
    written = json.loads(path.read_text())
    assert written["cluster_manager"]["clusters"][1]["hosts"] == hosts
    assert written["note"] == {"of": "the operator"}
    assert written["servers"] == two_hops.config["servers"]
    assert path.stat().st_mode & 0o777 == 0o600
    proxy.send(signal.SIGINT)
    assert proxy.exit_code() == 0
    again = start(None, "-c", str(path))
    again.wait_for(READY)
    assert two_hops.get("/a")[0] == 200


def test_a_file_that_cannot_be_written_is_an_error_of_the_start(start: Start, two_hops: TwoHops, tmp_path: Path) -> None:
    folder = tmp_path / "tables"
    folder.mkdir()
    two_hops.config["cluster_manager"] = {"clusters_configs": str(folder)}
    for cluster in TwoHops(1).config["cluster_manager"]["clusters"]:
        (folder / f"{cluster['name']}.json").write_text(json.dumps(cluster))
    proxy = start(two_hops.config, "-f", "auto_config=true")
    assert proxy.exit_code() == 1
    assert "the key `clusters_configs`, whose items are in other files" in proxy.output
