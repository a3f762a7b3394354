"""The active configuration, for a successor that keeps it."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from pymosn.config.default import DEFAULT_CONFIG
from pymosn.config.diagnostics import Place
from pymosn.config.load import Loaded, load_file
from pymosn.config.schema import MosnConfig
from pymosn.server.run_options import ConfigSource
from pymosn.server.upgrade.kept_config import export_config, load_kept


@pytest.fixture
def path(tmp_path: Path) -> str:
    (tmp_path / "conf").mkdir()
    file = tmp_path / "conf" / "pymosn.json"
    file.write_text(DEFAULT_CONFIG)
    return str(file)


def loaded_from(path: str) -> tuple[Loaded, MosnConfig]:
    loaded = load_file(path)
    assert loaded.config is not None
    return loaded, loaded.config


def test_it_is_the_same_with_all_positions_whatever_the_file_has_become(path: str) -> None:
    before, config = loaded_from(path)
    content = export_config(config, before.places, {path})
    Path(path).write_text("not a configuration any more")
    after, files = load_kept(ConfigSource(path), content)
    assert after.config == config
    assert after.places == before.places
    assert (after.base_dir, after.config_dir, after.admin_socket) == (
        before.base_dir,
        before.config_dir,
        before.admin_socket,
    )
    assert files == {path}


def test_it_has_the_changes_of_the_admin_api_which_have_no_position(path: str) -> None:
    _, config = loaded_from(path)
    clusters = config.cluster_manager.clusters
    changed = replace(
        config,
        cluster_manager=replace(config.cluster_manager, clusters=[replace(clusters[0], lb_type="LB_RANDOM"), *clusters[1:]]),
    )
    after, _ = load_kept(ConfigSource(path), export_config(changed, {}, {path}))
    assert after.config == changed
    assert after.places == {}


def test_every_example_survives() -> None:
    """What is decoded is what was encoded, for all keys that examples use."""
    for file in sorted(Path("examples").rglob("*.json")) + sorted(Path("examples").rglob("*.yaml")):
        before = load_file(str(file))
        if before.config is not None:
            after, _ = load_kept(ConfigSource(str(file)), export_config(before.config, before.places, ()))
            assert after.config == before.config, file


def altered(content: bytes, **keys: Any) -> bytes:
    """The content with other keys in the configuration."""
    outer = msgspec.msgpack.decode(content)
    return msgspec.msgpack.encode(
        {**outer, "config": msgspec.msgpack.encode({**msgspec.msgpack.decode(outer["config"]), **keys})}
    )


def test_keys_of_a_later_version_are_refused_because_they_could_guard_something(path: str) -> None:
    loaded, config = loaded_from(path)
    content = altered(export_config(config, loaded.places, ()), later="value of a secret")
    after, files = load_kept(ConfigSource(path), content)
    assert after.config is None
    (fault,) = after.errors
    assert fault.file == path
    assert "it has keys that this version does not know; upgrade without --keep-config" in fault.message
    assert "secret" not in fault.text()
    assert files == frozenset()


def test_later_keys_around_it_are_ignored(path: str) -> None:
    loaded, config = loaded_from(path)
    outer = msgspec.msgpack.decode(export_config(config, loaded.places, ()))
    after, _ = load_kept(ConfigSource(path), msgspec.msgpack.encode({**outer, "later": 1}))
    assert after.config == config


@pytest.mark.parametrize("content", [None, b"", b"\xc1", msgspec.msgpack.encode({"config": b"\x01"})])
def test_unusable_content_is_an_error(path: str, content: bytes | None) -> None:
    after, _ = load_kept(ConfigSource(path), content)
    assert after.config is None
    assert "cannot be used by the new process" in after.errors[0].message


def test_a_position_without_a_file_is_an_error(path: str) -> None:
    _, config = loaded_from(path)
    outer = msgspec.msgpack.decode(export_config(config, {"servers": Place(path, 1, 1)}, ()))
    after, _ = load_kept(ConfigSource(path), msgspec.msgpack.encode({**outer, "files": []}))
    assert after.config is None


def test_what_this_version_does_not_accept_is_an_error_with_its_position(path: str) -> None:
    before, config = loaded_from(path)
    server = config.servers[0]
    listeners = [replace(server.listeners[0], address="127.0.0.1:99999"), *server.listeners[1:]]
    bad = replace(config, servers=[replace(server, listeners=listeners)])
    after, _ = load_kept(ConfigSource(path), export_config(bad, before.places, ()))
    assert after.config is None
    (fault,) = after.errors
    assert (fault.file, fault.path) == (path, "servers[0].listeners[0].address")
    assert fault.line > 1
