"""Redacts secrets in values and texts, by what a value is: the one function behind everything that is shown.

Secrets are values whose name says so (`secrets.py`), those of credential headers in any pair of name and value, private
parts of JSON Web Keys (RFC 7518 section 6), also in texts that contain JSON, PEM private keys, tokens, user information of
URLs, and query parameters that sign a URL or grant access.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final

from pymosn.core.secrets import REDACTED, is_credential, is_header_name, is_secret_parameter, names_secret

#: Secrets shorter than this are not searched for in texts: they would be found in unrelated words.
SHORTEST: Final = 4
#: The same for secrets of letters only or digits only.
SHORTEST_WORD: Final = 6
#: Members of a JSON Web Key that are private.
_JWK_PRIVATE: Final = frozenset(("k", "d", "p", "q", "dp", "dq", "qi", "oth"))
#: Members by which an object is recognised as a JSON Web Key.
_JWK_PUBLIC: Final = frozenset(("kty", "kid", "alg", "key_ops", "x5c", "x5t"))
#: Keys, without case and separators, for the name and for the value of a header, parameter or variable.
_NAME_KEYS: Final = frozenset(
    (
        *("name", "key", "header", "headername", "field", "variable", "envvar", "n", "k", "parameter", "parametername"),
        *("param", "paramname", "option", "property", "propertyname", "attribute"),
    )
)
_VALUE_KEYS: Final = frozenset(
    (
        *("value", "values", "rawvalue", "default", "defaultvalue", "content", "text", "exact", "exactmatch", "prefixmatch"),
        *("suffixmatch", "containsmatch", "contains", "regexmatch", "regex", "saferegex", "saferegexmatch", "stringmatch"),
        *("v", "val", "data", "equals", "expected", "pattern", "substring", "set", "add", "replacement", "newvalue"),
        *("headervalue", "parametervalue", "paramvalue", "propertyvalue"),
    )
)
#: A text with none of these has no secret that a text can show.
_MARKS: Final = re.compile(
    r"[=:{]|-----BEGIN|eyJ|(?:bearer|basic|authorization|cookie)|--\w|</|[\"']\]"
    r"|\b(?:gh[a-z]_|github_pat_|glpat-|xox[a-z]-|[sr]k_|npm_)",
    re.I,
)

_PEM: Final = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\Z)", re.S
)
_JWT: Final = re.compile(r"\beyJ[\w-]{5,}\.eyJ[\w-]+\.[\w-]*|\beyJ[\w-]{5,}(?:\.[\w-]*){4}")
#: Tokens of well-known services, by their prefix, and the secret part of a webhook's URL.
_TOKEN: Final = re.compile(
    r"\b(?:gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{20,}|xox[abeprs]-[\w-]{10,}|[sr]k_(?:live|test)_\w{10,}|npm_\w{30,})"
    r"|(?<=//hooks\.slack\.com/services/)[\w/]+"
)
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}")
_USER: Final = re.compile(
    r"(?<=//)(?:[^/?#\s\"'<>@]{0,2000}@)+|(?<=//)[^/?#\s\"'<>@:]{0,2000}:(?!\d+(?:[/?#]|$))[^\s\"'<>]{0,2000}@"
)
#: `user:password@host`, `user:password@tcp(host)`: names of databases for drivers.
_DSN: Final = re.compile(r"(?<![\w./:@-])([\w.+-]+:[^\s:/@\"'<>]+)(?=@[\w.-]+(?:[:(/]|$))")
_PARAMETER: Final = re.compile(r"(?<=[?&#])([\w.~%-]+)=([^&;#\s\"'<>]+)")
#: The same in a URL that is the value of a parameter.
_ENCODED: Final = re.compile(r"(?<=%3F|%26|%3f)([\w.~-]{1,80})%3[Dd]((?:(?!%26)[^&;#\s\"'<>])+)")
#: A text in quotation marks, also as a part of a quoted text, where they have backslashes; the last one may be missing.
_QUOTED: Final = r"\"(?:[^\"\\]|\\.)*\"?|'(?:[^'\\]|\\.)*'?|\\{1,6}[\"'][^\"']*[\"']?"
_ASSIGNED: Final = re.compile(
    r"(?:(?<![\w.%?&-])|(?<=(?<![\w-])--))([A-Za-z_][\w.-]*)(\s?=\s?)(?![=%$~*])"
    rf"({_QUOTED}|[^\s&;,\"'(){{}}\[\]]+(?:[^;=\r\n\"']*(?=;|$))?)",
    re.S,
)
_QUOTED_KEY: Final = re.compile(rf"(\\{{0,6}}[\"'])([\w.\- ]{{1,80}})\1(\s*[:,]\s*)({_QUOTED}|-?\d[\d.]*)", re.S)
_JWK_TEXT: Final = re.compile(rf"(\\{{0,6}}[\"'])(k|d|p|q|dp|dq|qi|oth)\1(\s*:\s*)({_QUOTED}|\[[^\]]*(?:\]|\Z))", re.S)
#: `"key": "Authorization", "value": "..."`, and the same as Python shows an object.
_PAIR: Final = re.compile(
    rf"\b(?:name|key|header)(\\{{0,6}}[\"']?)\s*[=:]\s*\\{{0,6}}[\"']([\w-]{{1,80}})\\{{0,6}}[\"'],\s*\1value\1(\s*[=:]\s*)({_QUOTED})",
    re.S,
)
_SCHEME: Final = re.compile(r"\b(bearer|basic|digest|negotiate|apikey|token)(\s+)([\w.~+/-]{6,}=*)", re.I)
_FIELD: Final = re.compile(r"(?<![\w.\]-])([A-Za-z][\w-]*)(:[ \t]+|:(?=[^\s/:]))([^\r\n]+)")
#: An option of a command, and the same as an item of a list.
_OPTION: Final = re.compile(r"(?<![^\s\"'])--([A-Za-z][\w-]*)(\s+)([^\s\"'-][^\s\"']*)")
_FLAG: Final = re.compile(r"--?([A-Za-z][\w-]+)")
#: A field that an expression compares with a text or a list: `headers["x-api-key"] == "..."`, also the other way round.
_SUBSCRIPT: Final = r"(?:[\[(]\s*(?P<mark>\\{0,6}[\"'])(?P<quoted>[\w-]{1,80})(?P=mark)\s*[\])]|\.(?P<plain>\w{1,80}))"
_COMPARED: Final = re.compile(
    rf"{_SUBSCRIPT}\s*(?:[=!]=|=~|!~|\bin\b|\.\w{{1,20}}\()\s*(?P<value>\[[^\]]*\]|{_QUOTED})", re.S
)
_COMPARED_TO: Final = re.compile(rf"(?P<value>\"[^\"]*\"|'[^']*')\s*[=!]=\s*[\w.]{{1,80}}{_SUBSCRIPT}", re.S)
_XML: Final = re.compile(r"<([A-Za-z][\w.:-]{0,80})>([^<]+)(?=</\1>)")
_BLOCK: Final = re.compile(
    r"^([ \t]*)((?:- )?([\w.-]+):[ \t]+[|>][+-]?\d?[ \t]*\n)((?:\1[ \t]+\S.*(?:\n|\Z)|[ \t]*\n)+)", re.M
)
_FLOW: Final = re.compile(r"(?<=[{,])(\s*)([A-Za-z_][\w.-]*)(:[ \t]+)([^\s,{}\[\]\"'][^,{}\n]*)")
_YAML: Final = re.compile(r"^([ \t]*(?:- )?)([\w.-]+)(:[ \t]+)(\S.*)$", re.M)

_Keep = Callable[[object], None]


def ignore_secret(_: object) -> None:
    """For callers that do not collect the secrets."""


def redacted(value: Any, keep: _Keep = ignore_secret) -> Any:
    """A JSON-like value without its secrets. `keep` is called with each secret, a scalar or a part of a text."""
    if isinstance(value, dict):
        return _object(value, keep)
    if isinstance(value, list):
        return _list(value, keep)
    if isinstance(value, tuple):
        return tuple(_list(list(value), keep))
    return redacted_text(value, keep) if isinstance(value, str) else value


def hidden(value: Any, keep: _Keep = ignore_secret) -> Any:
    """A value that is a secret as a whole; flags and empty values stay."""
    if not value or isinstance(value, bool):
        return value
    if value != REDACTED:
        for scalar in _scalars(value):
            keep(scalar)
    return REDACTED


def _scalars(value: Any) -> Iterable[object]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [scalar for item in value for scalar in _scalars(item)]
    return [value]


def _object(value: dict[Any, Any], keep: _Keep) -> dict[Any, Any]:
    folded = {str(key): _folded(str(key)) for key in value}
    is_jwk = not _JWK_PUBLIC.isdisjoint(value)
    is_pair = any(
        folded[str(key)] in _NAME_KEYS and isinstance(item, str) and is_credential(item) for key, item in value.items()
    )
    result: dict[Any, Any] = {}
    for key, item in value.items():
        name = str(key)
        if isinstance(key, str) and not key.isidentifier():
            key = _free_key(redacted_text(key, keep), result)
        if (is_jwk and name in _JWK_PRIVATE) or names_secret(name, item):
            result[key] = hidden(item, keep)
        elif is_pair and folded[name] in _VALUE_KEYS:
            result[key] = _leaves_hidden(item, keep)
        else:
            result[key] = redacted(item, keep)
    return result


def _free_key(key: str, others: dict[Any, Any]) -> str:
    """A key that is none of the others: two that differ in their secrets are still two."""
    return key if key not in others else f"{key} ({len(others) + 1})"


@lru_cache(4096)
def _folded(key: str) -> str:
    return key.lower().replace("_", "").replace("-", "")


def _leaves_hidden(value: Any, keep: _Keep) -> Any:
    if isinstance(value, dict):
        return {key: _leaves_hidden(item, keep) for key, item in value.items()}
    if isinstance(value, list):
        return [_leaves_hidden(item, keep) for item in value]
    return hidden(value, keep)


def _list(items: list[Any], keep: _Keep) -> list[Any]:
    """The items of a list; what follows an option such as `--password` is its value."""
    found = []
    is_value = False
    for item in items:
        found.append(hidden(item, keep) if is_value else _item(item, keep))
        flag = _FLAG.fullmatch(item) if isinstance(item, str) and item.startswith("-") and not is_value else None
        is_value = flag is not None and names_secret(flag.group(1))
    return found


def _item(value: Any, keep: _Keep) -> Any:
    """An item of a list; a list of two texts in it may be a header with its value."""
    if isinstance(value, (list, tuple)) and len(value) == 2 and all(isinstance(part, str) for part in value):
        name, text = value
        if is_credential(name) and not is_header_name(text):
            shown = [name, hidden(text, keep)]
            return tuple(shown) if isinstance(value, tuple) else shown
    return redacted(value, keep)


def redacted_text(text: str, keep: _Keep = ignore_secret) -> str:
    """A text without the secrets that it contains."""
    if _is_encoded_secret(text):
        return str(hidden(text, keep))
    if _MARKS.search(text) is None:
        return text
    found = _redacted_json(text, keep)
    return _redacted_parts(text, keep) if found is None else found


def _is_encoded_secret(text: str) -> bool:
    """Whether a text is Base64 (RFC 4648, either alphabet) of a text that contains a secret."""
    if len(text) < 16 or _BASE64.fullmatch(text) is None:
        return False
    bare = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        decoded = base64.b64decode(bare + "=" * (-len(bare) % 4)).decode()
    except ValueError:
        return False
    return redacted_text(decoded) != decoded


def _redacted_json(text: str, keep: _Keep) -> str | None:
    """A text that is a JSON object or array, redacted like a value; None for any other text."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        value = json.loads(text)
        after = redacted(value, keep)
    except (ValueError, RecursionError):
        return None
    return text if after == value else json.dumps(after)


def _redacted_parts(text: str, keep: _Keep) -> str:
    def whole(match: re.Match[str]) -> str:
        keep(match.group())
        return REDACTED

    def named(match: re.Match[str]) -> str:
        return (
            match.group()
            if not names_secret(match.group(1))
            else match.group(1) + match.group(2) + _quoted(match.group(3), keep)
        )

    text = _PEM.sub(whole, text)
    text = _JWT.sub(whole, text)
    if "_" in text or "-" in text or "slack" in text:
        text = _TOKEN.sub(whole, text)
    text = _USER.sub(lambda match: f"{_part(match.group()[:-1], keep)}@", text)
    text = _DSN.sub(whole, text)
    text = _PARAMETER.sub(lambda match: _parameter(match, keep), text)
    if "%" in text:
        text = _ENCODED.sub(lambda match: _encoded_parameter(match, keep), text)
    if "kty" in text:
        text = _JWK_TEXT.sub(lambda match: _jwk_member(match, keep), text)
    text = _PAIR.sub(lambda match: _pair(match, keep), text)
    text = _QUOTED_KEY.sub(lambda match: _member(match, keep), text)
    if '"' in text or "'" in text:
        text = _COMPARED.sub(lambda match: _compared(match, keep), text)
        text = _COMPARED_TO.sub(lambda match: _compared(match, keep), text)
    text = _ASSIGNED.sub(named, text)
    if "--" in text:
        text = _OPTION.sub(lambda match: _option(match, keep), text)
    if "</" in text:
        text = _XML.sub(lambda match: _element(match, keep), text)
    if "{" in text:
        text = _FLOW.sub(lambda match: _yaml(match, keep), text)
    text = _SCHEME.sub(lambda match: _scheme(match, keep), text)
    text = _FIELD.sub(lambda match: _field(match, keep), text)
    if "\n" in text:
        text = _BLOCK.sub(lambda match: _block(match, keep), text)
        text = _YAML.sub(lambda match: _yaml(match, keep), text)
    return text


def _part(text: str, keep: _Keep) -> str:
    """A part of a text that is a secret; of `user:password` the password is kept too."""
    if text != REDACTED:
        keep(text)
        keep(text.partition(":")[2])
    return REDACTED


def _quoted(text: str, keep: _Keep) -> str:
    """A secret with its quotation marks, if any."""
    bare = text.strip("\\\"'")
    if not bare or bare == REDACTED or bare in ("None", "null", "True", "False", "true", "false"):
        return text
    keep(bare)
    start = text[: len(text) - len(text.lstrip("\\\"'"))]
    end = start if text.endswith(('"', "'")) else ""
    return f"{start}{REDACTED}{end}"


def _parameter(match: re.Match[str], keep: _Keep) -> str:
    name, value = match.group(1), match.group(2)
    if not is_secret_parameter(name) or (value.startswith(("%", "$")) and value.endswith(("%", "}"))):
        return match.group()
    return f"{name}={_part(value, keep)}"


def _encoded_parameter(match: re.Match[str], keep: _Keep) -> str:
    name, value = match.group(1, 2)
    return f"{name}%3D{_part(value, keep)}" if is_secret_parameter(name) else match.group()


def _compared(match: re.Match[str], keep: _Keep) -> str:
    """`headers["x-api-key"] == "a"`, `headers["x-api-key"] in ["a", "b"]`."""
    value = match["value"]
    if not is_credential(match["quoted"] or match["plain"]):
        return match.group()
    start, end = match.start("value") - match.start(), match.end("value") - match.start()
    shown = f"[{_part(value[1:-1], keep)}]" if value.startswith("[") else _quoted(value, keep)
    return match.group()[:start] + shown + match.group()[end:]


def _option(match: re.Match[str], keep: _Keep) -> str:
    """`--token a1`. What follows may also be a sentence about the option."""
    name, space, value = match.group(1, 2, 3)
    is_word = value.isalpha() and value.islower() and len(value) < 20
    return match.group() if is_word or not names_secret(name) else f"--{name}{space}{_part(value, keep)}"


def _element(match: re.Match[str], keep: _Keep) -> str:
    """`<password>a`, the beginning of an XML element."""
    name, value = match.group(1, 2)
    return f"<{name}>{_part(value, keep)}" if names_secret(name) else match.group()


def _block(match: re.Match[str], keep: _Keep) -> str:
    """A text of several lines in YAML."""
    indent, head, name, lines = match.group(1, 2, 3, 4)
    return f"{indent}{head}{indent}  {_part(lines.strip(), keep)}\n" if names_secret(name) else match.group()


def _jwk_member(match: re.Match[str], keep: _Keep) -> str:
    mark, name, colon, value = match.group(1, 2, 3, 4)
    return f"{mark}{name}{mark}{colon}{_quoted(value, keep)}"


def _pair(match: re.Match[str], keep: _Keep) -> str:
    if not is_credential(match.group(2)):
        return match.group()
    return match.group()[: match.start(4) - match.start()] + _quoted(match.group(4), keep)


def _member(match: re.Match[str], keep: _Keep) -> str:
    """`"name": "value"`, also as Python shows it, and `'name', 'value'`."""
    mark, name, between, value = match.group(1, 2, 3, 4)
    is_pair = "," in between
    bare = value.strip("\\\"'")
    is_secret = is_credential(name) and not is_header_name(bare) if is_pair else names_secret(name, bare)
    if not is_secret:
        return match.group()
    return f"{mark}{name}{mark}{between}{_quoted(value, keep)}"


def _scheme(match: re.Match[str], keep: _Keep) -> str:
    """`Bearer abc1`: a credential in the form of RFC 9110 section 11.4. Words of a sentence have no digits or capitals."""
    scheme, space, value = match.group(1, 2, 3)
    if value.islower() and len(value) < 20:
        return match.group()
    return f"{scheme}{space}{_part(value, keep)}"


def _field(match: re.Match[str], keep: _Keep) -> str:
    """`Cookie: a=b`, a field of a message."""
    name, colon, value = match.group(1, 2, 3)
    if not is_credential(name) or ("-" not in name and name.lower() not in ("authorization", "cookie")):
        return match.group()
    return f"{name}{colon}{_part(value, keep)}"


def _yaml(match: re.Match[str], keep: _Keep) -> str:
    """A line of YAML in a text of several lines."""
    start, name, colon, value = match.group(1, 2, 3, 4)
    if value.rstrip() in ("|", ">", "|-", ">-", "|+", ">+"):
        return match.group()
    return f"{start}{name}{colon}{_quoted(value, keep)}" if names_secret(name, value) else match.group()


class KnownSecrets:
    """Secrets that are removed from texts wherever they occur, besides those that `redacted_text` finds."""

    def __init__(self) -> None:
        self._exact: set[str] = set()
        self._forms: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def add(self, value: object) -> None:
        """Adds a secret."""
        text = str(value)
        if text in self._exact or text == REDACTED or not text:
            return
        self._exact.add(text)
        if len(text) >= SHORTEST and not ((text.isalpha() or text.isdigit()) and len(text) < SHORTEST_WORD):
            self._forms.update((text, ascii(text)[1:-1], json.dumps(text)[1:-1], repr(f"'{text}\"")[3:-2]))
            self._pattern = None

    def read(self, value: Any) -> None:
        """Adds the secrets of a JSON-like value."""
        redacted(value, self.add)

    def has(self, value: object) -> bool:
        """Whether a value is one of them."""
        return str(value) in self._exact

    def hide(self, text: str) -> str:
        """`text` without secrets."""
        if self._forms:
            if self._pattern is None:
                longest_first = sorted(self._forms, key=len, reverse=True)
                self._pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")
            text = self._pattern.sub(REDACTED, text)
        return redacted_text(text)
