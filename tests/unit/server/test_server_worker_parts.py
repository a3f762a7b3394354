"""The configuration that a worker has follows the commands as they are received."""

from typing import Any

import msgspec
import pytest

from pymosn.assembly.packed_change import change_of, encode_change
from pymosn.assembly.packed_config import PackedConfig, encode
from pymosn.assembly.packer import pack
from pymosn.assembly.steps import run_whole
from pymosn.config.schema import MosnConfig
from pymosn.server.worker_parts import MIN_UNUSED, WorkerParts


def packed(count: int, weight: int = 1, **hosts: list[str]) -> PackedConfig:
    """`count` clusters, with that weight of their only host, and the hosts of some of them."""
    clusters: list[dict[str, Any]] = []
    for i in range(count):
        addresses = hosts.get(f"c{i}", [f"10.0.0.{i}:80"])
        clusters.append(
            {"name": f"c{i}", "max_request_per_conn": weight, "hosts": [{"address": address} for address in addresses]}
        )
    return pack(msgspec.convert({"servers": [{}], "cluster_manager": {"clusters": clusters}}, MosnConfig))


class Supervisor:
    """Sends a worker what differs from the last configuration."""

    def __init__(self, first: PackedConfig) -> None:
        self.parts = WorkerParts()
        self.active = first
        for digest, content in first.parts.items():
            self.parts.receive(digest, content)
        assert self.parts.configure(encode(first)) == first
        self.change = 0

    def check(self, after: PackedConfig) -> PackedConfig:
        self.change += 1
        change = change_of(self.active, after)
        for digest in change.digests():
            if digest not in self.active.parts:
                self.parts.receive(digest, after.parts[digest])
        return self.parts.check(self.change, encode_change(change))

    def activate(self, after: PackedConfig) -> None:
        self.parts.activate(self.change)
        self.active = after


def needed(packed: PackedConfig) -> dict[bytes, bytes]:
    return {digest: packed.parts[digest] for digest in packed.kept_digests()}


def test_a_checked_configuration_is_the_next_one_only_if_it_is_activated() -> None:
    supervisor = Supervisor(packed(3))
    assert needed(supervisor.check(packed(4))) == needed(packed(4))
    # Abandoned.
    found = supervisor.check(packed(5))
    assert list(found.clusters) == [f"c{i}" for i in range(5)]
    supervisor.activate(packed(5))
    assert list(supervisor.check(packed(6)).clusters) == [f"c{i}" for i in range(6)]


def test_hosts_that_were_set_belong_to_the_base_of_the_next_change() -> None:
    supervisor = Supervisor(packed(3))
    after = packed(3, c1=["10.9.9.9:80"])
    [(name, cluster)] = change_of(supervisor.active, after).clusters.items()
    for digest in cluster.hosts:
        supervisor.parts.receive(digest, after.parts[digest])
    parts = supervisor.parts.set_hosts(name, cluster)
    assert all(digest in parts for digest in (cluster.head, *cluster.hosts))
    supervisor.active = after
    assert supervisor.check(packed(4, c1=["10.9.9.9:80"])).clusters["c1"] == cluster


def test_parts_that_are_not_used_are_dropped_when_there_are_many() -> None:
    supervisor = Supervisor(packed(10))
    most = 0
    for weight in range(2, 40):
        after = packed(10, weight)
        supervisor.check(after)
        supervisor.activate(after)
        run_whole(supervisor.parts.tidy())
        most = max(most, len(supervisor.check(after).parts))
    assert most <= 10 + MIN_UNUSED + 2 * 10, "of 400"
    assert needed(supervisor.check(supervisor.active)) == needed(supervisor.active)


def test_an_unreadable_change_is_an_error() -> None:
    with pytest.raises(msgspec.MsgspecError):
        Supervisor(packed(1)).parts.check(1, b"\xff")
