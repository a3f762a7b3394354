"""The files of TLS contexts: certificates, keys, CAs and revocation lists.

The supervisor reads them and gives their content to its workers as a part of the configuration (`assembly/tls_material.py`).
A relative path starts at the folder of the configuration file, like those of filters; MOSN's start at its working directory.

The first configuration's files are read before the process gives up root (`TlsFiles.start`). A key that only root can read
cannot be read again after that: it stays as it is, with a warning. The next generation, which cannot read it at all, gets
the content from this one.
"""

from __future__ import annotations

import asyncio
import errno
import os
import pwd
import stat
import time
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from pymosn.assembly.tls_material import TlsMaterial, digest_of
from pymosn.config.diagnostics import Diagnostic, Severity
from pymosn.config.schema import MosnConfig
from pymosn.config.tls_contexts import PemText, is_bare, pem_texts
from pymosn.control.certificates import find_faults
from pymosn.control.service import Service
from pymosn.control.threads import off_loop
from pymosn.core.files import read_regular

#: Seconds in which all files must have been read.
TIME: Final = 10.0
#: Maximum bytes of one file.
MAX_FILE: Final = 1024 * 1024
#: The fingerprint of a file that is missing or cannot be read.
UNREADABLE: Final = b""

#: Finds the faults of contexts whose files have been read.
Check = Callable[[MosnConfig, TlsMaterial], list[Diagnostic]]


class TlsRead(NamedTuple):
    """The content of all files of a configuration, and the faults."""

    config: MosnConfig
    material: TlsMaterial
    faults: list[Diagnostic]


def fingerprint_of(path: str) -> bytes:
    """Identifies the content of a file."""
    try:
        return digest_of(read_regular(path, MAX_FILE))
    except (OSError, ValueError):
        return UNREADABLE


def content_faults(config: MosnConfig, material: TlsMaterial) -> list[Diagnostic]:
    """The faults of the content of TLS contexts, now."""
    return find_faults(config, material, time.time())


class TlsFiles(Service):
    """Reads the files of TLS contexts, off the event loop. As a service it reads those of the first configuration."""

    name = "TLS files"

    def __init__(self, config: MosnConfig, config_dir: str, check: Check = content_faults) -> None:
        """`config`: the first configuration. `config_dir`: for relative paths. `check`: called off the event loop."""
        self._config = config
        self._config_dir = config_dir
        self._check = check
        #: What `start` has read.
        self.first: tuple[TlsMaterial, list[Diagnostic]] = TlsMaterial(), []
        # The configured paths of files that this process has read and could not read again.
        self._unreadable: set[str] = set()
        # By absolute path: what the generation before had read when it could.
        self._inherited: dict[str, bytes] = {}

    async def start(self) -> None:
        """Reads the files of the first configuration."""
        self.first = await self.read(self._config, TlsMaterial())
        self._inherited = {}

    def export(self, material: TlsMaterial) -> bytes | None:
        """The content of the files that the next generation cannot read, for it; None if it can read all.

        `material`: the active one.
        """
        contents = {self.absolute(path): material.contents[path] for path in self._unreadable if material.has(path)}
        return msgspec.msgpack.encode(contents) if contents else None

    def adopt(self, content: bytes) -> None:
        """Uses what the generation before has read, for the files of the first configuration that are denied to this one."""
        self._inherited = msgspec.msgpack.decode(content, type=dict[str, bytes])

    def paths(self, config: MosnConfig) -> dict[str, str]:
        """The absolute paths of the files, by the paths as they are configured."""
        return {text.text: self.absolute(text.text) for text in pem_texts(config) if text.is_path}

    def unreadable_keys(self) -> list[Diagnostic]:
        """Warnings about files of the first configuration that this process has read and could not read again now."""
        found: list[Diagnostic] = []
        for text in pem_texts(self._config):
            path = self.absolute(text.text) if text.is_path else ""
            if path and self.first[0].has(text.text) and not os.access(path, os.R_OK, effective_ids=True):
                self._unreadable.add(text.text)
                message = (
                    f"{path} was read as root, and user {user_name()!r} cannot read it: another content needs a restart"
                )
                found.append(Diagnostic(severity="warning", path=text.where, message=message))
        return found

    async def read(
        self, config: MosnConfig, kept: TlsMaterial, active: TlsMaterial | None = None
    ) -> tuple[TlsMaterial, list[Diagnostic]]:
        """The content of all files of a configuration, and the faults. Those in `kept` are not read.

        `active`: what a key that this user may not read keeps as its content.
        """
        current = [""]
        try:
            found, faults = await off_loop(TIME, self._read, config, kept, active or TlsMaterial(), current)
        except TimeoutError:
            return kept, [Diagnostic(message=f"the TLS file {current[0]} cannot be read within {TIME:g} s")]
        # Takes some milliseconds per context, but nothing that may hang.
        return found, await asyncio.to_thread(self._checked, config, found, faults)

    def read_now(self, config: MosnConfig) -> tuple[TlsMaterial, list[Diagnostic]]:
        """Like `read` of everything, in this thread."""
        material, faults = self._read(config, TlsMaterial(), TlsMaterial(), [""])
        return material, self._checked(config, material, faults)

    def _read(
        self, config: MosnConfig, kept: TlsMaterial, active: TlsMaterial, current: list[str]
    ) -> tuple[TlsMaterial, list[Diagnostic]]:
        contents = dict(kept.only(self.paths(config)).contents)
        faults: list[Diagnostic] = []
        failed: dict[str, Diagnostic] = {}
        for text in pem_texts(config):
            path = self.absolute(text.text) if text.is_path else ""
            if not path or kept.has(text.text) or is_bare(text.text):
                continue
            if text.text not in contents and text.text not in failed:
                current[0] = path
                try:
                    contents[text.text] = read_regular(path, MAX_FILE)
                except (OSError, ValueError) as error:
                    kept_content = self._known(text, path, active) if _is_denied(error) else None
                    failed[text.text] = _unreadable(path, error, kept_content is not None)
                    if kept_content is not None:
                        contents[text.text] = kept_content
            fault = failed.get(text.text) or _exposed(text, path)
            if fault is not None:
                faults.append(Diagnostic(severity=_severity(text, fault), path=text.where, message=fault.message))
        return TlsMaterial(contents), faults

    def _known(self, text: PemText, path: str, active: TlsMaterial) -> bytes | None:
        """The content of a file that is denied to this process; None if it has none."""
        if path in self._inherited:
            return self._inherited[path]
        return active.contents.get(text.text) if text.key == "private_key" else None

    def _checked(self, config: MosnConfig, material: TlsMaterial, faults: list[Diagnostic]) -> list[Diagnostic]:
        """All faults. `faults`: those of reading."""
        if any(fault.severity == "error" for fault in faults):
            return faults
        return faults + self._check(config, material)

    def absolute(self, path: str) -> str:
        """The absolute path of a configured one."""
        return os.path.abspath(os.path.join(self._config_dir, path))


def check_tls_files(config: MosnConfig, config_dir: str) -> list[Diagnostic]:
    """Reads the files of the TLS contexts of a checked configuration, and returns the faults."""
    return TlsFiles(config, config_dir).read_now(config)[1]


def user_name() -> str:
    """The name of the user that this process runs as."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _is_denied(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM)


def _unreadable(path: str, error: OSError | ValueError, keeps: bool) -> Diagnostic:
    why = getattr(error, "strerror", None) or str(error)
    user = f" by user {user_name()!r}" if _is_denied(error) else ""
    message = f"{path} cannot be read{user}: {why}"
    if keeps:
        return Diagnostic(severity="warning", message=f"{message}; what was read before stays")
    return Diagnostic(message=message)


def _severity(text: PemText, fault: Diagnostic) -> Severity:
    """The severity of a fault; an unusable certificate of a listener with `fall_back` is none that prevents the start."""
    is_fallback = text.context.fall_back and text.where.startswith("servers[") and text.key in ("cert_chain", "private_key")
    return "warning" if is_fallback else fault.severity


def _exposed(text: PemText, path: str) -> Diagnostic | None:
    """A warning about a private key that others than its owner can read or change."""
    if text.key != "private_key":
        return None
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return None
    who = "any user" if mode & (stat.S_IROTH | stat.S_IWOTH) else "its group" if mode & (stat.S_IRGRP | stat.S_IWGRP) else ""
    if not who:
        return None
    message = f"{path} is accessible to {who} (mode {stat.S_IMODE(mode):04o}); a private key should have 0600"
    return Diagnostic(severity="warning", message=message)
