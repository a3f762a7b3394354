"""Resources in files: their formats, replacing them, and what is wrong with them."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.service.discovery.v3 import discovery_pb2
from tests.kit.xds_server import packed

from pymosn.control.xds.files import FileSource, parse
from pymosn.control.xds.types import CLUSTER, Rejected, Update
from pymosn.control.xds.wire import InvalidMessage
from pymosn.core.log import Log

A = {"@type": CLUSTER, "name": "a", "connect_timeout": "1.5s"}


class Store:
    def __init__(self) -> None:
        self.updates: list[Update] = []
        self.raises = False

    async def accept(self, update: Update) -> Rejected:
        if self.raises:
            raise RuntimeError("broken")
        self.updates.append(update)
        return {}

    def names(self) -> list[str]:
        return [one.name for one in self.updates[-1].resources] if self.updates else []


@pytest.mark.parametrize("suffix", [".json", ".yaml", ".pb"])
def test_formats(suffix: str) -> None:
    if suffix == ".pb":
        response = discovery_pb2.DiscoveryResponse(version_info="7", resources=[packed(cluster_pb2.Cluster(name="a"))])
        data = response.SerializeToString()
    else:
        data = json.dumps({"version_info": "7", "resources": [A]}).encode()
    found = parse(f"/x/f{suffix}", data, CLUSTER, "1")
    assert (found.version, [(one.name, one.fault) for one in found.entries]) == ("7", [("a", "")])


def test_faults_of_one_resource_are_its_own() -> None:
    wrong = [
        {"@type": CLUSTER, "name": "b", "no_such_field": 1},
        {"@type": "type.googleapis.com/no.Such", "name": "c"},
        {"@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration", "name": "d"},
        {"name": "e"},
        5,
    ]
    found = parse("/x/f.json", json.dumps({"resources": [A, *wrong]}).encode(), CLUSTER, "1")
    assert [(one.name, bool(one.fault)) for one in found.entries] == [
        ("a", False), ("b", True), ("c", True), ("d", True), ("e", True), ("", True)
    ]  # fmt: skip
    assert "no_such_field" in found.entries[1].fault
    assert found.entries[2].fault == "unknown type no.Such"


@pytest.mark.parametrize(("name", "data"), [("f.json", b"{"), ("f.yaml", b"a: [b"), ("f.json", b"[]"), ("f.pb", b"\xff")])
def test_files_that_are_no_response(name: str, data: bytes) -> None:
    with pytest.raises(InvalidMessage):
        parse(f"/x/{name}", data, CLUSTER, "1")


async def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


def replace(path: Path, document: object) -> None:
    new = path.with_suffix(".new")
    new.write_text(document if isinstance(document, str) else json.dumps(document))
    os.replace(new, path)


def test_a_file_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "cds.json"

    async def scenario() -> None:
        store = Store()
        source = FileSource(str(path), CLUSTER, store, Log(), interval=0.01)
        source.want({"*": 15.0})
        source.start()
        await until(lambda: source.error == "No such file or directory")
        replace(path, {"resources": [A]})
        await until(lambda: store.names() == ["a"])
        assert source.error == ""
        replace(path, "{")
        await until(lambda: "invalid JSON" in source.error)
        store.raises = True
        replace(path, {"resources": [{**A, "name": "b"}]})
        await until(lambda: "internal error: RuntimeError: broken" in source.error)
        store.raises = False
        replace(path, {"resources": [{**A, "name": "c"}]})
        await until(lambda: store.names() == ["c"])
        assert store.updates[-1].is_full
        assert store.updates[-1].removed == ("a",)
        assert source.status().held == 1
        await source.stop()

    asyncio.run(scenario())
