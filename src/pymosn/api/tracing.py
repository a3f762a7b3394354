"""Traces: what filters may add to them. `spans` has finished spans as plain data."""

from __future__ import annotations

from types import TracebackType
from typing import Final

from mypy_extensions import i64, mypyc_attr

from pymosn.api.spans import CLIENT, INTERNAL, SERVER, AttributeValue, SpanRecord, TraceRecord
from pymosn.core.errors import printable, type_name
from pymosn.core.plain import plain_text

__all__ = [
    "CLIENT",
    "INTERNAL",
    "MAX_ATTRIBUTES",
    "MAX_CHILDREN",
    "MAX_NAME",
    "MAX_TEXT",
    "MAX_TEXTS",
    "NO_SPAN",
    "SERVER",
    "AttributeValue",
    "Span",
    "SpanOwner",
    "SpanRecord",
    "TraceRecord",
]

#: The attributes that filters may set on one span, and the spans that they may add to one trace.
MAX_ATTRIBUTES: Final[i64] = 32
MAX_CHILDREN: Final[i64] = 32
#: Characters of the name of a span or of an attribute, and of a text as its value; longer ones are cut.
MAX_NAME: Final[i64] = 128
MAX_TEXT: Final[i64] = 1024
#: Characters of the attributes that filters may set in one exchange, with their names: a worker keeps thousands of traces.
MAX_TEXTS: Final[i64] = 16_384

#: Whole numbers that every exporter can write have 64 bits.
_LARGEST: Final = (1 << 63) - 1


@mypyc_attr(allow_interpreted_subclasses=True)
class SpanOwner:
    """What spans of filters belong to: the trace of one exchange."""

    def now(self) -> float:
        """The time, by `Clock.now`."""
        raise NotImplementedError

    def child_span(self, parent: Span, name: str, kind: str) -> Span:
        """A new span below `parent`, which has begun; one that is not recorded if there are too many."""
        raise NotImplementedError

    def take_room(self, size: i64) -> bool:
        """Whether so many characters can be kept along with those before, see MAX_TEXTS; counts them if so."""
        raise NotImplementedError


class Span:
    """The span of an exchange, or of a part of it. When nothing is recorded its methods have no effect.

    A child is a context manager, also around `await`: it ends with the `with` block, and an exception is its failure.
    """

    def __init__(
        self, owner: SpanOwner | None, trace_id: str, span_id: str, parent_id: str = "", name: str = "", kind: str = INTERNAL
    ) -> None:
        """`owner`: None for a span that is not recorded."""
        self._owner = owner
        #: 32 hexadecimal digits; also of a trace that is not recorded, and empty if tracing is off.
        self.trace_id = trace_id
        #: 16 hexadecimal digits; empty if the span is not recorded.
        self.span_id = span_id
        self.parent_id = parent_id
        self.name = name
        self.kind = kind
        self.attributes: dict[str, AttributeValue] | None = None
        #: Times of `Clock.now`; 0.0 for "not yet".
        self.started = 0.0
        self.ended = 0.0
        self.failure = ""

    @property
    def is_recorded(self) -> bool:
        """Whether the trace is sampled, so that what is set here has an effect."""
        return self._owner is not None

    def set_attribute(self, name: str, value: AttributeValue) -> None:
        """Sets an attribute, up to 32 of them; long texts are cut. Raises TypeError unless it is text, a number or a bool.

        An attribute that the proxy itself sets is replaced. After MAX_TEXTS characters in an exchange, no more are kept.
        """
        kept = _plain_value(name, value)
        owner = self._owner
        if owner is None:
            return
        attributes = self.attributes
        if attributes is None:
            attributes = {}
            self.attributes = attributes
        key = _text(name, MAX_NAME)
        size: i64 = len(key) + (len(kept) if isinstance(kept, str) else 0)
        if (key in attributes or len(attributes) < MAX_ATTRIBUTES) and owner.take_room(size):
            attributes[key] = kept

    def child(self, name: str) -> Span:
        """A part of this span, for a `with` statement: it begins now. After 32 in an exchange, they are not recorded."""
        owner = self._owner
        return NO_SPAN if owner is None else owner.child_span(self, _text(name, MAX_NAME), INTERNAL)

    def end(self, failure: str = "") -> None:
        """Ends the span, if it has not ended; `failure`: a word for what went wrong."""
        owner = self._owner
        if owner is not None and self.ended == 0.0:
            self.ended = owner.now()
            self.failure = _text(failure, MAX_NAME)

    def release(self) -> None:
        """Its trace is over: what is still set has no effect."""
        self._owner = None

    def __enter__(self) -> Span:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end("" if error is None else type_name(error))


def _text(value: str, limit: i64) -> str:
    """Valid text of at most `limit` characters."""
    return printable(plain_text(value)[:limit])


def _plain_value(name: str, value: object) -> AttributeValue:
    """The value of an attribute, as what can be sent. Raises TypeError for other types than those."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value, MAX_TEXT)
    if isinstance(value, int):
        number = int(value)
        return number if -_LARGEST <= number <= _LARGEST else float(number)
    if isinstance(value, float):
        return float(value)
    raise TypeError(f"attribute {name!r:.60} must be text, a number or a bool, got {type_name(value)}")


#: The span of an exchange without a trace.
NO_SPAN: Final = Span(None, "", "")
