"""Which names belong to secrets: of keys in settings, of headers, of query parameters; and the mark `Secret`.

A name is read as whole words: `tokenCalculateStrategy` is `token calculate strategy`. It names a secret if it contains a
noun such as `token`, unless a later word makes it describe one (`token_bucket`, `password_file`).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated, Final, TypeVar

import msgspec

T = TypeVar("T")

#: Shown in place of a secret.
REDACTED: Final = "***REDACTED***"
#: Key of a field's `msgspec.Meta(extra=...)`.
SECRET: Final = "secret"

#: Marks a field of a filter's `Config`: `key: Secret[str]`. Its value is never shown, whatever its name.
Secret = Annotated[T, msgspec.Meta(extra={SECRET: True}, extra_json_schema={"writeOnly": True})]

_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\dA-Za-z_]+")
_KEY_KINDS: Final = (
    *("access", "account", "aes", "api", "app", "auth", "cipher", "client", "cookie", "crypto", "decryption", "deploy"),
    *(
        "encrypt",
        "encryption",
        "function",
        "functions",
        "hmac",
        "jwt",
        "license",
        "mac",
        "master",
        "pre",
        "private",
        "root",
        "secret",
        "server",
    ),
    *("service", "session", "shared", "sign", "signature", "signing", "ssh", "ssl", "storage", "subscription", "symmetric"),
    *("tls", "webhook", "wrapping"),
)
#: Single words, and pairs of words written as one.
_NOUNS: Final = frozenset(
    (
        *("password", "passwd", "passphrase", "passcode", "passkey", "privkey", "pwd", "psk", "secret", "token"),
        *("passwort", "kennwort", "keymaterial", "totp", "mnemonic", "seedphrase", "jsessionid", "phpsessid"),
        *("authentication", "authorization", "credential", "cred"),
        *(f"{kind}key" for kind in _KEY_KINDS),
    )
)
#: Nouns that are also used for other things: only a text is a secret.
_WEAK: Final = frozenset(("auth", "pass", "pw", "bearer"))
_ENDINGS: Final = ("password", "passwd", "passphrase", "secret", "token", "apikey", "privatekey")
#: Words after a noun that make the name describe a secret instead of containing it.
_DESCRIBING: Final = frozenset(
    (
        *("age", "alg", "algorithm", "audience", "authn", "authz", "bucket", "buckets", "burst", "cache", "calculate"),
        *(
            "claim",
            "claims",
            "class",
            "cluster",
            "count",
            "directory",
            "dir",
            "enabled",
            "encoder",
            "encoding",
            "endpoint",
            "expiration",
        ),
        *("expires", "expiry", "field", "fields", "file", "filename", "files", "fill", "folder", "format", "header"),
        *(
            "headers",
            "host",
            "interval",
            "introspection",
            "issuer",
            "kind",
            "length",
            "lifetime",
            "limit",
            "location",
            "method",
            "mode",
        ),
        *("name", "names", "param", "parameter", "parameters", "params", "path", "paths", "per", "policy", "port", "prefix"),
        *(
            "provider",
            "rate",
            "realm",
            "ref",
            "refill",
            "required",
            "resolver",
            "review",
            "rules",
            "scheme",
            "scope",
            "scopes",
            "server",
            "size",
            "source",
            "strategy",
        ),
        *("suffix", "timeout", "ttl", "type", "types", "uri", "url", "usage", "validation", "version"),
    )
)
#: Characters of a name whose kind is kept: longer ones are no names of fields, and would fill the memory.
_LONGEST_KEPT: Final = 200
_COOKIES: Final = frozenset(("cookie", "cookie2", "set-cookie", "set-cookie2"))
#: Query parameters of signed URLs, and others that grant access, besides those whose name names a secret.
_PARAMETERS: Final = frozenset(
    (
        *("sig", "signature", "x-amz-signature", "x-amz-credential", "x-amz-security-token", "x-goog-signature"),
        *("x-goog-credential", "x-oss-signature", "x-cos-signature", "awsaccesskeyid", "googleaccessid", "ossaccesskeyid"),
        *("auth", "code", "hmac", "jwt", "key", "pass", "policy", "sas", "session", "sid", "state", "assertion"),
        "saml",
        *("client_assertion", "hdnea", "hdnts", "__token__", "st", "key-pair-id", "q-signature"),
    )
)
#: The values of a key that are secrets: none, texts only, all but numbers, all.
_NONE: Final = 0
_TEXTS: Final = 1
_NUMBERS: Final = 2
_ANY: Final = 3
#: Headers that are credentials by their whole name; others are by the words of it.
_HEADERS: Final = frozenset(
    ("authorization", "proxy-authorization", "x-api-key", "api-key", "x-auth-token", "x-access-token")
)
#: How MOSN's variables begin that contain a header, a cookie or a query parameter.
_VARIABLES: Final = re.compile(
    r"(?:http|request|response|rpc)_(?:header|cookie|arg|request_header|response_header)_(.+)", re.I
)


def names_secret(name: str, value: object = "text") -> bool:
    """Whether a value must not be shown, according to its name. Flags, null and empty values are no secrets."""
    if not value or isinstance(value, bool):
        return False
    kind = _kind(name)
    if kind == _NUMBERS:
        return not _is_number(value)  # tokens may be a number of tokens
    if kind == _TEXTS:
        return isinstance(value, str)
    return kind == _ANY or (is_cookie(name) and _is_text_with_pairs(value))


def _kind(name: str) -> int:
    """Which values of a key are secrets, by the nouns in its name."""
    return _kind_of_short(name) if len(name) <= _LONGEST_KEPT else _kind_by_words(name)


@lru_cache(4096)
def _kind_of_short(name: str) -> int:
    return _kind_by_words(name)


def _kind_by_words(name: str) -> int:
    words = [word.lower() for word in _WORD.findall(name)]
    end = len(words) - 1
    described = max((i for i, word in enumerate(words) if word in _DESCRIBING), default=-1)
    found = _NONE
    for i, word in enumerate(words):
        last = i
        noun = _noun(word)
        pair = _pair_noun(word + words[i + 1]) if i < end else ""
        if pair and (not noun or noun in _WEAK):
            word, noun, last = word + words[i + 1], pair, i + 1
        if not noun or last < described or (noun in _WEAK and last < end):
            continue
        found = max(found, _TEXTS if noun in _WEAK else _ANY if noun == word else _NUMBERS)
    return found


def _pair_noun(pair: str) -> str:
    """The noun that two words are when written as one, in the singular; empty for any other pair."""
    return next((form for form in (pair, pair.removesuffix("s")) if form in _NOUNS or form.endswith("apikey")), "")


def _noun(word: str) -> str:
    """The noun that a word is, in the singular; empty for any other word."""
    forms = (word, word.removesuffix("s"))
    return next((form for form in forms if form in _NOUNS or form in _WEAK or form.endswith(_ENDINGS)), "")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) or (isinstance(value, str) and value.isdigit())


def _is_text_with_pairs(value: object) -> bool:
    """Whether a value may be that of a cookie header, rather than the name of a cookie."""
    if isinstance(value, list):
        return any(_is_text_with_pairs(item) for item in value)
    return isinstance(value, str) and "=" in value


def is_cookie(name: str) -> bool:
    """Whether a header of that name has cookies."""
    return name.lower() in _COOKIES


def is_header_name(text: str) -> bool:
    """Whether a text is the name of a well-known credential header, as in lists of names."""
    return text.lower() in _HEADERS or is_cookie(text)


def is_credential(name: str) -> bool:
    """Whether the value of the header or variable `name` grants access: Authorization, Cookie, X-Api-Key and the like."""
    variable = _VARIABLES.fullmatch(name)
    if variable is not None:
        return "cookie_" in name.lower() or is_credential(variable.group(1))
    return is_cookie(name) or names_secret(name)


def is_secret_parameter(name: str) -> bool:
    """Whether the value of the query parameter `name` grants access."""
    return name.lower() in _PARAMETERS or names_secret(name)
