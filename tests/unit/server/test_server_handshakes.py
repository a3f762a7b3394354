"""The last failed handshakes of all workers."""

from pymosn.server import handshakes
from pymosn.server.handshakes import KEPT, Handshakes


def test_the_last_ones_of_each_listener_are_kept_newest_first() -> None:
    kept = Handshakes()
    kept.add([("a", float(i), "10.0.0.1", "client_tls_alert", str(i)) for i in range(KEPT + 2)])
    kept.add([("b", 3.0, "", "not_tls", "")])
    assert [one["detail"] for one in kept.of("a")] == [str(i) for i in range(KEPT + 1, 1, -1)]
    assert kept.of("b") == [{"time": 3.0, "client": "", "reason": "not_tls", "detail": ""}]
    assert kept.of("c") == []


def test_the_number_of_listeners_is_limited() -> None:
    kept = Handshakes()
    kept.add([(str(i), 0.0, "", "x", "") for i in range(handshakes.LISTENERS + 1)])
    assert kept.of("0") == []
    assert kept.of("1") != []
