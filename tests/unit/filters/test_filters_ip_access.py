"""`ip_access`: lists in order, the header, addresses in all their forms."""

from __future__ import annotations

from typing import Any

import pytest
from shipped_kit import problems, shipped

from pymosn.filters.stream import ip_access
from pymosn.testing import Request, World, run

#: Without it, a client cannot set X-Real-IP.
TRUSTS = {"trust_forwarded": True}
LISTS: dict[str, Any] = {
    "default_action": "deny",
    "ips": [
        {"action": "deny", "addrs": ["10.1.2.3"]},
        {"action": "allow", "addrs": ["10.0.0.1/8", "2001:db8::/32", "192.0.2.1"]},
    ],
}


@pytest.mark.parametrize(
    ("ip", "status"),
    [
        ("10.1.2.3", 403),
        ("10.1.2.4", 200),
        ("11.0.0.1", 403),
        ("::ffff:10.1.2.4", 200),
        ("::ffff:10.1.2.3", 403),
        ("2001:db8::1", 200),
        ("2001:db9::1", 403),
    ],
)
def test_the_first_list_decides(ip: str, status: int) -> None:
    result = run(shipped("ip_access", LISTS), Request(), client_ip=ip)
    assert result.status == status
    assert result.reason == ("access_denied" if status == 403 else "")


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ([], 200),
        ([""], 200),
        (["10.1.2.4"], 200),
        (["10.1.2.4:5000"], 200),
        (["[2001:db8::1]:5000"], 200),
        (["[2001:db8::1]"], 200),
        (["10.1.2.3"], 403),
        # Whoever is in front has written the last one.
        (["10.1.2.4, 10.1.2.3"], 403),
        (["10.1.2.3, 10.1.2.4"], 200),
        (["10.1.2.4", "10.1.2.3"], 403),
        # Without an address, access is denied.
        (["unknown"], 403),
        (["10.1.2.4,"], 403),
        (["10.1.2.4:99999"], 403),
        (["10.1.2"], 403),
    ],
)
def test_the_header(values: list[str], status: int) -> None:
    filters = shipped("ip_access", {**LISTS, "header": "X-Real-IP"})
    request = Request("GET", "/", [("x-real-ip", value) for value in values])
    assert run(filters, request, http1=TRUSTS).status == status


def test_invalid_addresses_are_denied_by_default() -> None:
    filters = shipped("ip_access", {"header": "x-real-ip", "ips": [{"action": "deny", "addrs": ["10.0.0.0/8"]}]})
    assert run(filters, Request("GET", "/", {"x-real-ip": "10.0.0.1, 10.0.0.2"}), http1=TRUSTS).status == 403
    assert run(filters, Request("GET", "/", {"x-real-ip": "nonsense"}), http1=TRUSTS).status == 403
    assert run(filters, Request("GET", "/", {"x-real-ip": "11.0.0.1"}), http1=TRUSTS).status == 200


async def remembered() -> None:
    filters = shipped("ip_access", {**LISTS, "header": "x-real-ip"})
    world = World(filters, http1=TRUSTS)
    for number in range(ip_access.REMEMBERED + 10):
        ip = f"10.2.{number // 256}.{number % 256}"
        assert (await world.send(Request("GET", "/", {"x-real-ip": ip}))).status == 200
    assert (await world.send(Request("GET", "/", {"x-real-ip": "10.1.2.3"}))).status == 403
    assert len(filters._known) == 11  # type: ignore[attr-defined]


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    monkeypatch.setattr(ip_access, "REMEMBERED", 64)
    asyncio.run(remembered())


def test_faults() -> None:
    config = {
        "default_action": "Deny",
        "header": "a b",
        "ips": [{"action": "", "addrs": []}, {"action": "deny", "addrs": ["x"]}],
    }
    assert problems("ip_access", config) == [
        ".header: not a header name: 'a b'",
        ".default_action: must be allow or deny, not 'Deny'",
        ".ips[0].addrs: at least one address is required",
        ".ips[0].action: must be allow or deny, not ''",
        ".ips[1].addrs[0]: not an IP address or network: 'x'",
    ]


@pytest.mark.parametrize("text", ["x" * 6_000, "10.0.0.1" + " " * 6_000 + "x", "\udcff" * 6_000])
def test_long_texts_are_not_cached(text: str) -> None:
    made = shipped("ip_access", {**LISTS, "header": "x-ip"})
    assert run(made, Request("GET", "/", {"x-ip": text})).status == 403
    assert run(made, Request("GET", "/", {"x-ip": "10.9.9.9"})).status == 200
    assert list(made._known) == ["10.9.9.9"]  # type: ignore[attr-defined]
