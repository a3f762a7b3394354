"""The real program with a stream filter that is named by its class, `package.module:Class`, in an installed package."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from process_fixtures import Start
from pymosn_process import READY, TwoHops, get

pytestmark = pytest.mark.once

MODULE = """
import msgspec
from pymosn.api import Reply, StreamFilter


class Config(msgspec.Struct):
    status: int


class Answers(StreamFilter):
    Config = Config

    def on_request(self, exchange):
        return Reply(self.config.status, "from a class")

    def __init__(self, config):
        super().__init__(config)
        self.config = config


class NoFilter:
    pass
"""


@pytest.fixture
def package(tmp_path: Path) -> str:
    """The PYTHONPATH with an installed package `acme_filters`, and with a module that no package has."""
    folder = tmp_path / "installed"
    info = folder / "acme_filters-1.0.dist-info"
    (folder / "acme_filters").mkdir(parents=True)
    info.mkdir()
    (folder / "acme_filters" / "__init__.py").write_text("")
    (folder / "acme_filters" / "answers.py").write_text(MODULE)
    (folder / "stray.py").write_text(MODULE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-filters\nVersion: 1.0\n")
    (info / "top_level.txt").write_text("acme_filters\n")
    others = [os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return os.pathsep.join([str(folder), *others])


def with_filter(two_hops: TwoHops, name: str, **config: Any) -> dict[str, Any]:
    made = two_hops.config
    made["servers"][0]["listeners"][0]["stream_filters"] = [{"type": name, "config": config}]
    return made


def test_a_class_of_an_installed_package(start: Start, two_hops: TwoHops, package: str) -> None:
    running = start(with_filter(two_hops, "acme_filters.answers:Answers", status=418), PYTHONPATH=package)
    running.wait_for(READY)
    assert get(two_hops.client_port, "/") == (418, "from a class")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("stray:Answers", "no installed package has the module 'stray'"),
        ("acme_filters/answers.py:Answers", "expected package.module:Class, got 'acme_filters/answers.py:Answers'"),
        ("acme_filters.answers:NoFilter", "acme_filters.answers:NoFilter is not a subclass of pymosn.api.StreamFilter"),
        ("acme_filters.answers:Missing", "cannot load acme_filters.answers:Missing"),
    ],
)
def test_any_other_name_prevents_the_start(start: Start, two_hops: TwoHops, package: str, name: str, text: str) -> None:
    running = start(with_filter(two_hops, name, status=418), PYTHONPATH=package)
    running.wait_for(re.escape(text))
    assert running.exit_code() != 0
