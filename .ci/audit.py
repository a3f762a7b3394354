"""Checks the installed packages: pinned in constraints.txt, and without known vulnerabilities.

Run with the Python of the project's virtual environment. The exit code is 1 if a package differs from its pin or has a known
vulnerability. Without access to the data about vulnerabilities that part is skipped, and the output says so.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PINS = ROOT / "constraints.txt"
TOOL = ROOT / "build" / "audit"
#: Seconds for installing pip-audit, and for its queries.
INSTALL_TIME = 120
QUERY_TIME = 120


def normal(name: str) -> str:
    """The normalized name of a package (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> dict[str, str]:
    """Versions by package, from lines like those of `pip freeze`. ValueError for any other line."""
    found = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            name, separator, version = line.partition("==")
            if not separator:
                raise ValueError(f"{line!r} does not have the form name==version")
            found[normal(name)] = version.strip()
    return found


def differences(pinned: dict[str, str], installed: dict[str, str]) -> list[str]:
    """One line for each installed package whose version is not the pinned one."""
    return [
        f"{name} {version} is installed, but {'not pinned' if name not in pinned else pinned[name] + ' is pinned'}"
        for name, version in sorted(installed.items())
        if pinned.get(name) != version
    ]


def vulnerabilities(report: str) -> tuple[int, list[str], list[str]]:
    """How many packages were examined, the known vulnerabilities, and the packages without data, from pip-audit's JSON."""
    examined, found, unknown = 0, [], []
    for package in json.loads(report)["dependencies"]:
        if "skip_reason" in package:
            unknown.append(package["name"])
            continue
        examined += 1
        for entry in package["vulns"]:
            fixed = ", ".join(entry["fix_versions"]) or "no version"
            found.append(f"{package['name']} {package['version']}: {entry['id']}, fixed in {fixed}")
    return examined, found, unknown


def install_tool() -> Path | None:
    """Installs pip-audit beside the project's environment; None if that is impossible."""
    program = TOOL / "bin" / "pip-audit"
    commands = [[sys.executable, "-m", "venv", TOOL], [TOOL / "bin" / "pip", "install", "--quiet", "pip-audit"]]
    environment = {key: value for key, value in os.environ.items() if key != "PIP_CONSTRAINT"}
    try:
        for command in commands if not program.exists() else []:
            subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_TIME, env=environment)
    except (subprocess.SubprocessError, OSError):
        return None
    return program


def query(program: Path) -> str | None:
    """pip-audit's report as JSON; None if it could not reach its data."""
    command = [program, "-r", PINS, "--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=QUERY_TIME, check=False)
    except subprocess.TimeoutExpired:
        return None
    return done.stdout if done.stdout.startswith("{") else None


def main() -> int:
    freeze = [sys.executable, "-m", "pip", "freeze", "--exclude-editable"]
    installed = pins(subprocess.run(freeze, check=True, capture_output=True, text=True).stdout)
    different = differences(pins(PINS.read_text()), installed)
    for line in different:
        print(f"audit: {line}")
    if different:
        print("audit: `make constraints` pins what is installed")
    program = install_tool()
    report = query(program) if program is not None else None
    if report is None:
        reason = "pip-audit cannot be installed" if program is None else "pip-audit cannot reach its data"
        print(f"audit: SKIPPED: known vulnerabilities: {reason}")
        return 1 if different else 0
    examined, found, unknown = vulnerabilities(report)
    for line in found:
        print(f"audit: {line}")
    if unknown:
        print(f"audit: SKIPPED: {len(unknown)} packages without data: {', '.join(unknown)}")
    print(f"audit: {examined} packages examined, {len(found)} known vulnerabilities")
    return 1 if different or found else 0


if __name__ == "__main__":
    sys.exit(main())
