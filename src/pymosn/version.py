"""The version, and which build of the data path runs."""

VERSION = "0.1.0"


def build() -> str:
    """`compiled` when the data path is mypyc's, `interpreted` when it is plain Python."""
    from pymosn.core import headers

    return "interpreted" if str(headers.__file__).endswith(".py") else "compiled"
