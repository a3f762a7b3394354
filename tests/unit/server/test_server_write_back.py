"""The gate `auto_config`: what a change has touched replaces that in the file, and nothing else."""

import asyncio
import json
import os
import stat
from collections.abc import Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec.structs import replace
from tests.kit import Lines

from pymosn.config.load import load_text
from pymosn.config.schema import Cluster, Host, MosnConfig
from pymosn.config.schema.extensions import Extend
from pymosn.config.schema.tls import TlsContext
from pymosn.server import write_back
from pymosn.server.run_options import ConfigSource, RunOptions, StartError
from pymosn.server.write_back import WriteBack, WriteError, check_writable, write_changes

#: Keys in MOSN's other spelling, an unknown one, durations, a number that is a float, and text.
FILE: dict[str, Any] = {
    "unknown": {"b": 1, "a": [1.50, "ü"]},
    "servers": [{"graceful_timeout": "7s", "default_log_path": "stdout", "Listeners": []}],
    "cluster_manager": {
        "Clusters": [
            {"name": "one", "lb_type": "LB_RANDOM", "connect_timeout": "300ms", "hosts": [{"address": "127.0.0.1:1"}]},
            {"name": "two", "lb_type": "LB_ROUNDROBIN", "hosts": [{"address": "127.0.0.1:2"}], "note": "kept"},
        ]
    },
}


def load(path: Path) -> MosnConfig:
    loaded = load_text(path.read_text(), str(path), path.suffix == ".yaml", config_dir=str(path.parent))
    assert loaded.config is not None, loaded.errors
    return loaded.config


@pytest.fixture(params=["json", "yaml"])
def path(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / f"mosn.{request.param}"
    path.write_text(json.dumps(FILE) if request.param == "json" else yaml.safe_dump(FILE, sort_keys=False))
    path.chmod(0o640)
    return path


def with_clusters(config: MosnConfig, *clusters: Cluster) -> MosnConfig:
    return replace(config, cluster_manager=replace(config.cluster_manager, clusters=list(clusters)))


def content(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


def write(path: Path, before: MosnConfig, after: MosnConfig) -> bool:
    return write_changes(str(path), str(path.parent), before, after, {})


def test_only_the_changed_item_is_replaced(path: Path) -> None:
    config = load(path)
    one, two = config.cluster_manager.clusters
    new = replace(one, hosts=[Host(address="127.0.0.1:9", weight=3)])
    assert write(path, config, with_clusters(config, new, two))
    expected = json.loads(json.dumps(FILE))
    expected["cluster_manager"]["Clusters"][0]["hosts"] = [{"address": "127.0.0.1:9", "weight": 3}]
    assert content(path) == expected
    assert list(content(path)) == list(FILE)
    assert load(path) == with_clusters(config, new, two)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(path.parent) == [path.name]


def test_items_are_added_and_removed(path: Path) -> None:
    config = load(path)
    _, two = config.cluster_manager.clusters
    three = Cluster(name="three", lb_type="LB_RANDOM", hosts=[Host(address="127.0.0.1:3")])
    assert write(path, config, with_clusters(config, two, three))
    assert [each["name"] for each in content(path)["cluster_manager"]["Clusters"]] == ["two", "three"]
    assert content(path)["cluster_manager"]["Clusters"][0]["note"] == "kept"
    assert write(path, load(path), config)
    assert {cluster.name for cluster in load(path).cluster_manager.clusters} == {"one", "two"}


def test_extends_are_written_by_their_type(path: Path) -> None:
    python = [Extend(type="python", config={"path": f"{name}.py", "class": name}) for name in ("One", "Two")]
    path.write_text(
        json.dumps({**content(path), "Extends": [{"type": each.type, "config": each.config} for each in python]})
    )
    config = load(path)
    assert write(path, config, replace(config, extends=[*python, Extend(type="e", config=[{"k": 1.5}])]))
    assert [each["type"] for each in content(path)["Extends"]] == ["python", "python", "e"]
    config = load(path)
    changed = replace(config, extends=[*python, Extend(type="e", config={"k": 2})])
    assert write(path, config, changed)
    assert load(path) == changed
    assert write(path, changed, replace(config, extends=python))
    assert load(path).extends == python
    assert "extends" not in content(path)


def test_an_edit_by_hand_meanwhile_is_kept(path: Path) -> None:
    config = load(path)
    one, two = config.cluster_manager.clusters
    edited = json.loads(json.dumps(FILE))
    edited["servers"][0]["graceful_timeout"] = "9s"
    edited["cluster_manager"]["Clusters"][1]["lb_type"] = "LB_RANDOM"
    path.write_text(json.dumps(edited))
    assert write(path, config, with_clusters(config, replace(one, lb_type="LB_LEAST_REQUEST"), two))
    edited["cluster_manager"]["Clusters"][0]["lb_type"] = "LB_LEAST_REQUEST"
    found = content(path)
    assert found["servers"] == edited["servers"]
    assert [each["lb_type"] for each in found["cluster_manager"]["Clusters"]] == ["LB_LEAST_REQUEST", "LB_RANDOM"]


def test_nothing_to_write_leaves_the_file(path: Path) -> None:
    before = path.stat().st_ino
    assert not write(path, load(path), load(path))
    assert path.stat().st_ino == before


@pytest.mark.parametrize(("mode", "is_written"), [(0o600, True), (0o640, False), (0o604, False)])
def test_a_secret_is_written_only_for_the_owner(path: Path, mode: int, is_written: bool) -> None:
    path.chmod(mode)
    config, before = load(path), path.read_bytes()
    one, two = config.cluster_manager.clusters
    secret = replace(
        one, tls_context=TlsContext(status=True, private_key="-----BEGIN PRIVATE KEY-----\nabc", cert_chain="x")
    )
    if is_written:
        assert write(path, config, with_clusters(config, secret, two))
        assert "BEGIN PRIVATE KEY" in path.read_text()
        assert stat.S_IMODE(path.stat().st_mode) == mode
    else:
        with pytest.raises(
            WriteError, match=f"it adds a secret, and others may read the file .its mode is {mode:04o}; chmod 600"
        ):
            write(path, config, with_clusters(config, secret, two))
        assert path.read_bytes() == before


def test_what_is_in_the_file_and_paths_of_keys_are_no_new_secrets(path: Path) -> None:
    path.chmod(0o644)
    key = "-----BEGIN PRIVATE KEY-----\nabc"
    file = json.loads(json.dumps(FILE))
    file["cluster_manager"]["Clusters"][0]["tls_context"] = {"status": True, "private_key": key, "cert_chain": "x"}
    path.write_text(json.dumps(file))
    config = load(path)
    one, two = config.cluster_manager.clusters
    changed = replace(one, hosts=[Host(address="127.0.0.1:9")])
    assert write(path, config, with_clusters(config, changed, two))
    named = replace(two, tls_context=TlsContext(status=True, private_key="/keys/a.pem", cert_chain="x"))
    assert write(path, load(path), with_clusters(config, changed, named))
    other = replace(two, tls_context=TlsContext(status=True, private_key=key + "d", cert_chain="x"))
    with pytest.raises(WriteError, match="it adds a secret"):
        write(path, load(path), with_clusters(config, changed, other))


def test_a_change_of_something_else_is_not_written(path: Path) -> None:
    config, before = load(path), path.read_bytes()
    with pytest.raises(WriteError, match="more than listeners, routers, clusters and `extends` has changed"):
        write(path, config, replace(config, uds_dir="/elsewhere"))
    assert path.read_bytes() == before


def test_a_file_that_is_invalid_now_stays(path: Path) -> None:
    config = load(path)
    path.write_text("{")
    with pytest.raises(WriteError, match="is invalid now"):
        write(path, config, with_clusters(config))
    assert path.read_text() == "{"


def test_what_would_not_be_read_as_it_is_active_is_not_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, before = load(path), path.read_bytes()
    monkeypatch.setattr(write_back, "whole", lambda block: {"name": block.name})
    one, two = config.cluster_manager.clusters
    with pytest.raises(WriteError, match="'one' would not be read as it is active"):
        write(path, config, with_clusters(config, replace(one, hosts=[Host(address="127.0.0.1:9")]), two))
    assert path.read_bytes() == before


def test_a_failure_while_it_is_replaced_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    config, before = load(path), path.read_bytes()
    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(WriteError, match="No space left on device"):
        write(path, config, with_clusters(config, config.cluster_manager.clusters[0]))
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_the_owner_is_kept(path: Path) -> None:
    os.chown(path, 12345, 54321)
    config = load(path)
    assert write(path, config, with_clusters(config, config.cluster_manager.clusters[0]))
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 54321)


def test_what_cannot_be_written_is_known_at_the_start(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_writable(str(path))
    assert os.listdir(path.parent) == [path.name]
    with pytest.raises(WriteError, match="the built-in example"):
        check_writable("")
    with pytest.raises(WriteError, match="cannot be read: No such file"):
        check_writable(str(path.parent / "absent"))
    path.write_text(json.dumps({**FILE, "cluster_manager": {"Clusters_Configs": "folder"}}))
    with pytest.raises(WriteError, match="the key `clusters_configs`, whose items are in other files"):
        check_writable(str(path))
    path.write_text(json.dumps(FILE))
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(WriteError, match="it belongs to uid"):
        check_writable(str(path))


class Changes:
    """What the service needs of the changes."""

    def __init__(self, config: MosnConfig) -> None:
        self.own = self.config = self.file_config = config

    @asynccontextmanager
    async def paused(self) -> Any:
        yield


def service(path: Path, changes: Changes, log: Lines) -> tuple[WriteBack, list[Coroutine[Any, Any, object]]]:
    begun: list[Coroutine[Any, Any, object]] = []
    options = RunOptions(
        source=ConfigSource(str(path)), config=changes.own, config_dir=str(path.parent), base_dir=str(path.parent)
    )
    begin: Callable[[Coroutine[Any, Any, object]], None] = begun.append
    return WriteBack(options, changes, dict, begin, log), begun  # type: ignore[arg-type]


def test_the_service_writes_after_a_change_and_warns_if_it_cannot(path: Path) -> None:
    log, changes = Lines(), Changes(load(path))
    started, begun = service(path, changes, log)
    first, second = changes.own.cluster_manager.clusters

    async def scenario() -> None:
        await started.start()
        started.follow(changes.own)
        await begun.pop()
        assert log.lines == []
        changes.own = with_clusters(changes.own, first)
        started.follow(changes.own)
        started.follow(changes.own)
        await begun.pop()
        assert begun == []
        assert changes.file_config is changes.own
        path.write_text("{")
        changes.own = with_clusters(changes.own, second)
        started.follow(changes.own)
        await begun.pop()
        await started.stop()
        started.follow(changes.own)
        assert begun == []

    asyncio.run(scenario())
    assert f"auto_config: {path} has the change" in log.lines[0]
    assert f"auto_config: {path}: the change is active, but not written: is invalid now" in log.lines[1]


def test_a_start_without_a_file_that_can_be_written_fails(path: Path) -> None:
    started, _ = service(path.parent / "absent", Changes(load(path)), Lines())
    with pytest.raises(StartError) as caught:
        asyncio.run(started.start())
    assert "absent: cannot be read: No such file" in caught.value.lines[0]
