"""The configuration as MOSN prints it, and read again: MOSN writes such files itself."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.golden.mosn_admin import AdminWorld

from pymosn.config.dump import dump
from pymosn.config.load import load_text
from pymosn.config.mosn_form import without_parts
from pymosn.config.schema import MosnConfig


def loaded(value: Any, warnings: list[str] | None = None) -> MosnConfig:
    found = load_text(json.dumps(value), "f.json")
    assert found.config is not None, found.faults
    if warnings is not None:
        warnings += [fault.path for fault in found.faults]
    return found.config


@pytest.fixture
def given() -> dict[str, Any]:
    config = AdminWorld(Path("/x"), 1, 2).config()
    # No key: a dump has none that can be read again.
    del config["cluster_manager"]["clusters"][1]["tls_context"]["private_key"]
    return config


def test_what_is_printed_means_the_same_when_it_is_read_again(given: dict[str, Any]) -> None:
    before_warnings: list[str] = []
    after_warnings: list[str] = []
    config = loaded(given, before_warnings)
    printed = dump(config, like_mosn=True)
    chains = printed["servers"][0]["listeners"][0]["filter_chains"]
    assert chains[0].pop("tls_context_set") == [{}]
    assert loaded(printed, after_warnings) == config
    assert after_warnings == before_warnings


def test_blocks_of_other_keys_are_not_shown_twice(given: dict[str, Any]) -> None:
    printed = dump(without_parts(loaded(given)), like_mosn=True)
    assert set(printed["servers"][0]) == {"default_log_path", "default_log_level", "graceful_timeout"}
    assert printed["cluster_manager"] == {"tls_context": {}}
    assert "extends" not in printed


def test_a_listener_with_tls_has_its_context_where_mosn_prints_it(given: dict[str, Any]) -> None:
    chain = given["servers"][0]["listeners"][0]["filter_chains"][0]
    chain["tls_context"] = {"status": False, "server_name": "n"}
    (printed,) = dump(loaded(given).servers[0].listeners[0], like_mosn=True)["filter_chains"]
    assert printed["tls_context_set"] == [{"server_name": "n"}]
    assert "tls_context" not in printed


@pytest.mark.parametrize(
    ("key", "zeros"),
    [
        ("health_check", {"timeout": "0s", "interval": "0s", "interval_jitter": "0s", "initial_delay_seconds": "0s"}),
        ("keepalive", {"interval": "0s", "timeout": "0s"}),
        ("dns_resolvers", {}),
        ("circuit_breakers", None),
    ],
)
def test_zeros_of_a_cluster_are_no_settings(given: dict[str, Any], key: str, zeros: Any) -> None:
    plain = given["cluster_manager"]["clusters"][0]
    before = loaded(given)
    plain[key] = zeros
    assert loaded(given) == before


@pytest.mark.parametrize("key", ["timeout", "interval", "interval_jitter", "initial_delay_seconds", "healthy_threshold"])
def test_zero_is_the_default_of_a_health_check(given: dict[str, Any], key: str) -> None:
    check = {"protocol": "bolt", "service_name": "s"}
    given["cluster_manager"]["clusters"][0]["health_check"] = check
    before = loaded(given)
    given["cluster_manager"]["clusters"][0]["health_check"] = {**check, key: 0 if "threshold" in key else "0s"}
    assert loaded(given) == before


@pytest.mark.parametrize("zero", ["0s", "0", 0, "0ms"])
def test_zero_is_the_default_of_the_graceful_timeout(given: dict[str, Any], zero: object) -> None:
    before = loaded(given)
    given["servers"][0]["graceful_timeout"] = zero
    assert loaded(given) == before


def test_go_plugin_config_is_written_for_filters_of_every_kind(given: dict[str, Any]) -> None:
    warnings: list[str] = []
    given["servers"][0]["listeners"][0]["filter_chains"][0]["filters"][0]["go_plugin_config"] = None
    loaded(given, warnings)
    assert not [path for path in warnings if "go_plugin" in path]
    given["servers"][0]["listeners"][0]["filter_chains"][0]["filters"][0]["go_plugin_config"] = {"so_path": "x"}
    loaded(given, warnings)
    assert [path for path in warnings if "go_plugin" in path]
