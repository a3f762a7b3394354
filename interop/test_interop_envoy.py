"""Envoy and pymosn get the same resources and the same requests; what differs must be explained."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from interop import xds_explained
from interop.programs import program
from interop.xds_all import GROUPS, count
from interop.xds_compare import differences
from interop.xds_explained import EXPLAINED, explanation
from interop.xds_groups import Group
from interop.xds_proxies import Pair, both
from interop.xds_refused import REFUSED, Refused
from interop.xds_world import Client

pytestmark = pytest.mark.timeout(300)

#: The explanations that were needed, by their patterns, and the groups that were compared.
_used: set[str] = set()
_compared: set[str] = set()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    envoy = program("envoy")
    pytest.importorskip("grpc", reason="needs the extra `xds`")
    with both(tmp_path_factory.mktemp("xds"), envoy, GROUPS, [one.group for one in REFUSED]) as running:
        yield running


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_the_answers_are_those_of_envoy(group: Group, pair: Pair) -> None:
    theirs, ours = Client(pair.hosts, f"envoy-{group.name}"), Client(pair.hosts, f"pymosn-{group.name}")
    unexplained = []
    for request in group.requests:
        expected = theirs.send(pair.envoy[group.name], request)
        assert expected.status, f"Envoy has not answered {request.text}"
        for difference in differences(expected, ours.send(pair.pymosn[group.name], request)):
            reason = explanation(group.name, request.text, difference)
            if reason is None:
                unexplained.append(f"{request.text} :: {difference}")
            else:
                _used.add(reason.pattern)
    assert not unexplained, "\n".join(unexplained)
    _compared.add(group.name)


@pytest.mark.parametrize("refused", REFUSED, ids=lambda refused: refused.group.name)
def test_what_is_not_supported_is_rejected_by_its_path(refused: Refused, pair: Pair) -> None:
    reasons = [one.message.error_detail.message for one in pair.server.requests if one.is_nack]
    faults = [fault for reason in reasons for fault in reason.split("; ")]
    assert any(refused.path in fault for fault in faults), faults


def test_every_explanation_is_needed() -> None:
    if _compared != {group.name for group in GROUPS}:
        pytest.skip("not all groups were compared")
    unused = [one.pattern for one in EXPLAINED if one.pattern not in _used]
    assert not unused, "\n".join(unused)


def test_the_page_has_all_explanations() -> None:
    assert count() >= 150
    assert xds_explained.PAGE.read_text() == xds_explained.page(count(), [one.path for one in REFUSED])
