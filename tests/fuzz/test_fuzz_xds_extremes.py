"""Every field of messages of control planes, one at a time, with extreme values.

The resource is rejected with a path, or passes the checks of configuration files; a worker builds some of the latter. The
admin API shows it in either case. Nothing raises, and nothing takes long. With `PYMOSN_FUZZ_SECONDS` all fields and values
are tried, for at most that time.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from functools import cache
from importlib import import_module
from itertools import compress, islice
from operator import not_
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import any_pb2, json_format
from tests.fuzz.test_fuzz_xds_convert import GOOD, SECONDS, Judge
from tests.fuzz.xds_extremes import Scalar, changed, scalars
from tests.kit.xds_messages import import_types, message_of
from tests.xds_fields import _OTHERS

from pymosn.control.envoy.json_form import message_form
from pymosn.control.xds.accepting import faults_of
from pymosn.control.xds.convert.kinds import KINDS
from pymosn.control.xds.convert.messages import unpack
from pymosn.control.xds.convert.view import Report, View, listed

pytestmark = pytest.mark.timeout(SECONDS * 2 + 240)
#: How many values are tried without a time: short ones, and those of a megabyte, which take up to a second.
SHORT, LONG = 350, 15
#: One of how many accepted messages is built.
BUILT = 25
#: CPU time of one message, in seconds. The slowest text of a megabyte takes one.
LIMIT = 3.0
#: Characters of all faults of a resource, which are sent to the control plane and logged.
LONGEST = 60_000
SENT: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "fixtures" / "xds" / "sent.json").read_text())
Try = tuple[int, Scalar, Any]


@cache
def documents() -> list[tuple[str, Any]]:
    """The type and the message of the good examples, and of what Istio and Envoy Gateway send."""
    for module in _OTHERS:
        import_module(module)
    import_types(SENT)
    found: list[tuple[str, Any]] = [(type_url, message_of(name, value)) for type_url, name, value in GOOD]
    return found + [(each["@type"], unpack(json_format.ParseDict(each, any_pb2.Any()))) for each in SENT]


def tries(*, is_set: bool) -> list[Try]:
    """What is tried, in an order that a seed gives."""
    found = [
        (number, scalar, value)
        for number, (_, message) in enumerate(documents())
        for scalar in scalars(message)
        if scalar.is_set == is_set
        for value in scalar.values
    ]
    random.Random(16).shuffle(found)
    if SECONDS:
        return found
    is_long = [isinstance(value, str | bytes) and len(value) > 10_000 for _, _, value in found]
    return [*islice(compress(found, map(not_, is_long)), SHORT), *islice(compress(found, is_long), LONG)]


def convert(type_url: str, message: Any) -> bool:
    """Whether a message is accepted. Its faults have a path and can be sent."""
    report = Report()
    item = KINDS[type_url](View(message, "", report))
    text = report.text() or listed(faults_of(item))
    for fault in report.faults:
        assert fault.message, fault
        assert fault.path or fault.message.startswith("field number"), fault
    assert len(text) < LONGEST
    json.dumps(message_form(message), allow_nan=False)  # as the admin API shows it, also if it is rejected
    return not text


@pytest.mark.parametrize("is_set", [True, False], ids=["set", "absent"])
def test_extreme_values(tmp_path: Path, is_set: bool) -> None:
    judge, counts, start = Judge(tmp_path), Counter[bool](), time.monotonic()
    for number, scalar, value in tries(is_set=is_set):
        if SECONDS and time.monotonic() - start > SECONDS:
            break
        type_url, message = documents()[number]
        odd = changed(message, scalar.path, value)
        began = time.thread_time()
        try:
            is_accepted = convert(type_url, odd)
            took = time.thread_time() - began
            counts[is_accepted] += 1
            if is_accepted and counts[True] % BUILT == 0:
                judge.judge(type_url, odd)
        except Exception as error:
            pytest.fail(f"{_text(number, scalar, value)}: {type(error).__name__}: {error}")
        assert took < LIMIT, _text(number, scalar, value)
    assert min(counts[True], counts[False]) > 20, counts
    assert judge.accepted


def test_all_scalars_are_found() -> None:
    type_url, message = documents()[-1]
    assert type_url in KINDS
    for scalar in scalars(message):
        assert scalar.values
    assert len({scalar.path for scalar in scalars(message)}) > 100


def _text(number: int, scalar: Scalar, value: Any) -> str:
    return f"document {number}, {'.'.join(map(str, scalar.path))} = {value!r:.60}"
