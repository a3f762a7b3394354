"""The version, and the kind of build of the data path."""

VERSION = "0.1.0"


def build() -> str:
    """`compiled` if the data path was compiled by mypyc, else `interpreted`."""
    from pymosn.core import headers

    return "interpreted" if str(headers.__file__).endswith(".py") else "compiled"
