"""The states of MOSN's samples in docs/compatibility.md, from the rows of `mosn/samples.yaml`.

`tests/system/test_mosn_samples.py` runs the rows, and fails unless the file with the states says what they say:

    python -m tests.golden.mosn_samples --write     writes it, and the page
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from tests.golden.mosn_table import Row, rows

from pymosn.cli import main as pymosn
from pymosn.config import compatibility
from pymosn.config.schema import absent
from pymosn.kit.new_certs import write_certificates

#: In the warning about a key that is read and does nothing yet.
_LATER = "has no effect in this version yet"
#: The warnings about parts of MOSN that are not built.
_ABSENT = {text for names in (absent.EXTENSIONS, absent.TRACE_DRIVERS, absent.CODECS) for text in names.values()}

Faults = list[dict[str, Any]]


def is_driven(row: Row) -> bool:
    """Whether the sample is run, and not only checked."""
    return "send" in row.given


def reported(config: dict[str, Any], folder: Path) -> Faults:
    """What `pymosn check` reports about a configuration; it is written to the folder."""
    path = folder / "mosn.json"
    path.write_text(json.dumps(config))
    report = json.loads(CliRunner().invoke(pymosn, ["check", "--json", "-c", str(path)]).stdout)
    return list(report["faults"])


def errors(faults: Faults) -> list[str]:
    """The messages of the errors among what is reported."""
    return [one["message"] for one in faults if one["severity"] == "error"]


def state(row: Row, faults: Faults) -> list[str]:
    """The state of a sample that did what its row says, and a note. `faults`: what is reported about its configuration."""
    if errors(faults):
        return ["rejected", row.why or row.given["note"]]
    idle = [one["path"] for one in faults if _LATER in one["message"] or one["message"] in _ABSENT]
    later = sorted({re.split(r"[.\[]", path)[0] for path in idle})
    notes = [f"without effect: {', '.join(f'`{key}`' for key in later)}"] if later else []
    return ["works", "; ".join([*([f"differs: {row.why}"] if row.differs else []), *notes])]


def states() -> dict[str, list[str]]:
    """Of all samples, by their paths."""
    tests = Path(__file__).parents[1]
    sys.path += [str(tests / "system"), str(tests)]  # where pytest finds them
    from mosn_sample_parts import Places
    from mosn_sample_refused import CONFIGS
    from mosn_sample_running import Tokens

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_certificates(folder, (), "", 30, force=True)
        places = Places(folder, {}, Tokens().jwks)
        return {row.case: state(row, reported(CONFIGS[row.case](places), folder)) for row in rows("samples")}


def main() -> None:
    """Writes the states with `--write`, else prints them."""
    lines = [f"{json.dumps(path)}: {json.dumps(value)}" for path, value in sorted(states().items())]
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    if "--write" not in sys.argv[1:]:
        sys.stdout.write(text)
        return
    compatibility.SAMPLES.write_text(text, encoding="utf-8")
    compatibility.PAGE.write_text(compatibility.page(), encoding="utf-8")


if __name__ == "__main__":
    main()
