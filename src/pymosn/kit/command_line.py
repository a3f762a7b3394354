"""The command line by the rules of Go's `flag` package and of MOSN, on top of click's.

Each option may be written with one dash or two, and its value after a space or an equals sign: `-config F`, `--c=F`. Options
of `start` may be given without a command. What click accepts besides (`-cF`) stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import click

from pymosn.config.feature_gates import go_bool

_FLAG: Final = re.compile(r"--?([^-=][^=]*)(?:=(.*))?", re.DOTALL)
#: An integer in Go's syntax, without its sign: underscores only as in 0x_1 and 1_000, and a zero before means octal.
_DIGITS: Final = re.compile(r"0[xX](_?[0-9a-fA-F])+|0[bB](_?[01])+|0[oO]?(_?[0-7])+|0|[1-9](_?[0-9])*")
_MOST: Final = (1 << 63) - 1


def go_int(text: str) -> int:
    """An integer of 64 bits as Go's flags read it: 10, -3, 0x1F, 1_000, 017 (octal); ValueError."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not _DIGITS.fullmatch(digits):
        raise ValueError(f"expected an integer, got {text!r}")
    is_old_octal = digits[:1] == "0" and digits[1:2].isdecimal()
    number = int(f"0o{digits[1:]}" if is_old_octal or digits[:2] == "0_" else digits, 0)
    number = -number if text[0] == "-" else number
    if not -_MOST - 1 <= number <= _MOST:
        raise ValueError(f"{text} has more than 64 bits")
    return number


class GoInt(click.ParamType[int]):
    """The value of an integer flag."""

    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return value if isinstance(value, int) else go_int(value)
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


class _Flags:
    """The options of a command by their names without dashes."""

    def __init__(self, params: Iterable[click.Parameter]) -> None:
        self._options: dict[str, click.Option] = {}
        for param in params:
            if isinstance(param, click.Option):
                self._options.update({name.lstrip("-"): param for name in param.opts})

    def take(self, args: Sequence[str]) -> tuple[list[str], int, click.Option | None]:
        """The option at the beginning of `args` as click reads it, how many arguments it takes, and the option.

        Nothing and 0 if there is none that this command has. UsageError.
        """
        match = _FLAG.fullmatch(args[0])
        option = self._options.get(match[1]) if match else None
        if match is None or option is None:
            return [], 0, None
        name, value = max(option.opts, key=len), match[2]
        if not option.is_flag:
            if value is not None:
                return [name, value], 1, option
            return [name, *args[1:2]], 2, option
        if value is None:
            return [name], 1, option
        try:
            return ([name] if go_bool(value) else []), 1, option
        except ValueError as error:
            raise click.BadOptionUsage(name, f"Invalid value for {name!r}: {error}.") from error


def canonical(args: Sequence[str], params: Iterable[click.Parameter]) -> list[str]:
    """Arguments with each option of `params` as click reads it. Others stay, and so does all after `--`. UsageError."""
    flags = _Flags(params)
    found: list[str] = []
    rest = list(args)
    while rest and rest[0] != "--":
        taken, count, _ = flags.take(rest)
        found += taken if count else rest[:1]
        del rest[: count or 1]
    return found + rest


def with_command(
    args: Sequence[str], start: Sequence[click.Parameter], own: Sequence[click.Parameter], commands: Mapping[str, object]
) -> list[str]:
    """Arguments with a command: `start` if there are only options of it. `own`: the options without any command.

    Options before a command belong to it.
    """
    flags, theirs = _Flags([*start, *own]), list(own)
    leading: list[str] = []
    rest = list(args)
    while rest:
        taken, count, option = flags.take(rest)
        if not count:
            break
        if option in theirs and taken:
            return taken
        leading += taken
        del rest[:count]
    if len(rest) == len(args):
        return rest
    if rest and rest[0] in commands:
        return [rest[0], *leading, *rest[1:]]
    return ["start", *leading, *rest]


class GoCommand(click.Command):
    """A command whose options may have one dash or two."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, canonical(args, self.get_params(ctx)))


class GoGroup(click.Group):
    """Commands of that kind, of which `start` need not be named."""

    command_class = GoCommand

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, self._with_command(ctx, args))

    def command_of(self, args: Sequence[str]) -> str:
        """The name of the command that valid arguments are for; empty if there is none."""
        return next(iter(self._with_command(click.Context(self), args)), "")

    def _with_command(self, ctx: click.Context, args: Sequence[str]) -> list[str]:
        return with_command(args, self.commands["start"].params, self.get_params(ctx), self.commands)
