"""Handlers that may catch errors of foreign code: they do not ask these for their text, and they miss none."""

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "pymosn"

#: Handlers of Exception, by file and function: what they call is pymosn's own, or a library in Python.
OWN = {
    ("control/certificates.py", "_tolerant"),
    ("control/expiry.py", "_run"),
    ("control/guard.py", "__call__"),
    ("control/live/sampler.py", "_run"),
    ("control/live/versions.py", "_record_all"),
    ("control/tracing/otel.py", "_export"),
    ("control/tracing/pipeline.py", "_deliver"),
    ("control/xds/accepting.py", "_convert"),
    ("control/xds/client.py", "_connect_for_ever"),
    ("control/xds/client.py", "accept"),
    ("control/xds/files.py", "_watch"),
    ("kit/replay.py", "_one"),
    ("recording/bodies.py", "without_codings"),
    ("routing/expressions.py", "__init__"),
    ("routing/expressions.py", "matches"),
    ("server/metrics_sinks.py", "_scrape"),
    ("server/services.py", "_stop"),
    ("server/services.py", "_follow"),
    ("server/source_watch.py", "run"),
    ("server/trace_report.py", "send_all"),
    ("server/upgrade/predecessor.py", "_attempt"),
    ("testing/world.py", "_deliver"),
}


#: Functions that ask an object for more than its type.
TEXT = ("str", "repr", "isinstance")


def handlers(*kinds: str) -> Iterator[tuple[str, str, ast.ExceptHandler]]:
    """The handlers of one of these kinds: file, function, handler."""
    for path in sorted(SOURCE.rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text())):
            if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            for node in ast.walk(function):
                if isinstance(node, ast.ExceptHandler) and isinstance(node.type, ast.Name) and node.type.id in kinds:
                    yield str(path.relative_to(SOURCE)), function.name, node


def asks_for_text(handler: ast.ExceptHandler) -> bool:
    """Whether it formats its error, or reads one of its attributes, instead of leaving that to `core/errors.py`."""

    def is_error(node: ast.AST) -> bool:
        return isinstance(node, ast.Name) and node.id == handler.name

    for node in ast.walk(handler):
        if isinstance(node, (ast.FormattedValue, ast.Attribute)) and is_error(node.value):
            return True
        is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in TEXT
        if is_call and any(is_error(argument) for argument in node.args):
            return True
    return False


def test_no_handler_asks_a_foreign_error_for_its_text() -> None:
    found = list(handlers("BaseException", "Exception"))
    assert len(found) > 30
    assert [f"{file}:{handler.lineno}" for file, _, handler in found if asks_for_text(handler)] == []


def test_foreign_errors_are_more_than_exceptions() -> None:
    assert {(file, function) for file, function, _ in handlers("Exception")} == OWN


def test_the_rule_finds_what_it_is_for() -> None:
    wrong = ["f'{error}'", "str(error)", "repr(error)", "error.args", "isinstance(error, ValueError)"]
    for text in wrong:
        tree = ast.parse(f"try:\n    call()\nexcept BaseException as error:\n    x = {text}\n")
        (handler,) = [node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)]
        assert asks_for_text(handler), text
