"""Makes each of mypyc's C files depend only on what it uses.

As mypyc writes them, all files include one header with the declarations of all modules, and take literals from one array by
their number among those of all modules. So a new literal or function in one module would compile every file again. Here
each file gets only the declarations that it uses, and its own array of literals, which a small file fills at the start.

It also corrects what mypyc writes for objects of interpreted subclasses: see `_with_counted_types`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

#: The file that fills the arrays of literals.
LITERALS: Final = "__native_literals.c"
_NAME: Final = re.compile(r"\w+")
_LITERAL: Final = re.compile(r"(?<!PyObject \*)\bCPyStatics\[(\d+)\]")
_BLOCK: Final = re.compile(r"#ifndef .*?^#endif$|^typedef struct.*?^\} ?\w+;$", re.MULTILINE | re.DOTALL)
#: The functions that traverse and free an object, with the prefix of its class.
_SLOT: Final = re.compile(r"^static (?:void|int)\n(\w+)_(?:dealloc|traverse)\(.*?^\}$", re.MULTILINE | re.DOTALL)
_INCLUDE: Final = re.compile(r"^#include .*$", re.MULTILINE)
_FILL: Final = """\
static void fill(PyObject **to, const int *numbers, int count)
{
    for (int i = 0; i < count; i++) to[i] = CPyStatics[numbers[i]];
}

int CPyStatics_InitializeAll(PyObject **statics, const char * const *strings, const char * const *bytestrings,
                             const char * const *ints, const double *floats, const double *complex_numbers,
                             const int *tuples, const int *frozensets)
{
    if (CPyStatics_Initialize(statics, strings, bytestrings, ints, floats, complex_numbers, tuples, frozensets) < 0)
        return -1;
"""


class Declarations:
    """What mypyc's two headers declare: types, and functions and variables, each in the order in which they must stand."""

    def __init__(self, types: str, functions: str) -> None:
        headers = (types, functions)
        found = [line for text in headers for line in _INCLUDE.findall(text) if "__native" not in line]
        self._includes = list(dict.fromkeys(found))
        body = types[types.index("#include") :]
        self._types = [(_type_name(block), block) for block in _BLOCK.findall(body)]
        self._externs = [(_extern_name(line), line) for line in functions.splitlines() if line.startswith("extern ")]

    def used_by(self, text: str) -> str:
        """The declarations that `text` needs."""
        names = set(_NAME.findall(text))
        externs = [line for name, line in self._externs if name in names]
        names.update(*map(_NAME.findall, externs))
        types = []
        for name, block in reversed(self._types):
            if name in names:
                types.append(block)
                names.update(_NAME.findall(block))
        # What is declared hidden is reached directly, not by way of the table of global symbols.
        hidden = ["#pragma GCC visibility push(hidden)", "int CPyGlobalsInit(void);", *externs, "#pragma GCC visibility pop"]
        return "\n".join([*self._includes, *reversed(types), *hidden, ""])


def separate(files: Mapping[str, str], types: str, functions: str) -> dict[str, str]:
    """The C files with nothing of the two headers but what each of them uses, and the file that fills their literals."""
    declarations = Declarations(types, re.sub(r"\bCPyStatics\[\d+\]", "CPyStatics[]", functions))
    made: dict[str, str] = {}
    literals: dict[str, list[int]] = {}
    for name, text in files.items():
        code = "\n".join(line for line in text.splitlines() if not line.startswith('#include "__native'))
        array = f"CPyStatics_{name.removeprefix('__native_').removesuffix('.c')}"
        code, literals[array] = _with_own_literals(code, array)
        code = _with_counted_types(code.replace("CPyStatics_Initialize(", "CPyStatics_InitializeAll("))
        made[name] = declarations.used_by(code) + _hidden(_literal_declarations(array, literals[array])) + code + "\n"
    made[LITERALS] = _literals_file(literals)
    return made


def _with_counted_types(code: str) -> str:
    """The code with functions that visit and release the type of an object, if that is an interpreted subclass.

    Such an object holds a reference to its type. CPython leaves it to the base's functions, because the base is a heap type.
    As mypyc writes them, each object would keep its type for ever, and thus everything in the module of a replaced filter.
    """
    return _SLOT.sub(lambda match: _with_counted_type(match[0], match[1], code), code)


def _with_counted_type(function: str, name: str, code: str) -> str:
    frees = re.search(
        r"^( +)(?:Py_TYPE\(self\)->tp_free|_base_tp_dealloc->tp_dealloc)\(\(PyObject \*\)self\);\n", function, re.M
    )
    is_base = f"{name}_vtable_shadow[" in code or f"CPyType_{name}->tp_base" in code  # the latter are exceptions
    if not is_base:
        return function
    if frees is None:
        return function.replace("{\n", f"{{\n    if (Py_TYPE(self) != CPyType_{name}) Py_VISIT(Py_TYPE(self));\n", 1)
    releases = f"    if (own_type != CPyType_{name}) Py_DECREF(own_type);\n"
    start, end = frees.span()
    return f"{function[:start]}    PyTypeObject *own_type = Py_TYPE(self);\n{frees[0]}{releases}{function[end:]}"


def _with_own_literals(code: str, array: str) -> tuple[str, list[int]]:
    """The code with literals out of `array`, and their numbers among all."""
    places: dict[str, int] = {}
    changed = _LITERAL.sub(lambda match: f"{array}[{places.setdefault(match[1], len(places))}]", code)
    return changed, [int(number) for number in places]


def _literal_declarations(array: str, numbers: list[int]) -> Iterable[str]:
    yield "int CPyStatics_InitializeAll(PyObject **, const char * const *, const char * const *, const char * const *,"
    yield "                             const double *, const double *, const int *, const int *);"
    if numbers:
        yield f"extern PyObject *{array}[];"


def _literals_file(literals: Mapping[str, list[int]]) -> str:
    used = {array: numbers for array, numbers in literals.items() if numbers}
    lines = ["extern PyObject *CPyStatics[];"]
    for array, numbers in used.items():
        lines.append(f"PyObject *{array}[{len(numbers)}];")
        lines.append(f"static const int {array}_numbers[] = {{{', '.join(map(str, numbers))}}};")
    calls = [f"    fill({array}, {array}_numbers, {len(numbers)});" for array, numbers in used.items()]
    return "#include <Python.h>\n#include <CPy.h>\n" + _hidden([*lines, _FILL + "\n".join([*calls, "    return 0;", "}"])])


def _hidden(lines: Iterable[str]) -> str:
    return "\n".join(["#pragma GCC visibility push(hidden)", *lines, "#pragma GCC visibility pop", ""])


def _type_name(block: str) -> str:
    """`Name` of `typedef struct {...} Name;`."""
    return _NAME.findall(block[block.rindex("}") :])[0]


def _extern_name(line: str) -> str:
    """The last name before the arguments, the size, or the end."""
    return _NAME.findall(re.split(r"[(\[;]", line, maxsplit=1)[0])[-1]
