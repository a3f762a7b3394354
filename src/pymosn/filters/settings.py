"""The building blocks of settings: of the filters in this folder, and of the whole configuration schema in `config/`.

A block is a class; each key has a type, a default and, where that is not all, a mark: `works`, `own`, `planned`, `ignored`.
The reader, the checks and docs/compatibility.md are all derived from these.
"""

import enum
from typing import Annotated, Any, ClassVar, Final

import msgspec

# Keys of a field's `msgspec.Meta(extra=...)`.
STATE: Final = "state"
NOTE: Final = "note"
DURATION: Final = "duration"
ZERO_IS_DEFAULT: Final = "zero_is_default"
NEGATIVE: Final = "negative"
AT_MOST: Final = "at most"
OWN: Final = "own"
QUIET: Final = "quiet"


class State(enum.Enum):
    """The effect of a key in this version."""

    WORKS = "works"
    PLANNED = "planned"
    IGNORED = "ignored"


class Block(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One JSON object of the configuration. Attribute names are MOSN's keys; defaults are those of MOSN.

    Durations are float seconds. A class with `open_keys` accepts any other key without a warning.
    """

    open_keys: ClassVar[bool] = False


class StrictBlock(Block, kw_only=True):
    """An object whose unknown keys are errors: it decides on access, so ignoring a key could grant it."""


class EnvoyBlock(StrictBlock, kw_only=True):
    """An object of Envoy's schema: `localJwks` and `local_jwks` are the same key."""


def works(note: str) -> msgspec.Meta:
    """The key has its effect; `note` is shown in docs/compatibility.md."""
    return msgspec.Meta(extra={NOTE: note})


def own(note: str) -> msgspec.Meta:
    """A key that pymosn adds to MOSN's."""
    return msgspec.Meta(extra={NOTE: note, OWN: True})


def planned(note: str = "") -> msgspec.Meta:
    """A valid key that is read and checked but not implemented yet; a warning is reported where it is used."""
    return msgspec.Meta(extra={STATE: State.PLANNED, NOTE: note})


def planned_checked(note: str) -> msgspec.Meta:
    """Like `planned`, without the general warning: `config/check` reports the consequences of the value itself."""
    return msgspec.Meta(extra={STATE: State.PLANNED, NOTE: note, QUIET: True})


def ignored(note: str) -> msgspec.Meta:
    """A key without effect in MOSN too, accepted so that existing files load."""
    return msgspec.Meta(extra={STATE: State.IGNORED, NOTE: note})


def negative(effect: str, seconds: float = 0.0) -> msgspec.Meta:
    """Of a duration that may be negative, as in MOSN, with a warning. `effect`: MOSN's. `seconds`: the value instead."""
    return msgspec.Meta(extra={NEGATIVE: (effect, seconds)})


def at_most(effect: str) -> msgspec.Meta:
    """Of a number with a largest value, which is used instead of a larger one, with a warning. `effect`: MOSN's."""
    return msgspec.Meta(extra={AT_MOST: effect})


class StringMatch(StrictBlock, kw_only=True):
    """A condition on a text: one of the keys before `ignore_case`."""

    exact: Annotated[str | None, own("equal to it, which may be empty")] = None
    prefix: Annotated[str, own("begins with it")] = ""
    suffix: Annotated[str, own("ends with it")] = ""
    contains: Annotated[str, own("has it anywhere")] = ""
    regex: Annotated[str, own("the whole text matches (RE2)")] = ""
    ignore_case: Annotated[bool, own("of ASCII letters; not with `regex`, which has `(?i)`")] = False


class IntegerRange(StrictBlock, kw_only=True):
    """A half-open range of integers."""

    start: Annotated[int, own("the first number")] = 0
    end: Annotated[int, own("the first number after the range")] = 0


class HeaderMatch(Block, kw_only=True):
    """A condition on a named value: a request header (`method` means the request method) or a query parameter.

    With one of `string_match`, `range_match` and `present_match` it has Envoy's semantics instead of MOSN's.
    """

    name: str = ""
    value: str = ""
    regex: bool = False
    string_match: Annotated[
        StringMatch | None, own("instead of `value`; headers also `:path`, `:method`, `:authority`, `:scheme`")
    ] = None
    range_match: Annotated[IntegerRange | None, own("instead of `value`: an integer in this range; headers only")] = None
    present_match: Annotated[bool | None, own("instead of `value`: whether it must be there (true) or absent (false)")] = (
        None
    )
    invert_match: Annotated[
        bool, own("the opposite of one of these three keys; a missing header still matches only `present_match`")
    ] = False
    treat_missing_header_as_empty: Annotated[bool, own("a missing header counts as an empty one; headers only")] = False


Duration = Annotated[float, msgspec.Meta(extra={DURATION: True})]
#: 0 means the default, as where MOSN writes keys that were not given: `0s`.
DurationOrDefault = Annotated[float, msgspec.Meta(extra={DURATION: True, ZERO_IS_DEFAULT: True})]
Unsigned = Annotated[int, msgspec.Meta(ge=0)]
UnsignedOrDefault = Annotated[int, msgspec.Meta(ge=0, extra={ZERO_IS_DEFAULT: True})]
Positive = Annotated[int, msgspec.Meta(ge=1)]
#: The limit of a frame of an RPC protocol, in bytes.
FrameSize = Annotated[int, msgspec.Meta(ge=64, le=0x7FFFFFFF)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Share = Annotated[float, msgspec.Meta(ge=0, le=100)]
Percent = Annotated[int, msgspec.Meta(ge=0, le=100)]
AnyMap = dict[str, Any]
