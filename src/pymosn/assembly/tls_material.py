"""Certificates, keys, CAs and revocation lists on their way from the supervisor to the workers.

The supervisor reads the files of all TLS contexts, because a worker may not have the right to. In the packed configuration
each text is replaced by a reference to its content, `part:` and the digest, so that a file with other content is another
configuration. PEM text in the configuration is treated in the same way. Nothing is written to disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec.structs import replace

from pymosn.config.schema.tls import TlsContext
from pymosn.config.tls_contexts import PEM_KEYS, PEM_MARK

#: What references begin with.
REFERENCE: Final = "part:"


class TlsMaterial:
    """The content of the files of TLS contexts, by their paths as they are configured. Immutable."""

    def __init__(self, contents: Mapping[str, bytes] | None = None) -> None:
        self.contents: Mapping[str, bytes] = contents or {}
        #: What is compared to find changes.
        self.digests = {path: digest_of(content) for path, content in self.contents.items()}

    def has(self, path: str) -> bool:
        """Whether a file has been read."""
        return path in self.contents

    def only(self, paths: Iterable[str]) -> TlsMaterial:
        """That of some files."""
        return TlsMaterial({path: self.contents[path] for path in paths if path in self.contents})

    def updated(self, newer: TlsMaterial) -> TlsMaterial:
        """This with the files of `newer` instead of its own."""
        return TlsMaterial({**self.contents, **newer.contents})

    def content(self, text: str) -> bytes | None:
        """The PEM text that a key of a context means; None for a file that has not been read."""
        return text.encode() if PEM_MARK in text else self.contents.get(text)

    def pem(self, text: str) -> bytes:
        """Like `content`; empty for an empty text, KeyError for a file that has not been read."""
        content = self.content(text) if text else b""
        if content is None:
            raise KeyError(f"{text} has not been read")
        return content


def digest_of(content: bytes) -> bytes:
    """The digest of a part."""
    return hashlib.blake2b(content, digest_size=16).digest()


def with_references(context: TlsContext, material: TlsMaterial, parts: dict[bytes, bytes]) -> TlsContext:
    """A context with references instead of paths and PEM texts, whose content is added to `parts`.

    Files that have not been read, and contexts without `status`, stay as they are.
    """
    found: dict[str, str] = {}
    for key in PEM_KEYS if context.status else ():
        text = getattr(context, key)
        content = material.content(text) if text else None
        if content is not None:
            digest = digest_of(content)
            parts[digest] = content
            found[key] = f"{REFERENCE}{digest.hex()}"
    return replace(context, **found) if found else context


def references(context: TlsContext | None) -> list[bytes]:
    """The digests of the parts that a context refers to."""
    if context is None or not context.status:
        return []
    texts = [getattr(context, key) for key in PEM_KEYS]
    return [bytes.fromhex(text.removeprefix(REFERENCE)) for text in texts if text.startswith(REFERENCE)]


def resolve(text: str, parts: Mapping[bytes, bytes]) -> bytes:
    """The PEM text that a key of a packed context refers to; empty for none. KeyError if it is not among `parts`."""
    if not text:
        return b""
    if not text.startswith(REFERENCE):
        raise KeyError("PEM text instead of a reference" if PEM_MARK in text else f"{text} has not been read")
    return parts[bytes.fromhex(text.removeprefix(REFERENCE))]
