"""The hostile tables against the real program: real sockets, one hop and two, an upstream that records every byte."""

from __future__ import annotations

import asyncio

import pytest
from tests.hostile import lenient_table, limit_table
from tests.hostile.cases import ReplyCase, RequestCase
from tests.hostile.conversing import Findings, converse
from tests.hostile.running import reply_trials, request_trials, thinned
from tests.hostile.tables import REPLIES, REQUESTS
from tests.passes import one_of

HOPS = (1, 2)
#: The codec's own test runs all variants on both builds.
SHARE = one_of(10)


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    trials = thinned(request_trials(REQUESTS, HOPS), SHARE)
    replies = reply_trials(REPLIES, HOPS, trials[-1].number + 1)
    return asyncio.run(converse(tmp_path_factory.mktemp("hostile"), trials, replies))


@pytest.fixture(scope="module")
def lenient_findings(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    trials = thinned(request_trials(lenient_table.TABLE, HOPS), SHARE)
    made = converse(
        tmp_path_factory.mktemp("lenient"), trials, [], http1=lenient_table.SETTINGS, inner=lenient_table.SETTINGS
    )
    return asyncio.run(made)


@pytest.fixture(scope="module")
def limit_findings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Findings]:
    """By the name of the group: each has a program of its own."""
    found: dict[str, Findings] = {}
    for group in limit_table.GROUPS:
        trials = thinned(request_trials(group.cases, HOPS), SHARE)
        found[group.name] = asyncio.run(converse(tmp_path_factory.mktemp("limits"), trials, [], **group.settings))
    return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", [*REQUESTS, *REPLIES], ids=str)
def test_member(findings: Findings, case: RequestCase | ReplyCase) -> None:
    assert not findings.by_case[str(case)]


def test_nothing_else_went_wrong(findings: Findings) -> None:
    assert not findings.common
    assert findings.trials > 10000 / SHARE


@pytest.mark.parametrize("case", lenient_table.TABLE, ids=str)
def test_member_of_the_compatible_profile(lenient_findings: Findings, case: RequestCase) -> None:
    assert not lenient_findings.by_case[str(case)]


def test_nothing_else_went_wrong_in_the_compatible_profile(lenient_findings: Findings) -> None:
    assert not lenient_findings.common


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("group", "case"), [(group.name, case) for group in limit_table.GROUPS for case in group.cases], ids=str
)
def test_member_at_a_limit(limit_findings: dict[str, Findings], group: str, case: RequestCase) -> None:
    assert not limit_findings[group].by_case[str(case)]


def test_nothing_else_went_wrong_at_the_limits(limit_findings: dict[str, Findings]) -> None:
    assert not [found.common for found in limit_findings.values() if found.common]
