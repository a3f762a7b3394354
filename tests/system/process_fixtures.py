"""Fixtures that start real processes and end each of them. A `conftest.py` imports them where they are wanted."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pymosn_process import Pymosn, TwoHops, Upstream


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    yield server
    server.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Pymosn]]:
    """Starts `pymosn start` with a configuration (none: the built-in example) and ends it after the test."""
    running: list[Pymosn] = []

    def start_pymosn(
        config: dict[str, Any] | None, *arguments: str, descriptors: int | None = None, **environment: str
    ) -> Pymosn:
        if config is not None:
            path = tmp_path / "conf" / "mosn.json"
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(config, indent=1))
            arguments = ("-c", str(path), *arguments)
        running.append(Pymosn(list(arguments), tmp_path, environment, descriptors))
        return running[-1]

    yield start_pymosn
    for proxy in running:
        proxy.end()


@pytest.fixture
def two_hops(upstream: Upstream) -> TwoHops:
    return TwoHops(upstream.port)
