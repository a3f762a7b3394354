"""Fuzzing of the admin API: every request has a response that is meant, and reading changes nothing."""

from __future__ import annotations

import pytest
from tests.fuzz.test_fuzz_http1 import SECONDS, fuzz
from tests.unit.control.admin_requests import REQUESTS, check

pytestmark = pytest.mark.timeout(SECONDS * 2 + 120)


def test_requests_to_the_admin_api() -> None:
    fuzz(check, 300, REQUESTS)
