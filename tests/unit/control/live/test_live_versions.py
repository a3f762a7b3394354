"""The last versions of the configuration: what is kept, and what differs."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec.structs import replace

from pymosn.config.default import DEFAULT_CONFIG, DEFAULT_NAME
from pymosn.config.diagnostics import Diagnostic
from pymosn.config.dump import dump
from pymosn.config.load import load_text
from pymosn.config.schema import Cluster, Host, MosnConfig
from pymosn.control.live import versions as module
from pymosn.control.live.versions import KEPT, KEPT_REJECTIONS, UnknownVersionError, Versions, difference_of
from pymosn.control.plane import ChangeResult
from pymosn.filters.settings import Block


def default() -> MosnConfig:
    loaded = load_text(DEFAULT_CONFIG, DEFAULT_NAME)
    assert loaded.config is not None
    return loaded.config


class Stage:
    def __init__(self) -> None:
        self.config = default()
        self.dumped: list[str] = []
        self.versions = Versions(lambda: self.config, self.shown, wall=lambda: 50.0, sleep=self.sleep)
        self.number = 0

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)

    def shown(self, block: Block) -> dict[str, Any]:
        self.dumped.append(getattr(block, "name", "") or type(block).__name__)
        return dump(block)

    async def change(self, *clusters: Cluster, applied: bool = True, faults: list[Diagnostic] | None = None) -> None:
        """A change that adds clusters to those of the default."""
        if applied:
            self.number += 1
            manager = default().cluster_manager
            self.config = replace(self.config, cluster_manager=replace(manager, clusters=[*manager.clusters, *clusters]))
        self.note(applied, faults)
        await self.versions.settle()

    def note(self, applied: bool = True, faults: list[Diagnostic] | None = None) -> None:
        message = "" if applied else "rejected; nothing changed"
        self.versions.note(
            ChangeResult(
                attempt=self.number,
                source="test",
                applied=applied,
                version=self.number,
                message=message,
                faults=faults or [],
            )
        )


def cluster(name: str, *addresses: str) -> Cluster:
    return Cluster(name=name, hosts=[Host(address=address) for address in addresses])


def run(test: Callable[[Stage], Awaitable[None]]) -> None:
    asyncio.run(test(Stage()))  # type: ignore[arg-type]


def test_a_change_is_a_version_and_only_what_differs_is_dumped() -> None:
    async def test(stage: Stage) -> None:
        await stage.change(cluster("one", "10.0.0.1:80"))
        assert "one" in stage.dumped
        stage.dumped.clear()
        await stage.change(cluster("one", "10.0.0.2:80"), cluster("two"))
        assert [name for name in stage.dumped if name in ("one", "two")] == ["one", "two"]
        assert not any("Listener" in name for name in stage.dumped), "an equal block is not dumped again"
        newest, oldest = stage.versions.view()["versions"]
        assert (newest["version"], newest["added"], newest["changed"]) == (2, ["cluster two"], ["cluster one"])
        assert (oldest["version"], oldest["source"], oldest["time"]) == (1, "test", 50.0)
        assert '"10.0.0.1:80"' in stage.versions.section(1, "cluster one")
        assert '"10.0.0.2:80"' in stage.versions.section(2, "cluster one")

    run(test)


def test_the_difference_of_two_versions() -> None:
    async def test(stage: Stage) -> None:
        await stage.change(cluster("one", "10.0.0.1:80"), cluster("gone"))
        await stage.change(cluster("one", "10.0.0.2:80"), cluster("two"))
        found = stage.versions.difference(1, 2)
        assert [(section["name"], section["kind"]) for section in found["sections"]] == [
            ("cluster one", "changed"),
            ("cluster two", "added"),
            ("cluster gone", "removed"),
        ]
        lines = found["sections"][0]["lines"]
        assert [line.strip() for line in lines if line[0] in "+-"] == [
            '-      "address": "10.0.0.1:80"',
            '+      "address": "10.0.0.2:80"',
        ]
        assert all(line[0] == "+" or line[0] == "@" for line in found["sections"][1]["lines"])
        assert stage.versions.difference(2, 2)["sections"] == []
        with pytest.raises(UnknownVersionError, match="version 9 is not kept; kept: 1, 2"):
            stage.versions.difference(1, 9)

    run(test)


def test_secrets_are_in_no_version() -> None:
    async def test(stage: Stage) -> None:
        secret = cluster("one")
        await stage.change(replace(secret, cluster_pool_enable=False))
        for name in stage.versions.section_names(1, "", 0, 100)["names"]:
            assert "hunter2" not in stage.versions.section(1, name)

    run(test)


def test_rejected_changes_are_kept_with_their_faults() -> None:
    async def test(stage: Stage) -> None:
        await stage.change()
        fault = Diagnostic(message="token=abcdefgh12345678 is bad", path="servers[0]", file="mosn.json", line=3)
        for _ in range(KEPT_REJECTIONS + 5):
            await stage.change(applied=False, faults=[fault] * 50)
        view = stage.versions.view()
        assert len(view["rejected"]) == KEPT_REJECTIONS
        rejected = view["rejected"][0]
        assert (rejected["applied"], rejected["kept"], len(rejected["faults"])) == (False, False, module.MOST_FAULTS)
        assert rejected["faults"][0]["line"] == 3
        assert "abcdefgh12345678" not in str(view)
        assert len(view["versions"]) == 1

    run(test)


def test_old_versions_and_their_sections_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(stage: Stage) -> None:
        for index in range(KEPT + 3):
            await stage.change(cluster("one", f"10.0.0.{index}:80"))
        kept = [version["version"] for version in stage.versions.view()["versions"]]
        assert kept == list(range(KEPT + 3, 3, -1))
        with pytest.raises(UnknownVersionError):
            stage.versions.section(1, "process")
        assert len(stage.versions._texts) <= KEPT + 10
        monkeypatch.setattr(module, "MOST_BYTES", stage.versions.view()["bytes"] - 100)
        await stage.change(cluster("one", "10.0.1.1:80"))
        assert len(stage.versions.view()["versions"]) < KEPT
        monkeypatch.setattr(module, "MOST_BYTES", 10)
        await stage.change(cluster("one", "10.0.1.2:80"))
        (only,) = stage.versions.view()["versions"]
        assert only["kept"] is False, "one that is too large is noted, without its sections"
        assert stage.versions.view()["bytes"] == 0
        monkeypatch.undo()
        await stage.change(cluster("one", "10.0.1.3:80"))
        assert stage.versions.section(stage.number, "cluster one")

    run(test)


def test_changes_that_come_too_fast_are_recorded_together() -> None:
    async def test(stage: Stage) -> None:
        stage.number = 1
        stage.note()
        stage.number = 2
        stage.note()
        stage.number = 3
        stage.note()
        await stage.versions.settle()
        (only,) = stage.versions.view()["versions"]
        assert (only["version"], only["skipped"]) == (3, 2)

    run(test)


def test_sections_are_found_by_a_part_of_their_name() -> None:
    async def test(stage: Stage) -> None:
        await stage.change(*(cluster(f"shop-{index}") for index in range(30)), cluster("shop-1"))
        found = stage.versions.section_names(1, "SHOP", 25, 10)
        assert (found["matched"], found["names"][-1]) == (31, "cluster shop-1 (2)"), "two of one name are two sections"
        with pytest.raises(UnknownVersionError, match="no section 'nothing'"):
            stage.versions.section(1, "nothing")

    run(test)


def test_lines_of_a_difference_have_the_right_numbers() -> None:
    old = [f"line {index}" for index in range(1, 101)]
    new = [*old[:49], "other", *old[50:]]
    assert list(difference_of(old, new)) == [
        "@@ -47,7 +47,7 @@",
        *(f" line {index}" for index in (47, 48, 49)),
        "-line 50",
        "+other",
        *(f" line {index}" for index in (51, 52, 53)),
    ]
    assert list(difference_of(old, old)) == []
    assert list(difference_of([], ["a"]))[1:] == ["+a"]


def test_a_difference_that_would_take_too_long_is_cut() -> None:
    old = [f"old {index}" for index in range(50_000)]
    new = [f"new {index}" for index in range(50_000)]
    lines = list(difference_of(["same", *old], ["same", *new]))
    assert lines[0].startswith("@@ -2,50000 +2,50000 @@ too long")
    assert len(lines) == 1 + 2 * (module.MOST_COMPARED // 4)
