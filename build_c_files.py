"""Makes each of mypyc's C files depend only on what it uses.

As mypyc writes them, all files include one header with the declarations of all modules, and take literals from one array by
their number among those of all modules. So a new literal or function in one module would compile every file again. Here
each file gets only the declarations that it uses, and its own array of literals, which a small file fills at the start.

It also mends the deallocators of classes that filters extend (`with_freed_types`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

#: The file that fills the arrays of literals.
LITERALS: Final = "__native_literals.c"
#: Classes that the code of filters extends. It is replaced while the process runs, so its classes must be freed.
EXTENDED: Final = ("StreamFilter", "Transcoder")
_DEALLOCATOR: Final = re.compile(
    rf"^(\w+___(?:{'|'.join(EXTENDED)}))_dealloc\(\w+ \*self\)\n\{{.*?^\}}", re.MULTILINE | re.DOTALL
)
_FREE: Final = "    Py_TYPE(self)->tp_free((PyObject *)self);\n"
_NAME: Final = re.compile(r"\w+")
_LITERAL: Final = re.compile(r"(?<!PyObject \*)\bCPyStatics\[(\d+)\]")
_BLOCK: Final = re.compile(r"#ifndef .*?^#endif$|^typedef struct.*?^\} ?\w+;$", re.MULTILINE | re.DOTALL)
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
        text = with_freed_types(text)
        code = "\n".join(line for line in text.splitlines() if not line.startswith('#include "__native'))
        array = f"CPyStatics_{name.removeprefix('__native_').removesuffix('.c')}"
        code, literals[array] = _with_own_literals(code, array)
        code = code.replace("CPyStatics_Initialize(", "CPyStatics_InitializeAll(")
        made[name] = declarations.used_by(code) + _hidden(_literal_declarations(array, literals[array])) + code + "\n"
    made[LITERALS] = _literals_file(literals)
    return made


def with_freed_types(text: str) -> str:
    """The code with a reference to the type given up by each instance of an interpreted subclass that is freed.

    The interpreter takes that reference when it makes the instance, and leaves it to the deallocator of a base class that
    is made at run time to give it up. mypyc's does not, so that no such class would ever be freed, nor its module.
    """

    def mended(match: re.Match[str]) -> str:
        if "Py_DECREF(" in match[0]:  # a mypyc that does
            return match[0]
        free = (
            "    PyTypeObject *its_type = Py_TYPE(self);\n    its_type->tp_free((PyObject *)self);\n"
            f"    if (its_type != CPyType_{match[1]}) Py_DECREF(its_type);\n"
        )
        return match[0].replace(_FREE, free)

    return _DEALLOCATOR.sub(mended, text)


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
