"""The cost of a filter: measured in the real data path, and reported with what it leaves out."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pymosn.cli import main
from pymosn.kit.bench import Benchmark, Measurement, as_text, measure
from pymosn.kit.bench_rig import BenchError
from pymosn.version import build

FILTERS = """
import asyncio
from pymosn.api import Reply, StreamFilter

class Busy(StreamFilter):
    def on_request(self, exchange):
        sum(range(20000))

class Waits(StreamFilter):
    async def on_request(self, exchange):
        await asyncio.sleep(0)

    async def on_response(self, exchange):
        await exchange.response.read()

class Asks(StreamFilter):
    def __init__(self, config):
        self.header = config["header"]

    def on_request(self, exchange):
        if self.header not in exchange.request.headers:
            return Reply(401, "who?")

class Sees(StreamFilter):
    async def on_request(self, exchange):
        if exchange.request.method != "POST" or await exchange.request.read() != b"hello":
            return Reply(400)

class Cuts(StreamFilter):
    def on_response_body(self, exchange, data, last):
        exchange.end_response()
        return b"cut"

class Breaks(StreamFilter):
    def on_request(self, exchange):
        raise ValueError("no")

class Subrequests(StreamFilter):
    async def on_request(self, exchange):
        for _ in range(2):
            if (await self.clusters["service"].post("/check", "a" * 100_000)).status != 200:
                return Reply(400)

class Heads(StreamFilter):
    def on_request(self, exchange):
        exchange.request.method = "HEAD"

class Exits(StreamFilter):
    async def on_request(self, exchange):
        await asyncio.sleep(0)
        raise SystemExit(3)

class Fails(StreamFilter):
    async def start(self):
        raise OSError("no database")
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "filters.py"
    path.write_text(FILTERS)
    return path


def ask(file: Path, name: str, **wishes: object) -> Measurement:
    return measure(Benchmark(filters=[f"{file}:{name}"], requests=20, **wishes))  # type: ignore[arg-type]


def test_work_is_seen(file: Path) -> None:
    answer = ask(file, "Busy")
    assert answer.added_us > answer.empty_us, "a loop of 20,000 rounds takes longer than a request"
    assert (answer.statuses, answer.errors, answer.build) == ({200: 300}, 0, build())


@pytest.mark.parametrize("name", ["Waits", "Cuts", "Subrequests", "Heads"])
def test_every_request_is_served(file: Path, name: str) -> None:
    assert ask(file, name).statuses == {200: 300}


def test_a_filter_that_exits_after_a_wait(file: Path) -> None:
    answer = ask(file, "Exits")
    assert (answer.statuses, answer.errors) == ({500: 300}, 302)


def test_the_request_can_be_chosen(file: Path) -> None:
    configs = [{"header": "x-key"}]
    assert ask(file, "Asks", configs=configs).statuses == {401: 300}
    assert ask(file, "Asks", configs=configs, headers=[("x-key", "k")]).statuses == {200: 300}
    own_host = [("x-key", "k"), ("host", "other.example")]  # instead of the default one
    assert ask(file, "Asks", configs=configs, headers=own_host).statuses == {200: 300}
    assert ask(file, "Sees", body=b"hello").statuses == {200: 300}


def test_the_text_output(file: Path) -> None:
    text = as_text(ask(file, "Breaks"))
    assert "filters.py:Breaks adds " in text
    assert f"({build()} data path)" in text
    assert "Not included: sockets and the kernel" in text
    assert "The filter failed 302 times" in text
    assert "Every request was rejected" in text


def test_the_command(file: Path) -> None:
    arguments = ["bench-filter", f"{file}:Asks", "--config", '{"header": "a"}', "--requests", "5", "-H", "a: 1", "--json"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["statuses"] == {"200": 75}
    assert answer["with_filters_us"] > 0


def test_a_chain(file: Path) -> None:
    names = [f"{file}:Asks", f"{file}:Asks"]
    configs = [{"header": "a"}, {"header": "b"}]
    both = [("a", "1"), ("b", "2")]
    assert measure(Benchmark(filters=names, configs=configs, headers=both, requests=5)).statuses == {200: 75}
    assert measure(Benchmark(filters=names, configs=configs, headers=both[:1], requests=5)).statuses == {401: 75}
    with pytest.raises(BenchError, match="3 configurations for 2 filters"):
        measure(Benchmark(filters=names, configs=[*configs, {}]))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["Asks"], "KeyError: 'header'"),
        (["Nobody"], "has no class 'Nobody'"),
        (["Fails"], "the filter failed to start: "),
        (["Asks", "--config", "[]"], "not a JSON object"),
        (["Busy", "-H", "content-length: 3"], "managed by the proxy"),
        (["Busy", "-H", "a b: 3"], "not a header name"),
    ],
)
def test_filters_that_cannot_be_measured(file: Path, arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(main, ["bench-filter", f"{file}:{arguments[0]}", *arguments[1:]])
    assert result.exit_code == 2
    assert said in result.stderr


def test_an_unknown_filter() -> None:
    result = CliRunner().invoke(main, ["bench-filter", "not_there"])
    assert (result.exit_code, "no installed package offers" in result.stderr) == (2, True)


def test_an_invalid_request(file: Path) -> None:
    with pytest.raises(BenchError, match="is the request valid"):
        ask(file, "Busy", path="/a b")
