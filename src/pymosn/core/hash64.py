"""64-bit hash functions of Envoy: XXH64 (xxHash, its specification's version 0.1.1) and MurmurHash2 (MurmurHash64A).

Values are signed: -1 is 2**64 - 1. `wrapped` keeps them there, both where integers are unlimited and, compiled, where they
wrap around by themselves.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

# The five primes of XXH64, as signed numbers.
PRIME_1: Final[i64] = -7046029288634856825
PRIME_2: Final[i64] = -4417276706812531889
PRIME_3: Final[i64] = 1609587929392839161
PRIME_4: Final[i64] = -8796714831421723037
PRIME_5: Final[i64] = 2870177450012600261

#: The multiplier of MurmurHash64A, and the seed of the C++ library's `std::hash`, which Envoy uses.
MURMUR_FACTOR: Final[i64] = -4132994306676758123
MURMUR_SEED: Final[i64] = 0xC70F6907

LOW: Final[i64] = 0xFFFFFFFF
SIGN: Final[i64] = 0x80000000
CARRY: Final[i64] = 0x100000000
GREATEST: Final[i64] = 0x7FFFFFFFFFFFFFFF


def wrapped(number: i64) -> i64:
    """The signed 64-bit number with the same low 64 bits."""
    high = (number >> 32) & LOW
    if high >= SIGN:
        high -= CARRY
    return (high << 32) | (number & LOW)


def remainder(value: i64, divisor: i64) -> i64:
    """The remainder of a hash, as an unsigned number; `divisor` is between 1 and 2**31."""
    if value >= 0:
        return value % divisor
    half = (value >> 1) & GREATEST
    return (half % divisor * 2 + (value & 1)) % divisor


def rotated(value: i64, bits: i64) -> i64:
    """`value` rotated to the left by 1 to 63 bits."""
    # The mask is not `(i64(1) << bits) - 1`: mypyc's C has a plain 1 there, of 32 bits.
    return wrapped((value << bits) | ((value >> (64 - bits)) & (GREATEST >> (63 - bits))))


def xxh64(data: bytes, seed: i64 = 0) -> i64:
    """The XXH64 hash of `data`."""
    size: i64 = len(data)
    at: i64 = 0
    if size >= 32:
        first = wrapped(seed + PRIME_1 + PRIME_2)
        second = wrapped(seed + PRIME_2)
        third = seed
        fourth = wrapped(seed - PRIME_1)
        while at + 32 <= size:
            first = _round(first, _word(data, at))
            second = _round(second, _word(data, at + 8))
            third = _round(third, _word(data, at + 16))
            fourth = _round(fourth, _word(data, at + 24))
            at += 32
        value = wrapped(rotated(first, 1) + rotated(second, 7) + rotated(third, 12) + rotated(fourth, 18))
        value = _merged(value, first)
        value = _merged(value, second)
        value = _merged(value, third)
        value = _merged(value, fourth)
    else:
        value = wrapped(seed + PRIME_5)
    return _end_of_xxh64(wrapped(value + size), data, at)


def _end_of_xxh64(value: i64, data: bytes, at: i64) -> i64:
    """Hashes the bytes from `at` on, less than 32, and mixes all bits."""
    size: i64 = len(data)
    while at + 8 <= size:
        value = value ^ _round(0, _word(data, at))
        value = wrapped(rotated(value, 27) * PRIME_1 + PRIME_4)
        at += 8
    if at + 4 <= size:
        value = value ^ wrapped(_bytes(data, at, 4) * PRIME_1)
        value = wrapped(rotated(value, 23) * PRIME_2 + PRIME_3)
        at += 4
    while at < size:
        value = value ^ wrapped(_bytes(data, at, 1) * PRIME_5)
        value = wrapped(rotated(value, 11) * PRIME_1)
        at += 1
    value = wrapped((value ^ ((value >> 33) & 0x7FFFFFFF)) * PRIME_2)
    value = wrapped((value ^ ((value >> 29) & 0x7FFFFFFFF)) * PRIME_3)
    return value ^ ((value >> 32) & LOW)


def _round(sum_: i64, word: i64) -> i64:
    return wrapped(rotated(wrapped(sum_ + wrapped(word * PRIME_2)), 31) * PRIME_1)


def _merged(value: i64, sum_: i64) -> i64:
    return wrapped((value ^ _round(0, sum_)) * PRIME_1 + PRIME_4)


def _bytes(data: bytes, at: i64, count: i64) -> i64:
    """Up to 7 bytes as a little-endian number."""
    value: i64 = 0
    index: i64 = count - 1
    while index >= 0:
        byte: i64 = data[at + index]
        value = (value << 8) | byte
        index -= 1
    return value


def _word(data: bytes, at: i64) -> i64:
    """Eight bytes as a little-endian number."""
    return wrapped(_bytes(data, at, 4) | (_bytes(data, at + 4, 4) << 32))


def murmur2(data: bytes, seed: i64 = MURMUR_SEED) -> i64:
    """The MurmurHash64A hash of `data`."""
    size: i64 = len(data)
    value = seed ^ wrapped(size * MURMUR_FACTOR)
    at: i64 = 0
    while at + 8 <= size:
        word = wrapped(_shifted(wrapped(_word(data, at) * MURMUR_FACTOR)) * MURMUR_FACTOR)
        value = wrapped((value ^ word) * MURMUR_FACTOR)
        at += 8
    if at < size:
        value = wrapped((value ^ _bytes(data, at, size - at)) * MURMUR_FACTOR)
    return _shifted(wrapped(_shifted(value) * MURMUR_FACTOR))


def _shifted(value: i64) -> i64:
    return value ^ ((value >> 47) & 0x1FFFF)
