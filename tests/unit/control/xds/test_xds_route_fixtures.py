"""Tables that Istio 1.31 and Envoy Gateway 1.9 send: together they have every field of the recorded ones."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from tests.unit.control.xds.xds_routes import ask, convert

from pymosn.config.schema import RouterConfiguration

TABLES: list[dict[str, Any]] = json.loads((Path(__file__).parents[3] / "fixtures" / "xds" / "routes.json").read_text())
#: Types inside an `Any` of the recordings; reading JSON needs them.
for module in ("http.cors.v3.cors_pb2", "http.fault.v3.fault_pb2"):
    import_module(f"envoy.extensions.filters.{module}")
for module in (
    "host.previous_hosts.v3.previous_hosts_pb2",
    "priority.previous_priorities.v3.previous_priorities_config_pb2",
):
    import_module(f"envoy.extensions.retry.{module}")


def converted(table: dict[str, Any]) -> RouterConfiguration:
    made, report = convert(table)
    assert not report.faults, report.text()
    return made


@pytest.mark.parametrize("table", TABLES, ids=[table["name"] for table in TABLES])
def test_every_field_is_understood(table: dict[str, Any]) -> None:
    made = converted(table)
    assert len(made.virtual_hosts) == len(table["virtual_hosts"])


def test_routes_of_istio() -> None:
    table = next(table for table in TABLES if "weighted_clusters" in json.dumps(table))
    host = table["virtual_hosts"][0]["domains"][0]
    found = ask(table, f"//{host}:26080/re/ab/c?q", scheme="https")
    assert found.host == table["virtual_hosts"][0]["name"]
    assert found.sent().path == "/x/ab"
    assert ask(table, f"//{host}:26080/re/ab/c?q").location == f"https://{host}:26080/re/ab/c?q"
