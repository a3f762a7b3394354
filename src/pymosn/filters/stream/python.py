"""`python`: a stream filter in a Python file next to the configuration; `filters/loading.py` loads it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

import msgspec

from pymosn.filters.settings import Block, own
from pymosn.filters.spec import FilterSpec


class Settings(Block, kw_only=True):
    """`python`: a class derived from `pymosn.api.StreamFilter`. It receives this whole object."""

    open_keys: ClassVar[bool] = True
    path: Annotated[str, own("Python file; relative to the configuration file")] = ""
    class_: Annotated[str, own("name of the class in that file")] = msgspec.field(default="", name="class")


SPEC: Final = FilterSpec("python", Settings, None, "pymosn's own: a filter in Python")
