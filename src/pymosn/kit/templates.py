"""The files of a new filter's package. `$name`: its module name, `$project`: its package name, `$Class`: its class."""

from typing import Final

PROJECT: Final = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "$project"
version = "0.1.0"
description = "A stream filter for pymosn"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["msgspec>=0.19", "pymosn"]

[project.optional-dependencies]
dev = ["mypy", "pytest"]

# In a pymosn configuration: {"type": "$name", "config": {...}}
[project.entry-points."pymosn.stream_filters"]
$name = "$name:$Class"

[tool.setuptools.packages.find]
where = ["src"]

[tool.setuptools.package-data]
$name = ["py.typed"]

[tool.mypy]
strict = true
mypy_path = "src"
files = ["src", "tests"]

[tool.pytest.ini_options]
testpaths = ["tests"]
pythonpath = ["src"]
"""

MODULE: Final = '''\
"""$Class: a stream filter for pymosn."""

from __future__ import annotations

import msgspec
from pymosn.api import Exchange, Reply, StreamFilter

__all__ = ["$Class", "Settings"]


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    """The filter's configuration. Invalid settings prevent the start, and are reported with their line in the file."""

    #: The header that a request must have.
    header: str = "x-api-key"
    #: The text of the response to requests without it.
    message: str = "missing key\\n"


class $Class(StreamFilter):
    """Rejects requests without a header, and numbers the others."""

    Config = Settings

    def __init__(self, config: Settings) -> None:
        super().__init__(config)
        self.config = config
        self.passed = 0

    def on_request(self, exchange: Exchange) -> Reply | None:
        if exchange.request.headers.get(self.config.header) is None:
            return Reply(401, self.config.message, {"content-type": "text/plain"})
        self.passed += 1
        exchange.state["$name"] = self.passed
        return None

    def on_response(self, exchange: Exchange) -> None:
        number = exchange.state.get("$name")
        if number is not None:
            exchange.response_head.headers["x-request-number"] = str(number)
'''

TESTS: Final = """\
import asyncio

import pytest
from pymosn.testing import Request, World, make, run

from $name import $Class


def test_a_request_without_the_header_is_rejected() -> None:
    result = run(make($Class, {"message": "no"}), Request("GET", "/"))
    assert (result.status, result.text) == (401, "no")
    assert result.upstream == []


def test_a_request_with_the_header_passes() -> None:
    result = run(make($Class), Request("GET", "/cups?size=2", {"x-api-key": "k"}))
    assert (result.status, result.headers["x-request-number"]) == (200, "1")
    (request,) = result.upstream
    assert (request.path, request.query) == ("/cups", "size=2")


def test_several_requests_to_one_filter() -> None:
    async def talk() -> list[str]:
        world = World(make($Class, {"header": "x-key"}))
        return [(await world.send(Request(headers={"x-key": "k"}))).headers["x-request-number"] for _ in range(2)]

    assert asyncio.run(talk()) == ["1", "2"]


def test_a_configuration_that_does_not_fit() -> None:
    with pytest.raises(Exception, match="heador"):
        make($Class, {"heador": "x"})
"""

README: Final = """\
# $project

A stream filter for pymosn: rejects requests without a header and numbers the others.

    pip install -e '.[dev]'
    python -m pytest
    mypy
    pymosn filters                     # lists it as `$name`
    pymosn bench-filter $name          # measures its cost

In a listener of the configuration:

    "stream_filters": [{"type": "$name", "config": {"header": "x-api-key"}}]
"""

IGNORED: Final = """\
__pycache__/
*.egg-info/
.mypy_cache/
.pytest_cache/
build/
dist/
"""

#: Maps paths in the package's folder to contents.
FILES: Final = {
    "pyproject.toml": PROJECT,
    "README.md": README,
    ".gitignore": IGNORED,
    "src/$name/__init__.py": MODULE,
    "src/$name/py.typed": "",
    "tests/test_$name.py": TESTS,
}
