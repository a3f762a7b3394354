"""Converts YAML to the same nodes as JSON: PyYAML parses the structure, plain values are read here.

Plain values are interpreted as in MOSN (ghodss/yaml over go-yaml v2): YAML 1.1 booleans; `0x10` and `1e3` are numbers;
`12:30` and dates stay strings; all keys are strings.
"""

import re
from collections.abc import Iterator
from typing import Final

import yaml

from pymosn.config.nodes import DEEPEST, Entry, Node, ParseError, Repeated, Scalar, kind_of

# A few lines of nested aliases ("billion laughs") can expand to any number of values; a regular text has fewer values than
# characters.
_MOST_NODES_PER_CHARACTER: Final = 10
_WORDS: Final[dict[str, Scalar]] = {
    **dict.fromkeys(("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
}
_INT: Final = re.compile(r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0o?[0-7_]+|0|[1-9][0-9_]*)")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_SCALAR_TAGS: Final = frozenset({"str", "null", "bool", "int", "float", "timestamp", "value"})
_PREFIX: Final = "tag:yaml.org,2002:"


def parse_yaml(text: str) -> tuple[Node, list[Repeated]]:
    """The node tree of a YAML text, and the duplicate keys of its mappings. Raises ParseError."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = ": ".join(part for part in (error.context, error.problem) if part) or "not YAML"
        raise ParseError(message, mark.line + 1 if mark else 0, mark.column + 1 if mark else 0) from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, error.position - before.rfind("\n")
        raise ParseError(f"the character #x{error.character:04x} is not allowed", line, column) from None
    except RecursionError:
        raise ParseError(f"nested deeper than {DEEPEST} levels") from None
    except (ValueError, OverflowError) as error:
        raise ParseError(f"not YAML: {error}") from None
    if root is None:
        raise ParseError("the file is empty")
    builder = _Builder(len(text) * _MOST_NODES_PER_CHARACTER)
    return builder.node(root, 0), builder.repeated


class _Builder:
    def __init__(self, most_nodes: int) -> None:
        self._most_nodes = most_nodes
        self._resolver = yaml.resolver.Resolver()
        self.repeated: list[Repeated] = []
        self._count = 0

    def node(self, source: yaml.Node, depth: int) -> Node:
        line, column = _place(source)
        self._count += 1
        if self._count > self._most_nodes:
            raise ParseError(f"more than {self._most_nodes} values; are aliases nested?", line, column)
        if depth > DEEPEST:
            raise ParseError(f"nested deeper than {DEEPEST} levels", line, column)
        if isinstance(source, yaml.ScalarNode):
            value = self._scalar(source)
            return Node(kind_of(value), line, column, value)
        if isinstance(source, yaml.SequenceNode):
            _expect_tag(source, "seq")
            return Node("array", line, column, items=[self.node(item, depth + 1) for item in source.value])
        assert isinstance(source, yaml.MappingNode)
        _expect_tag(source, "map")
        return self._mapping(source, depth)

    def _scalar(self, source: yaml.ScalarNode) -> Scalar:
        text = _characters(source.value)
        kind = source.tag.removeprefix(_PREFIX)
        if kind not in _SCALAR_TAGS:
            raise ParseError(f"the tag {source.tag} is not supported", *_place(source))
        plain_tag = self._resolver.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
        if kind == "str" and (source.style is not None or plain_tag != source.tag):
            # Quoted, or tagged as a string although unquoted it would have another type.
            return text
        try:
            return _plain(text)
        except OverflowError:
            raise ParseError("the number is too large", *_place(source)) from None

    def _mapping(self, source: yaml.MappingNode, depth: int) -> Node:
        own: dict[str, Entry] = {}
        merged: dict[str, Entry] = {}
        for key_node, value_node in source.value:
            line, column = _place(key_node)
            if key_node.tag == _PREFIX + "merge":
                for base in self._bases(value_node, depth + 1):
                    for entry in base.entries:
                        merged.setdefault(entry.key, entry)
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise ParseError("a key must be a plain string", line, column)
            key = _characters(key_node.value)
            if key in own:
                self.repeated.append(Repeated(key, line, column, own[key].line))
            own[key] = Entry(key, line, column, self.node(value_node, depth + 1))
        # The mapping's keys come first and take precedence over merged ones.
        return Node("object", *_place(source), entries=list({**own, **merged, **own}.values()))

    def _bases(self, source: yaml.Node, depth: int) -> Iterator[Node]:
        """The mappings of a merge key (`<<`)."""
        sources = source.value if isinstance(source, yaml.SequenceNode) else [source]
        for base in sources:
            if not isinstance(base, yaml.MappingNode):
                raise ParseError("`<<` requires a mapping or a list of mappings", *_place(base))
            yield self.node(base, depth)


def _characters(text: str) -> str:
    """`text` without surrogates, which escapes may contain: pairs are characters, and others are replaced, as in JSON."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _place(source: yaml.Node) -> tuple[int, int]:
    return source.start_mark.line + 1, source.start_mark.column + 1


def _expect_tag(source: yaml.Node, name: str) -> None:
    if source.tag != _PREFIX + name:
        raise ParseError(f"the tag {source.tag} is not supported", *_place(source))


def _plain(text: str) -> Scalar:
    if text in _WORDS:
        return _WORDS[text]
    digits = text.replace("_", "")
    if _INT.fullmatch(text):
        try:
            return _integer(digits)
        except ValueError:
            # "0x" or thousands of digits: a string in Go too.
            return text
    if _FLOAT.fullmatch(text):
        value = float(digits)
        if value in (float("inf"), float("-inf")):
            raise OverflowError
        return value
    return text


def _integer(digits: str) -> int:
    sign, body = (-1, digits[1:]) if digits.startswith("-") else (1, digits.removeprefix("+"))
    if len(body) > 1 and body[0] == "0" and body[1] in "01234567":
        return sign * int(body, 8)
    value = int(body, 0)
    # Raises OverflowError for numbers beyond the range of Go.
    float(value)
    return sign * value
