"""mypyc's C files, made independent of each other."""

import pytest
from build_c_files import EXTENDED, LITERALS, separate, with_freed_types

TYPES = """\
#ifndef MYPYC_NATIVE_x_H
#define MYPYC_NATIVE_x_H
#include <Python.h>
#ifndef MYPYC_DECLARED_tuple_T1O
#define MYPYC_DECLARED_tuple_T1O
typedef struct tuple_T1O {
    PyObject *f0;
} tuple_T1O;
#endif

typedef struct {
    PyObject_HEAD
    tuple_T1O _pair;
} x___HostObject;

typedef struct {
    PyObject_HEAD
} x___OtherObject;

#endif
"""
FUNCTIONS = """\
#include <Python.h>
#include "__native_x.h"

extern PyObject *CPyStatics[7];
extern x___HostObject *CPyDef_host(PyObject *cpy_r_a, char cpy_r_b);
extern char CPyDef_other(x___OtherObject *cpy_r_a);
#endif
"""
INCLUDES = '#include "__native_x.h"\n#include "__native_internal_x.h"\n'
GROUP_FILE = (
    INCLUDES
    + "PyObject *CPyStatics[7];\nint CPyGlobalsInit(void) { return CPyStatics_Initialize(CPyStatics, CPyLit_Str); }\n"
)


def made_of(code: str) -> dict[str, str]:
    return separate({"__native_x.c": GROUP_FILE, "__native_m.c": INCLUDES + code}, TYPES, FUNCTIONS)


def test_a_file_gets_what_it_uses_and_the_types_of_that_in_their_order() -> None:
    text = made_of("void *m(void) { return CPyDef_host(0, 1); }\n")["__native_m.c"]
    assert "__native" not in text
    assert "extern x___HostObject *CPyDef_host(PyObject *cpy_r_a, char cpy_r_b);" in text
    assert text.index("} tuple_T1O;") < text.index("} x___HostObject;") < text.index("CPyDef_host(0, 1)")
    assert "Other" not in text
    assert "CPyDef_other" not in text


def test_literals_are_numbered_within_a_file() -> None:
    made = made_of("m = CPyStatics[5]; n = CPyStatics[3]; o = CPyStatics[5];\n")
    assert "m = CPyStatics_m[0]; n = CPyStatics_m[1]; o = CPyStatics_m[0];" in made["__native_m.c"]
    assert "PyObject *CPyStatics_m[2];" in made[LITERALS]
    assert "CPyStatics_m_numbers[] = {5, 3};" in made[LITERALS]
    assert "fill(CPyStatics_m, CPyStatics_m_numbers, 2);" in made[LITERALS]


def test_numbers_of_others_change_no_file_but_that_of_the_literals() -> None:
    before = made_of("m = CPyStatics[5];\n")
    after = made_of("m = CPyStatics[6];\n")
    assert {name for name in before if before[name] != after[name]} == {LITERALS}


def test_all_literals_stay_in_one_array_whose_start_fills_the_others() -> None:
    text = made_of("")["__native_x.c"]
    assert "PyObject *CPyStatics[7];" in text
    assert "return CPyStatics_InitializeAll(CPyStatics, CPyLit_Str);" in text


DEALLOCATOR = """\
static void
m___NAME_dealloc(m___NAMEObject *self)
{
    PyObject_GC_UnTrack(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
    done: ;
}
"""


@pytest.mark.parametrize("name", EXTENDED)
def test_instances_of_classes_that_filters_extend_give_up_their_type(name: str) -> None:
    text = DEALLOCATOR.replace("NAME", name)
    mended = with_freed_types(text)
    assert f"if (its_type != CPyType_m___{name}) Py_DECREF(its_type);" in mended
    assert with_freed_types(mended) == mended, "a mypyc that does it itself is left alone"


def test_those_of_other_classes_do_not() -> None:
    text = DEALLOCATOR.replace("NAME", "HttpRequest")
    assert with_freed_types(text) == text
