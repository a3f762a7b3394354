"""The types of filters are freed with what their modules hold: a replaced filter must not keep memory."""

import gc
import sys
import types
import weakref
from typing import Any

import pytest

from pymosn.api import StreamFilter
from pymosn.api.exchange import AccessLog
from pymosn.api.http import HttpRequest
from pymosn.core.headers import HeaderError

#: A file of a filter that keeps one of its objects itself.
FILE = """
from pymosn.api import StreamFilter
from pymosn.core.headers import HeaderError


class Big:
    pass


class Error(HeaderError):
    pass


class Keeps(StreamFilter):
    def on_request(self, exchange):
        return big


big = Big()
kept = Keeps(None), Error("")
"""


@pytest.mark.parametrize("base", [AccessLog, HeaderError, HttpRequest, StreamFilter])
def test_an_object_releases_its_type(base: Any) -> None:
    kind: Any = type("Kind", (base,), {})
    before = sys.getrefcount(kind)
    for _ in range(10):
        kind.__new__(kind)
    assert sys.getrefcount(kind) == before
    found = weakref.ref(kind)
    del kind
    gc.collect()
    assert found() is None


def test_a_module_is_freed_with_its_filters() -> None:
    module = types.ModuleType("keeps")
    exec(FILE, module.__dict__)
    for _ in range(10):
        module.Keeps(None)
    found = weakref.ref(module.big), weakref.ref(module.Keeps), weakref.ref(module.Error)
    del module
    gc.collect()
    assert [reference() for reference in found] == [None, None, None]
