"""Extensions of the process: `extends`."""

from pymosn.config.diagnostics import Diagnostics
from pymosn.config.schema import MosnConfig, absent
from pymosn.config.schema.extensions import PYTHON, PythonExtension
from pymosn.config.typed import typed
from pymosn.filters.loading import EXTENSIONS, installed


def check_extensions(config: MosnConfig, report: Diagnostics) -> None:
    """Reports extensions that cannot run."""
    seen: set[str] = set()
    for i, extend in enumerate(config.extends):
        path = f"extends[{i}]"
        if extend.type == PYTHON:
            settings = typed(extend.config if isinstance(extend.config, dict) else {}, PythonExtension)
            _check_python(settings, f"{path}.config", report)
            if settings.known_name() in seen:
                report.error(path, "another extension has the same name", settings.known_name())
            seen.add(settings.known_name())
        else:
            instead = absent.EXTENSIONS.get(extend.type)
            if instead is not None:
                report.warning(f"{path}.type", instead, extend.type)
            else:
                message = "compiled into MOSN; has no effect here"
                report.warning(f"{path}.type", message, extend.type, (PYTHON, *absent.EXTENSIONS))


def _check_python(config: PythonExtension, path: str, report: Diagnostics) -> None:
    """A file and a class in it, or the name of an installed one."""
    if config.name:
        if config.path or config.class_:
            report.error(f"{path}.name", "an installed extension has neither `path` nor `class`", config.name)
        elif config.name not in (known := installed(EXTENSIONS)):
            report.error(f"{path}.name", "no installed package offers an extension of that name", config.name, known)
        return
    if not config.path:
        report.error(f"{path}.path", "a python extension needs the path of a Python file, or the `name` of an installed one")
    if not config.class_:
        report.error(f"{path}.class", "a python extension needs the name of a class in its file")
    elif not config.class_.isidentifier():
        report.error(f"{path}.class", "not a class name", config.class_)
