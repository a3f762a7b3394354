"""Recorded exchanges: their form, the files that hold them (our own, and HAR), and how two responses are compared."""

from pymosn.recording.compare import DEFAULT_IGNORED, Difference, Outcome, compare, outcome_of
from pymosn.recording.files import RecordingError, is_har, read_recording
from pymosn.recording.record import Body, Recorded, RecordedRequest, RecordedResponse

__all__ = [
    "DEFAULT_IGNORED",
    "Body",
    "Difference",
    "Outcome",
    "Recorded",
    "RecordedRequest",
    "RecordedResponse",
    "RecordingError",
    "compare",
    "is_har",
    "outcome_of",
    "read_recording",
]
