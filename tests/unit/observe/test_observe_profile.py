"""Profiles as pprof's messages (read by Google's library), folded lines, tables and flame graphs."""

from pathlib import Path
from xml.etree import ElementTree

from tests.kit.pprof_reader import read_pprof

from pymosn.observe.code_names import CodeNames
from pymosn.observe.flame import as_flame
from pymosn.observe.profile import Call, Profile, Stack, as_folded, as_pprof, as_table, module_name, quantity

BURN = Call("filters.burn", "/f/filters.py", 3)
BURN_LATER = Call("filters.burn", "/f/filters.py", 4)
PHASE = Call("filters.on_request", "/f/filters.py", 900)
RUN = Call("pymosn.server.worker.run", "/p/pymosn/server/worker.py", 5)
LOOP = Call("[event loop]", "", 0)


def profile(*samples: tuple[Stack, tuple[int, ...]], notes: tuple[str, ...] = ()) -> Profile:
    values = [("samples", "count"), ("cpu", "nanoseconds")]
    return Profile(values, list(samples), ("cpu", "nanoseconds", 10_000_000), 1_700_000_000.5, 2.5, list(notes))


BUSY = profile(
    ((BURN, PHASE, RUN), (30, 300_000_000)),
    ((BURN_LATER, PHASE, RUN), (20, 200_000_000)),
    ((LOOP, RUN), (50, 500_000_000)),
    notes=("1 stacks were lost",),
)


def test_pprof_has_all_stacks_with_functions_files_lines_and_numbers() -> None:
    read = read_pprof(as_pprof(BUSY))
    assert read.types == [("samples", "count"), ("cpu", "nanoseconds")]
    assert read.period == ("cpu", "nanoseconds", 10_000_000)
    assert (read.seconds, read.comments, read.default) == (2.5, ["1 stacks were lost"], "cpu")
    assert read.samples == [([tuple(call) for call in stack], list(numbers)) for stack, numbers in BUSY.samples]


def test_pprof_of_an_empty_profile_and_of_a_large_one() -> None:
    assert read_pprof(as_pprof(profile())).samples == []
    many = profile(*(((Call(f"f{i}", "\u00e4.py", i), RUN), (i, 2**40 + i)) for i in range(5000)))
    assert read_pprof(as_pprof(many)).samples[-1] == ([("f4999", "\u00e4.py", 4999), tuple(RUN)], [4999, 2**40 + 4999])


def test_folded_lines_join_equal_stacks() -> None:
    assert as_folded(BUSY) == (
        "pymosn.server.worker.run;filters.on_request;filters.burn 500000000\n"
        "pymosn.server.worker.run;[event loop] 500000000\n"
    )


def test_the_table_has_own_and_cumulative_shares() -> None:
    lines = as_table(BUSY).splitlines()
    assert lines[:2] == ["1 stacks were lost", "1.00 s in 2.5 s"]
    rows = [line.split() for line in lines[3:]]
    assert ["0.50", "s", "50.0%", "0.50", "s", "50.0%", "filters.burn", "/f/filters.py"] in rows
    assert ["0.00", "s", "0.0%", "1.00", "s", "100.0%", "pymosn.server.worker.run", "/p/pymosn/server/worker.py"] in rows
    assert as_table(profile()).startswith("0.00 s in 2.5 s\n")


def test_a_recursive_function_counts_once() -> None:
    assert "0.10 s 100.0%     0.10 s 100.0%  filters.burn" in as_table(profile(((BURN, BURN, BURN), (10, 100_000_000))))


def boxes(text: str) -> dict[str, tuple[float, float, float]]:
    """The title's first line of each box -> left edge, top, width."""
    root = ElementTree.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    found = {}
    for group in root.findall(f"{space}g"):
        title, box = group.find(f"{space}title"), group.find(f"{space}rect")
        assert title is not None
        assert title.text is not None
        assert box is not None
        found[title.text.partition("\n")[0]] = (float(box.attrib["x"]), float(box.attrib["y"]), float(box.attrib["width"]))
    return found


def test_a_flame_graph_has_a_box_for_each_function_as_wide_as_its_share_above_its_caller() -> None:
    found = boxes(as_flame(BUSY, "CPU <of> worker 1"))
    assert set(found) == {"CPU <of> worker 1", RUN.function, PHASE.function, BURN.function, "[event loop]"}
    assert found[RUN.function][2] == found["CPU <of> worker 1"][2] == 1180.0
    assert found[BURN.function][2] == found[PHASE.function][2] == found["[event loop]"][2] == 590.0
    tops = [found[name][1] for name in ("CPU <of> worker 1", RUN.function, PHASE.function, BURN.function)]
    assert tops == sorted(tops, reverse=True)
    assert found[PHASE.function][1] == found["[event loop]"][1]
    assert {found[PHASE.function][0], found["[event loop]"][0]} == {10.0, 600.0}


def test_a_flame_graph_of_strange_names_is_valid_and_bounded() -> None:
    odd = Call('a<b>&"c"\x00\x1b\ud800', "<&>", 1)
    deep = tuple(Call(f"f{i}", "x.py", i) for i in range(500))
    text = as_flame(profile(((odd,), (1, 1)), (deep, (1, 1))), "t").encode("utf-8", "strict").decode()
    assert len(boxes(text)) < 200
    many = profile(*(((Call(f"f{i}", "x.py", i),), (1, 1)) for i in range(30_000)))
    assert len(as_flame(many, "t")) < 2_000_000
    assert "0.00 s of cpu" in as_flame(profile(), "t")


def test_modules_are_named_by_the_longest_root() -> None:
    roots = ["/a", "/a/b", "", "/c/"]
    assert module_name("/a/b/c/d.py", roots) == "c.d"
    assert module_name("/a/pkg/__init__.py", roots) == "pkg"
    assert module_name("/c/x.py", roots) == "x"
    assert module_name("/else/where/filters.py", roots) == "filters"
    assert module_name("/a/not-a-name/m.py", roots) == "m"
    assert module_name("<frozen runpy>", roots) == "runpy"


def test_quantities() -> None:
    assert [quantity(n, "bytes") for n in (10, 2048, 3 << 20)] == ["10 B", "2.0 KiB", "3.0 MiB"]
    assert (quantity(1_500_000_000, "nanoseconds"), quantity(7, "count")) == ("1.50 s", "7")


def test_functions_are_named_by_the_source(tmp_path: Path) -> None:
    path = tmp_path / "f.py"
    path.write_text("import os\n\n\ndef outer():\n    def inner():\n        return 1\n    return inner\n\n\nx = 1\n")
    names = CodeNames()
    assert [names.at(str(path), line) for line in (1, 4, 6, 7, 10)] == ["<module>", "outer", "inner", "outer", "<module>"]
    bad = tmp_path / "bad.py"
    bad.write_text("def (")
    for file in (str(bad), str(tmp_path / "missing.py"), "<frozen x>", str(tmp_path)):
        assert names.at(file, 7) == "line 7"
