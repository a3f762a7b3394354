"""The descriptor set of `grpc_json_transcoder` as a file: a part of the configuration, like the code of filters."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from pymosn.assembly.filters import FilterBuilder, check_filters, filter_files
from pymosn.config.check.paths import Folders, Reserved, check_paths, named_paths
from pymosn.config.load import Loaded, load_text
from pymosn.config.schema import MosnConfig
from pymosn.core.counters import Metrics
from pymosn.core.log import Log
from pymosn.filters.modules import ModuleStore
from pymosn.filters.sources import read_sources

CONFIG = """
servers:
- listeners:
  - name: l
    address: 127.0.0.1:1
    bind_port: true
    stream_filters:
    - {{type: grpc_json_transcoder, config: {{{keys}, services: [shop.Shop], auto_mapping: true}}}}
    filter_chains: [{{}}]
"""


def descriptors(method: str = "Get") -> bytes:
    files = descriptor_pb2.FileDescriptorSet()
    file = files.file.add(name="shop.proto", package="shop", syntax="proto3")
    file.message_type.add(name="Book")
    file.service.add(name="Shop").method.add(name=method, input_type=".shop.Book", output_type=".shop.Book")
    content: bytes = files.SerializeToString()
    return content


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.pb").write_bytes(descriptors())
    (tmp_path / "other.py").write_text("raise ValueError\n")
    return tmp_path


def load(folder: Path, keys: str = "proto_descriptor: shop.pb") -> Loaded:
    return load_text(CONFIG.format(keys=keys), "c.yaml", yaml=True, config_dir=str(folder))


def config_of(loaded: Loaded) -> MosnConfig:
    assert loaded.config is not None, loaded.faults
    return loaded.config


def faults(folder: Path, loaded: Loaded) -> list[str]:
    return [f"{fault.path}: {fault.message}" for fault in check_filters(config_of(loaded).servers[0].listeners, str(folder))]


def built(folder: Path, store: ModuleStore, before: FilterBuilder | None = None) -> FilterBuilder:
    listener = config_of(load(folder)).servers[0].listeners[0]
    files = filter_files([listener], str(folder))
    assert list(files) == ["servers[0].listeners[0].stream_filters[0].config.proto_descriptor"]
    modules = store.draft(read_sources(files.values()).folders)
    made = FilterBuilder(str(folder), Metrics(), Log(), {}, {} if before is None else before.built, modules)
    made.chain(listener, "servers[0].listeners[0]")
    assert made.faults == []
    modules.commit()
    return made


def test_a_file_and_its_content_are_the_same(folder: Path) -> None:
    assert faults(folder, load(folder)) == []
    content = base64.b64encode(descriptors()).decode()
    assert faults(folder, load(folder, f"proto_descriptor_bin: {content}")) == []


def test_only_the_file_itself_is_read(folder: Path) -> None:
    assert read_sources([folder / "shop.pb"]).folders == {str(folder): {"shop.pb": descriptors()}}


def test_another_content_is_another_filter(folder: Path) -> None:
    store = ModuleStore()
    first = built(folder, store)
    assert len(first.new()) == 1
    second = built(folder, store, first)
    assert second.new() == []
    (folder / "shop.pb").write_bytes(descriptors("Put"))
    assert len(built(folder, store, second).new()) == 1


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "shop.pb cannot be read: No such file or directory"),
        (b"", "the descriptor set is missing: the file is empty"),
        (b"\xff", "not a FileDescriptorSet"),
    ],
)
def test_files_that_cannot_be_used(folder: Path, content: bytes | None, text: str) -> None:
    (folder / "shop.pb").unlink()
    if content is not None:
        (folder / "shop.pb").write_bytes(content)
    (fault,) = faults(folder, load(folder))
    assert fault.startswith("servers[0].listeners[0].stream_filters[0]")
    assert text in fault


def test_changes_may_only_name_files_in_allowed_folders(folder: Path) -> None:
    before = config_of(load(folder, "proto_descriptor_bin: AAAA"))
    folders = Folders(str(folder), str(folder))
    after = config_of(load(folder))
    assert [(path.role, path.real) for path in named_paths(after, folders)][:1] == [
        ("file of a filter", str(folder / "shop.pb"))
    ]
    assert check_paths(before, after, folders, Reserved()) == []
    (fault,) = check_paths(before, config_of(load(folder, "proto_descriptor: /etc/shadow")), folders, Reserved())
    assert fault.path == "servers[0].listeners[0].stream_filters[0].config.proto_descriptor"
    assert "is outside the folders that a change may name" in fault.message
