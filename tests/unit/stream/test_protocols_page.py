"""The protocol that docs/protocols.md builds, built from that page in a separate package, and used."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.kit import Talk

from pymosn.api.stream import ListenerFacts, StreamProtocol
from pymosn.assembly.protocols import ProtocolLoadError, as_protocol, load_protocol
from pymosn.config.load import load_text
from pymosn.core.overload import OverloadState
from pymosn.filters.loading import PROTOCOLS, installed
from pymosn.stream.registry import protocols

PAGE = Path(__file__).parents[3] / "docs" / "protocols.md"


@pytest.fixture
def note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module, installed as the page describes."""
    page = PAGE.read_text()
    steps = page.partition("## Step by step")[2].partition("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", steps, re.DOTALL)
    entry = re.search(r'```toml\n\[project.entry-points."(.*?)"\]\n(.*?)```', page, re.DOTALL)
    assert len(blocks) == 4
    assert entry is not None
    (tmp_path / "note.py").write_text("\n".join(blocks))
    info = tmp_path / "note-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: note\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{entry[1]}]\n{entry[2]}".replace('"', ""))  # pip writes it without quotes
    monkeypatch.syspath_prepend(str(tmp_path))
    import note

    yield note
    del sys.modules["note"]


@pytest.mark.parametrize("one_byte", [False, True])
def test_the_protocol_of_the_page_works(note: Any, one_byte: bool) -> None:
    protocol = load_protocol("note")
    talk = Talk(one_byte=one_byte, protocols=["Http1", "note"], extra_protocols=[protocol])
    client, upstream = talk.opening(
        note.frame(b"q", 77, 0, b"weather", b"sun?") + note.frame(b"q", 78, 0, b"weather", b"rain?")
    )
    upstream.receives(note.frame(b"q", 1, 0, b"weather", b"sun?") + note.frame(b"q", 2, 0, b"weather", b"rain?"))
    upstream.sends(note.frame(b"r", 2, 1, b"", b"no") + note.frame(b"r", 1, 0, b"", b"yes"))
    client.receives(note.frame(b"r", 78, 1, b"", b"no") + note.frame(b"r", 77, 0, b"", b"yes"))
    client.sends(note.frame(b"h", 5, 0, b"", b"") + note.frame(b"o", 6, 0, b"a", b"b"))
    client.receives(note.frame(b"a", 5, 0, b"", b""))
    upstream.receives(note.frame(b"o", 3, 0, b"a", b"b"))
    talk.advance(15.1)
    upstream.receives(note.frame(b"h", 4, 0, b"", b""))
    upstream.sends(note.frame(b"g", 0, 0, b"", b""))
    assert upstream.is_closed()
    client.sends(note.frame(b"q", 79, 0, b"weather", b"fog?"))
    talk.refuse_dial()
    client.receives(note.frame(b"r", 79, 1, b"", b"status 502"))
    client.sends(b"X")
    assert client.is_closed()
    assert talk.counters()["reason_bad_frame"] == 1
    assert [exchange.request.headers.get("service") for exchange in talk.outcomes.exchanges[:2]] == ["weather"] * 2
    talk.end()


def test_a_configuration_may_name_it(note: Any) -> None:
    proxy = {"downstream_protocol": "Http1, note", "router_config_name": "r"}
    server = {
        "routers": [{"router_config_name": "r", "virtual_hosts": []}],
        "listeners": [
            {
                "address": "127.0.0.1:1",
                "bind_port": True,
                "filter_chains": [{"filters": [{"type": "proxy", "config": proxy}]}],
            }
        ],
    }
    text = json.dumps({"servers": [server]})
    assert "note" in installed(PROTOCOLS)
    assert [fault.text() for fault in load_text(text, "f").faults if "protocol" in fault.path] == []
    faults = load_text(text.replace("note", "nose"), "f").faults
    assert [fault.severity for fault in faults if "protocol" in fault.path] == ["error"]


def test_a_packages_entry_point_must_be_a_protocol(note: Any) -> None:
    known = protocols()
    assert known.get("note") is None
    assert isinstance(load_protocol("note"), StreamProtocol)
    with pytest.raises(ProtocolLoadError, match="no installed package offers a protocol 'nothing'"):
        load_protocol("nothing")
    with pytest.raises(ProtocolLoadError, match="x:y makes a dict, not"):
        as_protocol("note", {}, "x:y")
    with pytest.raises(ProtocolLoadError, match="offered as 'other' but its spec is named 'note'"):
        as_protocol("other", note.NoteSpec(), "x:y")


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"max_frame_size": 10}, "max_frame_size must be a number of bytes"),
        ({"max_frame_size": "big"}, "max_frame_size must be a number of bytes"),
        ({"enable_goaway": 1}, "enable_goaway must be true or false"),
    ],
)
def test_settings_are_checked(settings: dict[str, object], problem: str) -> None:
    bolt = protocols().get("bolt")
    assert bolt is not None
    with pytest.raises(ValueError, match=problem):
        bolt.options(settings, ListenerFacts(idle_timeout=90.0, overload=OverloadState()))
