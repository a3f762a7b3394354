"""Each field that today's control planes send is understood, ignored for a reason, or rejected; and so the page says."""

import pytest
from tests.xds_fields import IGNORED, PAGE, REJECTED, UNDERSTOOD, Fate, fates, page, sent_fields


@pytest.fixture(scope="module")
def known() -> dict[str, Fate]:
    return fates()


def test_no_field_that_is_sent_is_overlooked(known: dict[str, Fate]) -> None:
    assert len(sent_fields()) > 400
    overlooked = [name for name in sent_fields() if known.get(name, Fate("")).state not in (UNDERSTOOD, IGNORED, REJECTED)]
    assert overlooked == []
    assert [name for name in sent_fields() if known[name].state != UNDERSTOOD and not known[name].reason] == []


def test_the_fates_are_those_of_the_converters(known: dict[str, Fate]) -> None:
    assert known["envoy.config.cluster.v3.Cluster.connect_timeout"] == Fate(UNDERSTOOD)
    assert known["envoy.config.cluster.v3.Cluster.alt_stat_name"] == Fate(IGNORED, "names Envoy's statistics")
    assert known["envoy.config.route.v3.Decorator.operation"].state == IGNORED  # of an ignored message
    for field in ("http.rbac.v3.RBAC.rules", "network.rbac.v3.RBAC.rules", "http.jwt_authn.v3.JwtAuthentication.rules"):
        assert known[f"envoy.extensions.filters.{field}"].state in (UNDERSTOOD, REJECTED)


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tests.xds_fields --write"
