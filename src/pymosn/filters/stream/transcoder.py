"""`transcoder`: a transcoder in a Python file next to the configuration; `filters/loading.py` loads it."""

from __future__ import annotations

from typing import Annotated, Final

from pymosn.filters.settings import AnyMap, planned_checked
from pymosn.filters.spec import FilterSpec
from pymosn.filters.stream.python import Settings as PythonSettings

_COMPILED_IN: Final = "rejected: the transcoders that it names are compiled into MOSN"


class Settings(PythonSettings, kw_only=True):
    """`transcoder`: a class derived from `pymosn.api.Transcoder`. It receives this whole object."""

    type: Annotated[str, planned_checked(_COMPILED_IN)] = ""
    trans: Annotated[AnyMap, planned_checked(_COMPILED_IN)] = {}
    rules: Annotated[list[AnyMap], planned_checked(_COMPILED_IN)] = []


_NOTE: Final = "classes in Python (docs/protocols.md); those compiled into MOSN (`type`, `rules`) are rejected"
SPEC: Final = FilterSpec("transcoder", Settings, None, _NOTE)
