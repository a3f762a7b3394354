"""The paths of SOFATracer's files."""

from __future__ import annotations

import os
import pwd
from typing import Final

from pymosn.config.schema.observability import SofaTracer

SERVER_FILE: Final = "rpc-server-digest.log"
CLIENT_FILE: Final = "rpc-client-digest.log"
#: Below the home directory, where `log_path` is empty.
DEFAULT_FOLDER: Final = "logs/tracelog/mosn"


def folder_of(settings: SofaTracer) -> str:
    """The folder of the digest files. The home directory is HOME, or the account's if that cannot be written to."""
    if settings.log_path:
        return settings.log_path
    home = os.environ.get("HOME", "")
    if not home or not os.access(home, os.W_OK):
        try:
            home = pwd.getpwuid(os.geteuid()).pw_dir
        except KeyError:
            home = home or "/"
    return os.path.join(home, DEFAULT_FOLDER)


def digest_files(settings: SofaTracer) -> list[str]:
    """The paths of the two files."""
    folder = folder_of(settings)
    return [os.path.join(folder, SERVER_FILE), os.path.join(folder, CLIENT_FILE)]
