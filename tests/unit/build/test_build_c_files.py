"""mypyc's C files, made independent of each other."""

from build_c_files import LITERALS, separate

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


#: As mypyc writes the functions of a class that interpreted classes may extend.
SLOTS = """\
static CPyVTableItem m___Base_vtable_shadow[1];
static int
m___Base_traverse(m___BaseObject *self, visitproc visit, void *arg)
{
    int rv = 0;
    return rv;
}

static void
m___Base_dealloc(m___BaseObject *self)
{
    Py_TYPE(self)->tp_free((PyObject *)self);
    done: ;
}
"""


def test_an_object_releases_its_type_if_that_is_an_interpreted_subclass() -> None:
    text = made_of(SLOTS)["__native_m.c"]
    assert "{\n    if (Py_TYPE(self) != CPyType_m___Base) Py_VISIT(Py_TYPE(self));\n    int rv = 0;" in text
    assert (
        "{\n    PyTypeObject *own_type = Py_TYPE(self);\n    Py_TYPE(self)->tp_free((PyObject *)self);\n"
        "    if (own_type != CPyType_m___Base) Py_DECREF(own_type);\n    done: ;" in text
    )
    final = SLOTS.replace("vtable_shadow", "vtable")
    assert final in made_of(final)["__native_m.c"]
