"""The check of the dependencies that CI runs: .ci/audit.py."""

import importlib.util
import json
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
_spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
assert _spec is not None
assert _spec.loader is not None
audit = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(audit)


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    required = [*project["dependencies"], *(one for name, extra in extras.items() if name != "fuzz" for one in extra)]
    names = {audit.normal(re.split(r"[\[<>=]", one)[0]) for one in required} - {"setuptools"}  # pip freeze omits it
    assert len(names) > 20
    assert names <= audit.pins((ROOT / "constraints.txt").read_text()).keys()


def test_differences_from_the_pins() -> None:
    pinned = audit.pins("# a comment\n\nOne_two==1.0\nthree==2\nfour==4\n")
    assert audit.differences(pinned, {"one-two": "1.0"}) == []
    assert audit.differences(pinned, {"one-two": "1.1", "three": "2", "five": "5"}) == [
        "five 5 is installed, but not pinned",
        "one-two 1.1 is installed, but 1.0 is pinned",
    ]


@pytest.mark.parametrize("line", ["one>=1", "one", "one @ file:///tmp/one.whl", "-e ."])
def test_only_exact_pins(line: str) -> None:
    with pytest.raises(ValueError, match="does not have the form"):
        audit.pins(line)


def test_reads_the_report() -> None:
    report = {
        "dependencies": [
            {"name": "good", "version": "1", "vulns": []},
            {"name": "bad", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3", "4"]}]},
            {"name": "worse", "version": "2", "vulns": [{"id": "CVE-2", "fix_versions": []}]},
            {"name": "unknown", "skip_reason": "not found"},
        ]
    }
    found = ["bad 2: CVE-1, fixed in 3, 4", "worse 2: CVE-2, fixed in no version"]
    assert audit.vulnerabilities(json.dumps(report)) == (3, found, ["unknown"])
