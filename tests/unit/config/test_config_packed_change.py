"""What is sent to workers for a change."""

from itertools import pairwise
from typing import Any

import msgspec

from pymosn.assembly.packed_change import change_of, changed, decode_change, encode_change
from pymosn.assembly.packed_config import PackedConfig
from pymosn.assembly.packer import pack
from pymosn.config.schema import MosnConfig


def packed(clusters: dict[str, list[str]], tables: dict[str, int] | None = None, **server: Any) -> PackedConfig:
    """`clusters`: addresses of hosts. `tables`: the status that a table answers."""
    routers = [
        {
            "router_config_name": name,
            "virtual_hosts": [
                {
                    "name": "v",
                    "domains": ["*"],
                    "routers": [{"match": {"prefix": "/"}, "direct_response": {"status": status}}],
                }
            ],
        }
        for name, status in (tables or {}).items()
    ]
    blocks = [{"name": name, "hosts": [{"address": address} for address in hosts]} for name, hosts in clusters.items()]
    value = {"servers": [{"routers": routers, **server}], "cluster_manager": {"clusters": blocks}}
    return pack(msgspec.convert(value, MosnConfig))


def many(number: int, **others: list[str]) -> dict[str, list[str]]:
    return {**{f"c{i}": [f"10.0.0.{i}:80"] for i in range(number)}, **others}


def test_a_change_makes_the_one_configuration_from_the_other() -> None:
    configs = [
        packed({"a": ["1.1.1.1:80"], "b": []}, {"t": 200}),
        packed({"a": ["1.1.1.2:80"], "b": []}, {"t": 200}),
        packed({"a": ["1.1.1.2:80"], "c": ["1.1.1.3:80"]}, {"t": 404, "u": 200}),
        packed({"c": ["1.1.1.3:80"]}, {}, graceful_timeout=3.0),
        packed({"a": [], "b": []}, {"t": 200}),
    ]
    for before, after in pairwise(configs):
        change = decode_change(encode_change(change_of(before, after)))
        assert changed(before, change, after.parts) == after
        assert {
            digest for digest in change.digests() if digest not in before.parts
        } == after.parts.keys() - before.parts.keys()


def test_equal_configurations_differ_in_nothing() -> None:
    change = change_of(packed(many(3)), packed(many(3)))
    assert change == change_of(packed({}), packed({}))
    assert not list(change.digests())


def test_only_other_hosts_are_told_from_all_other_changes() -> None:
    before = packed(many(3), {"t": 200})
    assert change_of(before, packed(many(3, c1=["10.9.9.9:80"]), {"t": 200})).is_of_hosts(before)
    for after in (packed(many(4), {"t": 200}), packed(many(2), {"t": 200}), packed(many(3), {"t": 404})):
        assert not change_of(before, after).is_of_hosts(before)


def test_a_change_is_as_large_as_what_it_changes() -> None:
    sizes = []
    for number in (10, 300):
        before, after = packed(many(number, x=["1.1.1.1:80"])), packed(many(number, x=["1.1.1.2:80"]))
        sizes.append(len(encode_change(change_of(before, after))))
    assert sizes[0] == sizes[1] < 200
