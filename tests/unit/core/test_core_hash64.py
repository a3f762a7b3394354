"""XXH64 and MurmurHash64A: published values, and equality with the library `xxhash`."""

import random

import pytest

from pymosn.core.hash64 import murmur2, remainder, rotated, wrapped, xxh64

ALL = 1 << 64
#: Text, seed and hash, as published with the C library and with Python's `xxhash`.
PUBLISHED = [
    (b"", 0, 0xEF46DB3751D8E999),
    (b"a", 0, 0xD24EC4F1A98C6E5B),
    (b"abc", 0, 0x44BC2CF5AD770999),
    (b"Nobody inspects the spammish repetition", 0, 0xFBCEA83C8A378BF1),
    (b"xxhash", 20141025, 0xB559B98D844E0635),
    (b"I want an unsigned 64-bit seed!", 0, 0xD4CB0A70A2B8C7C1),
    (b"I want an unsigned 64-bit seed!", 1, 0xCE5087F12470D961),
]


@pytest.mark.parametrize(("text", "seed", "expected"), PUBLISHED)
def test_published_values_of_xxh64(text: bytes, seed: int, expected: int) -> None:
    assert xxh64(text, seed) % ALL == expected


def test_xxh64_is_that_of_the_library() -> None:
    xxhash = pytest.importorskip("xxhash", reason="compares with PyPI's xxhash")
    source = random.Random(7)
    for size in range(130):
        data = source.randbytes(size)
        for seed in (0, 1, 2**63 - 1, -1):
            assert xxh64(data, seed) % ALL == xxhash.xxh64_intdigest(data, seed % ALL)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", 0x553E93901E462A6E),
        (b"a", 0x454DDEE488C1ED6B),
        (b"hello", 0x26553298FDBE39C8),
        (b"10.0.0.1:80_0", 0xBD8F6461ECFFB28C),
        (b"12345678", 0x8C5B90A33A04DCA5),
        (b"The quick brown fox jumps over the lazy dog", 0xDCCBF2541704BC75),
    ],
)
def test_murmur_is_the_hash_of_the_c_plus_plus_library(text: bytes, expected: int) -> None:
    """The values are those of `std::hash<std::string>` of libstdc++."""
    assert murmur2(text) % ALL == expected


@pytest.mark.parametrize("number", [0, 1, -1, 2**63 - 1, -(2**63), 0x1234_5678_9ABC_DEF0, -0x1234_5678_9ABC_DEF0])
def test_arithmetic_is_that_of_unsigned_numbers(number: int) -> None:
    value = wrapped(number)
    assert -(2**63) <= value < 2**63
    assert value % ALL == number % ALL
    for divisor in (1, 2, 100, 65537, 5000011):
        assert remainder(value, divisor) == number % ALL % divisor
    unsigned = number % ALL
    for bits in (1, 31, 63):
        assert rotated(value, bits) % ALL == (unsigned << bits | unsigned >> (64 - bits)) % ALL
