"""Debian's Chromium, driven by Playwright; tests are skipped where one of them is missing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

#: Milliseconds to wait for what must appear.
PATIENCE = 30_000

HINT = "needs Debian's Chromium: apt-get install chromium (or PYMOSN_CHROMIUM=PATH)"


def chromium() -> str | None:
    """The path of the browser."""
    given = os.environ.get("PYMOSN_CHROMIUM")
    return given or shutil.which("chromium")


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser without windows. It asks no server but those of the test: the profile is new, and updates are off."""
    path = chromium()
    if path is None:
        pytest.skip(HINT)
    api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    # Its sandbox does not work for root.
    arguments = ["--disable-background-networking", "--no-proxy-server", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=arguments)
        try:
            yield opened
        finally:
            opened.close()
