"""Go's rules for flags."""

import click
import pytest

from pymosn.config.feature_gates import GATES, GateError, parse_gates
from pymosn.kit.command_line import canonical, go_int, with_command

CONFIG = click.Option(["--config", "-c", "path"])
DOMAIN = click.Option(["--cluster-domain", "-domain"])
STRICT = click.Option(["--strict"], is_flag=True)
VERSION = click.Option(["--version", "-v"], is_flag=True)
START = [CONFIG, DOMAIN, STRICT]


@pytest.mark.parametrize("spelling", ["-c", "--c", "-config", "--config"])
@pytest.mark.parametrize("value", ["F", "-F", "a=b", ""])
def test_one_dash_or_two_and_a_space_or_an_equals_sign(spelling: str, value: str) -> None:
    assert canonical([spelling, value, "x"], START) == ["--config", value, "x"]
    assert canonical([f"{spelling}={value}", "x"], START) == ["--config", value, "x"]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["-domain=d", "--domain", "e"], ["--cluster-domain", "d", "--cluster-domain", "e"]),
        (["-strict", "--strict=true", "-strict=F"], ["--strict", "--strict"]),
        (["-c"], ["--config"]),  # what is missing is reported later
        (["-cF", "-x", "---c", "-", "plain"], ["-cF", "-x", "---c", "-", "plain"]),
        (["-c", "F", "--", "-c", "G"], ["--config", "F", "--", "-c", "G"]),
        (["-c", "--"], ["--config", "--"]),
    ],
)
def test_other_arguments(args: list[str], expected: list[str]) -> None:
    assert canonical(args, START) == expected


def test_a_flag_with_another_word_is_an_error() -> None:
    with pytest.raises(click.UsageError, match="'--strict': expected true or false, got 'maybe'"):
        canonical(["-strict=maybe"], START)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], []),
        (["-c", "F"], ["start", "--config", "F"]),
        (["-c=F", "-strict", "extra"], ["start", "--config", "F", "--strict", "extra"]),
        (["-c", "F", "stop", "--drain"], ["stop", "--config", "F", "--drain"]),
        (["stop", "-c", "F"], ["stop", "-c", "F"]),
        (["-c", "F", "-v", "stop"], ["--version"]),
        (["--nothing", "-c", "F"], ["--nothing", "-c", "F"]),
        (["nothing"], ["nothing"]),
    ],
)
def test_options_without_a_command_are_those_of_start(args: list[str], expected: list[str]) -> None:
    assert with_command(args, START, [VERSION], {"start": 0, "stop": 0}) == expected


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0), ("-5", -5), ("+5", 5), ("0x1F", 31), ("0X_1", 1), ("1_000", 1000), ("017", 15), ("0_17", 15), ("0o17", 15),
        ("0b11", 3), ("9223372036854775807", 2**63 - 1), ("-9223372036854775808", -(2**63)),
    ],
)  # fmt: skip
def test_integers(text: str, number: int) -> None:
    assert go_int(text) == number


@pytest.mark.parametrize(
    "text",
    ["", "-", "abc", "1.5", "5s", " 5", "5 ", "1__0", "_1", "1_", "08", "0x", "0b2", "9223372036854775808", "٣", "--5"],
)
def test_texts_that_are_no_integers(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected an integer|more than 64 bits"):
        go_int(text)


def test_gates() -> None:
    assert parse_gates("") == parse_gates(",,") == {}
    assert parse_gates(" auto_config = T ,MultiTenantMode=0,auto_config=false") == {
        "auto_config": False,
        "MultiTenantMode": False,
    }
    assert parse_gates(",".join(f"{name}=true" for name in GATES)) == dict.fromkeys(GATES, True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("auto_config", "expected NAME=true or NAME=false, got 'auto_config'"),
        ("auto_config=maybe", "auto_config: expected true or false, got 'maybe'"),
        ("auto_config=", "auto_config: expected true or false, got ''"),
        ("auto_config=true=true", "got 'true=true'"),
        ("Auto_config=true", "there is no feature gate 'Auto_config', only auto_config, "),
    ],
)
def test_wrong_gates(text: str, words: str) -> None:
    with pytest.raises(GateError, match=words):
        parse_gates(text)
