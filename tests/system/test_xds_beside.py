"""Public complaints about xDS clients, row 32: other packages that carry the same descriptors."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from process_fixtures import PYTHON_PATH, Start
from pymosn_process import READY, eventually, free_ports, get
from tests.kit.xds_server import XdsServer
from tls_peers import config_of, listener_of, proxy_filter, table_of
from xds_peers import dynamic, eds, hosts, view

pytestmark = pytest.mark.once

#: Loads all modules of a distribution that have descriptors, before or after all those that pymosn may load.
LOAD = """
import importlib, importlib.metadata, sys

def theirs():
    found = []
    for file in importlib.metadata.files(sys.argv[1]) or ():
        if file.suffix == ".py" and ".." not in file.parts and (file.name.endswith("_pb2.py") or len(file.parts) == 2):
            parts = file.with_suffix("").parts
            found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    assert found, "no modules"
    for name in found:
        importlib.import_module(name)

def ours():
    import pymosn.control.xds.bootstrap, pymosn.control.xds.node, pymosn.control.xds.service, pymosn.control.xds.wire
    import envoy.config.bootstrap.v3.bootstrap_pb2, envoy.service.discovery.v3.ads_pb2
    from pymosn.control.xds.convert.messages import MODULES
    for name in set(MODULES.values()):
        importlib.import_module(name)

for load in {"alone": [theirs], "before": [theirs, ours], "after": [ours, theirs]}[sys.argv[2]]:
    load()
"""

#: A filter with a file of descriptors of its own, whose name is one of Envoy's, but not the content.
FILTER = """
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from pymosn.api import Reply, StreamFilter

file = descriptor_pb2.FileDescriptorProto(name="envoy/config/core/v3/address.proto", package="envoy.config.core.v3")
file.message_type.add(name="Mine").field.add(name="text", number=1, type=9, label=1)
descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
found = descriptor_pool.Default().FindMessageTypeByName("envoy.config.core.v3.Mine")
Mine = message_factory.GetMessageClass(found)


class Answers(StreamFilter):
    def on_request(self, exchange):
        return Reply(200, Mine.FromString(Mine(text="of my own").SerializeToString()).text)
"""


def load(name: str, order: str) -> str:
    """Loads a distribution in a process of its own; returns the error."""
    command = [sys.executable, "-c", LOAD, name, order]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.stderr or done.returncode == 0
    return done.stderr if done.returncode else ""


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("name", ["googleapis-common-protos", "opentelemetry-proto", "envoy-data-plane"])
def test_row_32_another_package_is_loaded_beside_pymosns_client(name: str, order: str) -> None:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{name} is not installed")
    if load(name, "alone"):
        pytest.skip(f"{name} does not load even by itself: another package has overwritten its files")
    assert load(name, order) == ""


def test_row_32_a_filter_with_its_own_envoy_protos_runs_beside_a_control_plane(start: Start, tmp_path: Path) -> None:
    """Workers load no descriptors, so that those of filters are the only ones."""
    installed = tmp_path / "installed"
    info = installed / "acme_protos-1.0.dist-info"
    info.mkdir(parents=True)
    (installed / "acme_protos.py").write_text(FILTER)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-protos\nVersion: 1.0\n")
    (info / "top_level.txt").write_text("acme_protos\n")
    admin, port = free_ports(2)
    with XdsServer() as control:
        control.set(eds("c"), hosts("c", 1))
        filters: list[dict[str, Any]] = [{"type": "acme_protos:Answers", "config": {}}]
        file = config_of(
            [listener_of("l", port, [{"filters": [proxy_filter("t")]}], stream_filters=filters)], [table_of("t", "x")]
        )
        proxy = start({**dynamic(control, admin), **file}, PYTHONPATH=f"{installed}:{PYTHON_PATH}")
        proxy.wait_for(READY)
        assert eventually(lambda: "c" in view(admin)["types"]["cds"]["resources"])
        assert get(port, "/") == (200, "of my own")
