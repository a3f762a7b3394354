"""The command `envoy`: Envoy's flags, and a bootstrap as the source of the configuration."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pymosn.cli import main
from pymosn.control.envoy.bootstrap_file import Flags
from pymosn.server.envoy_source import OVERLAY, EnvoySource, discard_folder, own_folder

#: What Istio's agent passes.
AGENT = [
    *("--drain-time-s", "45", "--drain-strategy", "immediate", "--local-address-ip-version", "v4"),
    *("--file-flush-interval-msec", "1000", "--disable-hot-restart", "--allow-unknown-static-fields"),
    *("-l", "warning", "--skip-deprecated-logs", "--concurrency", "2"),
]
PIPE = {"pipe": {"path": "./XDS"}}


def bootstrap(**changes: Any) -> dict[str, Any]:
    assignment = {"cluster_name": "xds-grpc", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": PIPE}}]}]}
    cluster = {"name": "xds-grpc", "type": "STATIC", "connect_timeout": "1s", "load_assignment": assignment}
    ads = {
        "api_type": "DELTA_GRPC",
        "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
    }
    return {
        "node": {"id": "sidecar~127.0.0.1~a.b~c", "cluster": "a"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 15000}}},
        "dynamic_resources": {"ads_config": ads, "cds_config": {"ads": {}}, "lds_config": {"ads": {}}},
        "static_resources": {"clusters": [cluster]},
        **changes,
    }


def write(folder: Path, value: Any, name: str = "envoy.json") -> str:
    path = folder / name
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return str(path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["envoy", *arguments])


def test_what_the_agent_passes_is_accepted_without_a_word(tmp_path: Path) -> None:
    result = run("-c", write(tmp_path, bootstrap()), "--mode", "validate", *AGENT)
    assert (result.exit_code, result.output) == (0, f"configuration '{tmp_path}/envoy.json' OK\n")


def test_a_bootstrap_in_yaml_and_one_without_a_file(tmp_path: Path) -> None:
    import yaml

    text = yaml.safe_dump(bootstrap())
    assert run("--config-path", write(tmp_path, text, "e.yaml"), "--mode", "validate").exit_code == 0
    assert run("--config-yaml", text, "--mode", "validate").output == "configuration '--config-yaml' OK\n"
    path = write(tmp_path, bootstrap(node={}))
    assert run("-c", path, "--config-yaml", "node: {id: b}", "--mode", "validate").exit_code == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("{", "envoy.json:1:"),
        ('{"node": {}, "node": {}}', 'duplicate key "node"'),
        (bootstrap(hds_config={}), "error: hds_config: not supported"),
        (bootstrap(dynamic_resources={}), "dynamic_resources.ads_config: missing"),
        (bootstrap(static_resources={"clusters": []}), "'xds-grpc' is not among static_resources.clusters"),
        (bootstrap(static_resources={"clusters": [{"newer": 1}]}), "newer"),
        (bootstrap(admin={"address": {"socket_address": {"port_value": "x"}}}), "admin.address.socket_address.port_value"),
    ],
)
def test_an_invalid_bootstrap_has_its_place(tmp_path: Path, value: Any, text: str) -> None:
    result = run("-c", write(tmp_path, value), "--mode", "validate")
    assert result.exit_code == 1
    assert text in result.output.replace("\n", "")
    assert "OK" not in result.output


def test_flags(tmp_path: Path) -> None:
    path = write(tmp_path, bootstrap())
    for arguments, text in (
        (["-c", path, "--unknown-flag"], "No such option"),
        ([], "at least one of --config-path and --config-yaml"),
        (["-c", path, "--concurrency", "many"], "--concurrency"),
        (["-c", path, "--mode", "init_only"], "--mode"),
        (["-c", path, "--bootstrap-version", "2"], "--bootstrap-version"),
        (["-c", path, "-l", "loud"], "-l"),
    ):
        result = run(*arguments)
        assert (result.exit_code, text in result.output) == (2, True), result.output
    missing = run("-c", str(tmp_path / "no.json"), "--mode", "validate")
    assert (missing.exit_code, "cannot be read" in missing.output) == (1, True)
    tuned = run("-c", path, "--mode", "validate", "--component-log-level", "http:debug", "--drain-strategy", "gradual")
    assert "--component-log-level has no effect" in tuned.output
    assert "--drain-strategy gradual has no effect" in tuned.output
    assert tuned.exit_code == 0
    assert run("--version").output.startswith("pymosn-envoy  version: ")


def test_the_source_has_the_files_of_the_process_in_its_folder(tmp_path: Path) -> None:
    path = write(tmp_path, bootstrap())
    loaded = EnvoySource(path=path, folder=str(tmp_path)).load()
    assert loaded.config is not None
    assert loaded.config.admin is not None
    assert loaded.admin_socket == f"{tmp_path}/envoy.admin.sock"
    assert (loaded.config.pid, loaded.config.xds_cache) == (f"{tmp_path}/envoy.pid", f"{tmp_path}/envoy.xds_cache")
    assert loaded.base_dir == str(tmp_path)
    assert loaded.config.uses_xds()
    assert loaded.config.servers[0].listeners == []
    second = EnvoySource(path=path, folder=str(tmp_path), flags=Flags(base_id=2)).load()
    assert second.admin_socket == f"{tmp_path}/envoy.2.admin.sock"


def test_a_read_only_folder_is_replaced_by_a_temporary_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert own_folder(str(tmp_path / "a.json")) == str(tmp_path)
    assert own_folder(None) == os.getcwd()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    folder = own_folder(str(tmp_path / "a.json"))
    assert os.stat(folder).st_mode & 0o777 == 0o700
    EnvoySource(path="a.json", folder=folder).discard()  # when another process has taken over, which has a folder of its own
    assert not os.path.exists(folder)
    EnvoySource(path="a.json", folder=str(tmp_path)).discard()
    assert tmp_path.exists()
    os.mkdir(folder)
    discard_folder(folder)
    assert not os.path.exists(folder)
    discard_folder(str(tmp_path))
    assert tmp_path.exists()


def test_only_an_overlay_is_named(tmp_path: Path) -> None:
    loaded = EnvoySource(path=OVERLAY, overlay=json.dumps(bootstrap()), folder=str(tmp_path)).load()
    assert loaded.config is not None
    assert loaded.admin_socket == f"{tmp_path}/config-yaml.admin.sock"
