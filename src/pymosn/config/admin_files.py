"""The files of the admin API: its unix socket, and the token for changes over TCP."""

import os
import stat
from typing import Final

from pymosn.config.default import DEFAULT_NAME
from pymosn.config.schema.top import Admin

#: Characters that a token must have at least, and at most.
SHORTEST_TOKEN: Final = 16
LONGEST_TOKEN: Final = 4096
#: Bytes of a socket's file name: with the prefix `/proc/self/fd/N/`, which makes long folders possible, it fits `sun_path`.
LONGEST_NAME: Final = 80

#: The socket of the built-in example, in the current directory.
_DEMO_SOCKET: Final = "pymosn.admin.sock"


class TokenError(ValueError):
    """The token file cannot be used; the text is the reason, without the token."""


def admin_socket(admin: Admin | None, file: str, config_dir: str) -> str:
    """The absolute path of the unix socket. `file`: the configuration file, in `config_dir`."""
    if admin is not None and admin.socket:
        return os.path.join(config_dir, admin.socket)
    name = os.path.splitext(os.path.basename(file))[0]
    name = _DEMO_SOCKET if file == DEFAULT_NAME else f"{name}.admin.sock"
    return os.path.join(os.path.dirname(config_dir), name)


def socket_fault(path: str) -> str | None:
    """The error of the value of `admin.socket`, None if it is valid."""
    if "\0" in path or path.startswith("@"):
        return "abstract unix sockets are not supported; write a path"
    name = os.path.basename(path)
    if not name:
        return "the path of the unix socket is a folder"
    size = len(os.fsencode(name))
    if size > LONGEST_NAME:
        return f"the file name of the admin socket can have at most {LONGEST_NAME} bytes; this one has {size}"
    return None


def token_path(admin: Admin, config_dir: str) -> str:
    """The absolute path of the token file."""
    return os.path.join(config_dir, admin.token_file)


def read_token(path: str) -> bytes:
    """The token in a file, without the white space around it.

    TokenError unless it is a regular file that only its owner may access, with one word of printable ASCII.
    """
    try:
        # Without O_NONBLOCK a named pipe would block the process.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise TokenError(f"{path}: not a regular file")
            if status.st_mode & 0o077:
                mode = stat.S_IMODE(status.st_mode)
                raise TokenError(f"{path}: its mode is {mode:04o}; group and others must have no access (chmod 600)")
            token = file.read(LONGEST_TOKEN + 2).strip()
    except (OSError, ValueError) as error:
        if isinstance(error, TokenError):
            raise
        raise TokenError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if not SHORTEST_TOKEN <= len(token) <= LONGEST_TOKEN:
        raise TokenError(f"{path}: a token has {SHORTEST_TOKEN} to {LONGEST_TOKEN} characters; this one has {len(token)}")
    if not all(0x21 <= byte <= 0x7E for byte in token):
        raise TokenError(f"{path}: a token consists of printable ASCII characters without spaces")
    return token
