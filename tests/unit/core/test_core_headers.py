"""Headers against the plainest model there is: a list of pairs."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pymosn.core.headers import FRAMING, HeaderError, HttpHeaders, headers_from, name_bit, wire_lines

NAMES = ["a", "A", "ab", "Ab", "x-long-name", "X-Long-Name", "x", "b-a"]
names = st.sampled_from(NAMES)
values = st.one_of(
    st.sampled_from(["", "1", "a: b", "x,y", "ab:", "A:1", "ü", " padded\t"]),
    st.text(st.characters(min_codepoint=33, max_codepoint=0x2FFF, exclude_characters="\x7f"), max_size=12),
)


class HeadersBesideAList(RuleBasedStateMachine):
    """The same edits on both; they must be equal after each."""

    def __init__(self) -> None:
        super().__init__()
        self.headers = HttpHeaders(b"", 0)
        self.model: list[tuple[str, str]] = []

    @rule(name=names)
    def put_first(self, name: str) -> None:
        self.headers.put_first(name.lower().encode(), b"1")
        self.model.insert(0, (name.lower(), "1"))

    @rule(name=names)
    def add_lines(self, name: str) -> None:
        self.headers.add_lines(f"{name}: 1\r\n".encode())
        self.model.append((name.lower(), "1"))

    @rule(name=names, value=values)
    def add(self, name: str, value: str) -> None:
        self.headers.add(name, value)
        self.model.append((name.lower(), value.strip(" \t")))

    @rule(name=names, value=values)
    def set(self, name: str, value: str) -> None:
        self.headers[name] = value
        self.model = [pair for pair in self.model if pair[0] != name.lower()] + [(name.lower(), value.strip(" \t"))]

    @rule(name=names)
    def remove(self, name: str) -> None:
        there = any(pair[0] == name.lower() for pair in self.model)
        assert self.headers.remove(name) == there
        self.model = [pair for pair in self.model if pair[0] != name.lower()]

    @rule(name=names)
    def delete(self, name: str) -> None:
        if name in self.headers:
            del self.headers[name]
            self.model = [pair for pair in self.model if pair[0] != name.lower()]
        else:
            with pytest.raises(KeyError):
                del self.headers[name]

    @rule()
    def copy(self) -> None:
        old = self.headers
        self.headers = old.copy()
        old.add("only-in-the-old-one", "1")

    @invariant()
    def same(self) -> None:
        assert self.headers.items() == self.model
        assert len(self.headers) == len(self.model)
        assert list(self.headers) == [name for name, _ in self.model]
        for name in NAMES:
            found = [value for known, value in self.model if known == name.lower()]
            assert self.headers.get_all(name) == found
            assert self.headers.get(name) == (found[0] if found else None)
            assert (name in self.headers) == bool(found)


TestHeadersBesideAList = HeadersBesideAList.TestCase
TestHeadersBesideAList.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)


@given(st.text(max_size=20))
def test_an_accepted_name_stays_on_one_line(name: str) -> None:
    headers = HttpHeaders(b"First: 1\r\n")
    try:
        headers.add(name, "v")
    except HeaderError:
        assert wire_lines(headers) == b"First: 1\r\n"
    else:
        assert headers.items() == [("first", "1"), (name.lower(), "v")]


@given(st.text(max_size=20))
def test_an_accepted_value_stays_on_one_line(value: str) -> None:
    headers = HttpHeaders()
    try:
        headers.add("a", value)
    except HeaderError:
        assert wire_lines(headers) == b""
    else:
        assert wire_lines(headers).count(b"\n") == 1
        assert headers.get("a") == value.strip(" \t")


@given(st.binary(max_size=12).filter(lambda raw: not set(raw) & set(b"\r\n\x00\x7f")))
def test_bytes_that_are_no_text_survive(raw: bytes) -> None:
    headers = HttpHeaders(b"a: " + raw + b"\r\n")
    text = headers.get("A")
    assert text is not None
    assert text.encode("utf-8", "surrogateescape") == raw.strip(b" \t")


@pytest.mark.parametrize("name", sorted(FRAMING))
def test_framing_fields_are_the_proxys_own(name: bytes) -> None:
    headers = HttpHeaders(name + b": 1\r\n")
    for edit in (
        lambda: headers.set(name.decode().title(), "2"),
        lambda: headers.add(name.decode(), "2"),
        lambda: headers.remove(name.decode()),
    ):
        with pytest.raises(HeaderError, match="managed by the proxy"):
            edit()
    assert headers.get(name.decode()) == "1"


@pytest.mark.parametrize("name", ["host", "Host", "HOST"])
def test_there_is_one_host(name: str) -> None:
    headers = headers_from([(name, "a")])
    with pytest.raises(HeaderError, match=r"duplicate Host header; set `request\.host`"):
        headers.add("hOst", "b")
    headers["host"] = "c"
    headers.add("hose", "d")
    assert headers.items() == [("host", "c"), ("hose", "d")]


def test_default_and_missing() -> None:
    headers = HttpHeaders()
    assert headers.get("a", "d") == "d"
    assert "a" not in headers
    assert 7 not in headers
    with pytest.raises(KeyError):
        headers["a"]


def test_found_as_received() -> None:
    headers = HttpHeaders(b"HOST:a\r\nX:  1 \t\r\nx-a:2\r\nXX: 3\r\n")
    assert headers.items() == [("host", "a"), ("x", "1"), ("x-a", "2"), ("xx", "3")]
    assert headers.remove_raw(b"x")
    assert wire_lines(headers) == b"HOST:a\r\nx-a:2\r\nXX: 3\r\n"


def test_from_pairs_and_dict() -> None:
    assert wire_lines(headers_from(None)) == b""
    assert wire_lines(headers_from({"A": "1"})) == b"A: 1\r\n"
    assert headers_from([("A", "1"), ("a", "2")]).get_all("a") == ["1", "2"]
    with pytest.raises(HeaderError):
        headers_from({"A": "1\r\n"})


def test_all_of_the_64_bits_of_names_are_used() -> None:
    found = {name_bit(size, 0, 0) & (1 << 64) - 1 for size in range(64)}
    assert found == {1 << bit for bit in range(64)}


@pytest.mark.parametrize("name", ["a", "X-Name-1", "x-name-2", "Content-Length", "_x", "x~", "!a^"])
def test_the_bit_of_a_name_does_not_mind_its_case(name: str) -> None:
    headers = HttpHeaders(b"Host: h\r\n", 1 << 7)
    headers.add_raw(name.encode(), b"1")
    for spelled in (name, name.lower(), name.upper()):
        assert headers.get(spelled) == "1"
    raw = name.encode()
    bits = {name_bit(len(raw), each[0], each[-1]) for each in (raw, raw.lower(), raw.upper())}
    assert len(bits) == 1


def test_names_that_differ_in_their_last_letter_are_distinguished() -> None:
    headers = HttpHeaders(b"", 0)
    for number in range(1, 4):
        assert not headers.has_raw(b"x-name-%d" % number)
        headers.set(f"X-Name-{number}", str(number))
    assert headers.items() == [("x-name-1", "1"), ("x-name-2", "2"), ("x-name-3", "3")]
    headers.set("x-name-2", "two")
    assert wire_lines(headers) == b"X-Name-1: 1\r\nX-Name-3: 3\r\nx-name-2: two\r\n"
