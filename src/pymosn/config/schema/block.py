"""What every block of the schema is made of, and what the schema says about a key beside its type."""

import enum
from typing import Annotated, Any, ClassVar, Final

import msgspec

# Keys of a field's `msgspec.Meta(extra=...)`.
STATE: Final = "state"
NOTE: Final = "note"
DURATION: Final = "duration"
OWN: Final = "own"
QUIET: Final = "quiet"


class State(enum.Enum):
    """What a key does in this version."""

    WORKS = "works"
    PLANNED = "planned"
    IGNORED = "ignored"


class Block(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One JSON object of the configuration. Attribute names are MOSN's keys; defaults are what MOSN uses without them.

    Durations are float seconds. A class with `open_keys` takes any other key without remark.
    """

    open_keys: ClassVar[bool] = False


class EnvoyBlock(Block, kw_only=True):
    """An object of Envoy's schema: `localJwks` and `local_jwks` are the same key, and an unknown one is an error.

    They say who may pass; going on without one of them might let in whom it keeps out.
    """


def works(note: str) -> msgspec.Meta:
    """The key has its effect; `note` says what a reader of docs/compatibility.md should know about it."""
    return msgspec.Meta(extra={NOTE: note})


def own(note: str) -> msgspec.Meta:
    """A key that pymosn adds to MOSN's."""
    return msgspec.Meta(extra={NOTE: note, OWN: True})


def planned(note: str = "") -> msgspec.Meta:
    """A valid key that is read and checked but does nothing yet; one warning says so where it is used."""
    return msgspec.Meta(extra={STATE: State.PLANNED, NOTE: note})


def planned_checked(note: str) -> msgspec.Meta:
    """Like `planned`, but `check` itself says what the value leads to, so no general warning is given."""
    return msgspec.Meta(extra={STATE: State.PLANNED, NOTE: note, QUIET: True})


def ignored(note: str) -> msgspec.Meta:
    """A key that has no effect in MOSN either and is taken so that existing files load."""
    return msgspec.Meta(extra={STATE: State.IGNORED, NOTE: note})


Duration = Annotated[float, msgspec.Meta(extra={DURATION: True})]
Unsigned = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Percent = Annotated[int, msgspec.Meta(ge=0, le=100)]
AnyMap = dict[str, Any]
