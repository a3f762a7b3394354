"""What a body is, according to its headers."""

from __future__ import annotations

import re
from typing import Final

from pymosn.core.headers import Headers

#: Header fields that describe the exact bytes of a body: they do not go with others.
OF_BYTES: Final = frozenset(
    (b"accept-ranges", b"content-digest", b"content-md5", b"digest", b"repr-digest", b"signature", b"signature-input")
)
#: Fields that describe the content of a response: they do not go with another content.
OF_CONTENT: Final = OF_BYTES | {
    *(b"content-disposition", b"content-encoding", b"content-language", b"content-location", b"content-range"),
    *(b"etag", b"last-modified"),
}

_TYPE: Final = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+/[!#$%&'*+.^_`|~0-9a-z-]+")


def content_type(headers: Headers) -> str:
    """The type without parameters, in lower case; empty if there is none, more than one, or an invalid one."""
    kinds = headers.get_all("content-type")
    kind = kinds[0].partition(";")[0].strip(" \t").lower() if len(kinds) == 1 else ""
    return kind if _TYPE.fullmatch(kind) is not None else ""


def is_json(headers: Headers) -> bool:
    """Whether a body is one JSON document. JSON lines, event streams and the like are not."""
    kind = content_type(headers)
    return kind in ("application/json", "text/json") or kind.endswith("+json")


def is_coded(headers: Headers) -> bool:
    """Whether a body has a content coding, such as gzip."""
    return (headers.joined("content-encoding") or "").strip(" \t").lower() not in ("", "identity")
