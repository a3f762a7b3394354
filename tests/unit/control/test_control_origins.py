"""Origins of the parts of a configuration: lines of the file, and what control planes tell."""

from __future__ import annotations

import json

from pymosn.config.diagnostics import Places
from pymosn.config.load import load_text
from pymosn.config.schema import MosnConfig
from pymosn.control.explain import Question, explain
from pymosn.control.explain_text import as_text
from pymosn.control.origins import FromControlPlane, Origin, Origins, Used, lines_of


def loaded() -> tuple[MosnConfig, Places, list[str]]:
    chain = {"filters": [{"type": "proxy", "config": {"router_config_name": "r", "downstream_protocol": "Http1"}}]}
    routers = [{"match": {"path": "/no"}, "direct_response": {"status": 404}}]
    routers += [{"name": "all", "match": {"prefix": "/"}, "route": {"cluster_name": "app"}}]  # type: ignore[dict-item]
    table = {"router_config_name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routers": routers}]}
    config = {
        "servers": [{"listeners": [{"name": "l", "address": "127.0.0.1:80", "filter_chains": [chain]}], "routers": [table]}],
        "cluster_manager": {"clusters": [{"name": "app", "hosts": [{"address": "10.0.0.1:80"}]}]},
    }
    text = json.dumps(config, indent=1)
    found = load_text(text, "f.json")
    assert found.config is not None, [fault.text() for fault in found.faults]
    return found.config, found.places, text.splitlines()


def origins_of(url: str, control_planes: FromControlPlane | None = None) -> list[Origin]:
    config, places, _ = loaded()
    made = Origins(places, "f.json") if control_planes is None else Origins(places, "f.json", control_planes)
    found: list[Origin] = explain(config, Question(url=url), origins=made)["origins"]
    return found


def test_items_of_the_file_have_their_lines() -> None:
    _, _, lines = loaded()
    found = origins_of("http://h/x")
    assert [one["part"] for one in found] == [
        *("listener", "filter chain", "route table", "virtual host", "route", "cluster", "endpoints")
    ]
    assert all((one["from"], one["file"]) == ("file", "f.json") for one in found)
    by_part = {one["part"]: one for one in found}
    route_block = "\n".join(lines[by_part["route"]["line"] - 1 :])
    assert '"name": "all"' in route_block
    assert '"/no"' not in route_block
    assert '"name": "app"' in "\n".join(lines[by_part["cluster"]["line"] - 1 :])
    assert "10.0.0.1:80" in "\n".join(lines[by_part["endpoints"]["line"] - 1 :][:3])


def test_a_request_that_is_answered_here_has_no_cluster() -> None:
    assert [one["part"] for one in origins_of("http://h/no")][-1] == "route"


def test_lines_are_not_known_after_a_change_by_the_admin_api() -> None:
    config, _, _ = loaded()
    found = explain(config, Question(url="http://h/x"), origins=Origins({}, "f.json"))["origins"]
    assert found[0] == {"part": "listener", "name": "l", "from": "file", "file": "f.json"}


def test_what_a_control_plane_has_sent_is_named_with_its_version() -> None:
    def control_planes(kind: str, name: str, chain: int) -> Used:
        if kind != "cluster":
            return Used(None, [])
        item = {"from": "xds", "type": "cds", "resource": name, "version": "7", "control_plane": "ADS 10.0.0.9:1"}
        ends = {"part": "endpoints", "name": name, "from": "xds", "type": "eds", "resource": "e", "state": "not received"}
        return Used(item, [ends])

    found = origins_of("http://h/x", control_planes)
    assert [one["from"] for one in found] == ["file"] * 5 + ["xds"] * 2
    assert lines_of(found)[-2:] == [
        "cluster app: cds app, version 7, from ADS 10.0.0.9:1",
        "endpoints app: eds e, not received",
    ]


def test_the_text_has_origins_and_failed_handshakes_and_names_cannot_forge_lines() -> None:
    config, places, _ = loaded()
    answer = explain(config, Question(url="http://h/x"), origins=Origins(places, "f.json"))
    answer["failed_handshakes"] = [{"time": 0.0, "client": "10.0.0.1", "reason": "client_tls_alert", "detail": "unknown ca"}]
    answer["origins"].append({"part": "cluster", "name": "a\nb", "from": "static_resources"})
    lines = as_text(answer).splitlines()
    assert any(line.startswith("from          listener l: f.json:") for line in lines)
    assert lines[-2].strip() == "cluster a?b: static_resources"
    assert lines[-1].startswith("handshakes    1970-01-01T00:00:00Z 10.0.0.1: client_tls_alert unknown ca")
