import asyncio
import socket

from tests.kit import Lines

from pymosn.config.schema import Cluster, MosnConfig
from pymosn.config.schema.cluster import ClusterManager, Host
from pymosn.control.discovery import Discovery
from pymosn.control.resolver import Answer, LookupOptions
from pymosn.core.log import Log


class Names:
    """A resolver whose answers are a table; a name that is not in it cannot be resolved."""

    def __init__(self, **answers: list[str]) -> None:
        self.answers = answers
        self.ttl: int | None = None
        self.families: list[socket.AddressFamily] = []

    async def look_up(self, name: str, wish: LookupOptions) -> Answer:
        self.families.append(wish.family)
        if name not in self.answers:
            raise socket.gaierror("no such name")
        return Answer(self.answers[name], self.ttl)


class Stage:
    def __init__(self, names: Names) -> None:
        self.changed: list[str] = []
        self.sleeps: list[float] = []
        self._next = asyncio.Event()
        self.log = Lines()
        self.discovery = Discovery(self.changed.append, self.log, names.look_up, self._sleep, 0.0)

    async def _sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        await self._next.wait()
        self._next.clear()

    async def turn(self) -> None:
        """Lets one refresh happen."""
        self._next.set()
        for _ in range(10):
            await asyncio.sleep(0)


def config(*hosts: Host, kind: str = "STRICT_DNS", family: str = "V4_ONLY", ttl: bool = False) -> MosnConfig:
    cluster = Cluster(
        name="c", type=kind, hosts=list(hosts), dns_refresh_rate=3.0, dns_lookup_family=family, respect_dns_ttl=ttl
    )
    return MosnConfig(cluster_manager=ClusterManager(clusters=[cluster]))


def hosts(wanted: MosnConfig) -> list[tuple[str, str, int]]:
    return [(host.address, host.hostname, host.weight) for host in wanted.cluster_manager.clusters[0].hosts]


def test_each_address_becomes_a_host_like_its_entry() -> None:
    async def scenario() -> None:
        stage = Stage(Names(two=["10.0.0.1", "10.0.0.2"]))
        wanted = config(Host(address="two:80", weight=7), Host(address="10.0.0.9:81"))
        await stage.discovery.prepare(wanted)
        expected = [("10.0.0.1:80", "two", 7), ("10.0.0.2:80", "two", 7), ("10.0.0.9:81", "", 1)]
        assert hosts(stage.discovery.expand(wanted)) == expected
        assert stage.changed == []

    asyncio.run(scenario())


def test_other_clusters_keep_their_names() -> None:
    async def scenario() -> None:
        names = Names(one=["10.0.0.1"])
        stage = Stage(names)
        wanted = config(Host(address="one:80"), kind="SIMPLE")
        await stage.discovery.prepare(wanted)
        assert stage.discovery.expand(wanted) is wanted
        assert names.families == []

    asyncio.run(scenario())


def test_changes_are_reported_and_the_last_good_answer_is_kept() -> None:
    async def scenario() -> None:
        names = Names(one=["10.0.0.1"])
        stage = Stage(names)
        wanted = config(Host(address="one:80"))
        await stage.discovery.prepare(wanted)
        stage.discovery.follow(wanted)
        await stage.turn()
        assert stage.changed == []
        names.answers["one"] = ["10.0.0.5"]
        await stage.turn()
        assert stage.changed == ["c"]
        assert hosts(stage.discovery.expand(wanted)) == [("10.0.0.5:80", "one", 1)]
        del names.answers["one"]
        await stage.turn()
        assert stage.changed == ["c"]
        assert hosts(stage.discovery.expand(wanted)) == [("10.0.0.5:80", "one", 1)]
        assert set(stage.sleeps) == {3.0}
        stage.discovery.close()

    asyncio.run(scenario())


def test_a_name_that_was_never_found_has_no_hosts_and_is_asked_for_soon() -> None:
    async def scenario() -> None:
        names = Names()
        stage = Stage(names)
        wanted = config(Host(address="late:80"))
        await stage.discovery.prepare(wanted)
        assert hosts(stage.discovery.expand(wanted)) == []
        stage.discovery.follow(wanted)
        await asyncio.sleep(0)
        assert stage.sleeps == [1.0]
        names.answers["late"] = ["10.0.0.1"]
        await stage.turn()
        assert stage.changed == ["c"]
        stage.discovery.close()

    asyncio.run(scenario())


def test_ipv6_answers_are_written_in_brackets() -> None:
    async def scenario() -> None:
        names = Names(six=["fd00::1"])
        stage = Stage(names)
        wanted = config(Host(address="six:80", hostname="name"), family="V6_ONLY")
        await stage.discovery.prepare(wanted)
        assert hosts(stage.discovery.expand(wanted)) == [("[fd00::1]:80", "name", 1)]
        assert names.families == [socket.AF_INET6]

    asyncio.run(scenario())


def test_unix_sockets_are_no_names() -> None:
    async def scenario() -> None:
        names = Names()
        stage = Stage(names)
        wanted = config(Host(address="unix:/run/a.sock"))
        await stage.discovery.prepare(wanted)
        assert hosts(stage.discovery.expand(wanted)) == [("unix:/run/a.sock", "", 1)]
        assert names.families == []

    asyncio.run(scenario())


def test_the_time_to_live_is_respected_where_it_is_asked_for() -> None:
    async def scenario(ttl: bool) -> list[float]:
        names = Names(one=["10.0.0.1"])
        names.ttl = 30
        stage = Stage(names)
        wanted = config(Host(address="one:80"), ttl=ttl)
        await stage.discovery.prepare(wanted)
        stage.discovery.follow(wanted)
        await asyncio.sleep(0)
        names.ttl = 0
        await stage.turn()
        stage.discovery.close()
        return stage.sleeps

    assert asyncio.run(scenario(True)) == [31.0, 1.0], "a time of 0 is no flood"
    assert asyncio.run(scenario(False)) == [3.0, 3.0]


def test_failures_back_off_and_are_logged_once() -> None:
    async def scenario(known: bool) -> tuple[list[float], list[str]]:
        names = Names(**({"one": ["10.0.0.1"]} if known else {}))
        stage = Stage(names)
        wanted = config(Host(address="one:80"))
        await stage.discovery.prepare(wanted)
        stage.discovery.follow(wanted)
        names.answers.clear()
        for _ in range(8):
            await stage.turn()
        names.answers["one"] = ["10.0.0.1"]
        await stage.turn()
        stage.discovery.close()
        return stage.sleeps, stage.log.lines

    sleeps, lines = asyncio.run(scenario(True))
    assert sleeps == [3, 3, 6, 12, 24, 48, 60, 60, 60, 3]
    assert lines == [
        "cluster c: one cannot be resolved (no such name); keeping the last addresses",
        "cluster c: one is resolved again",
    ]
    sleeps, lines = asyncio.run(scenario(False))
    assert sleeps == [1, 2, 4, 8, 16, 32, 60, 60, 60, 3]


def test_an_answer_without_addresses_is_a_failure() -> None:
    async def scenario() -> None:
        names = Names(one=["10.0.0.1"])
        stage = Stage(names)
        wanted = config(Host(address="one:80"))
        await stage.discovery.prepare(wanted)
        stage.discovery.follow(wanted)
        names.answers["one"] = []
        await stage.turn()
        assert hosts(stage.discovery.expand(wanted)) == [("10.0.0.1:80", "one", 1)]
        assert stage.changed == []
        stage.discovery.close()

    asyncio.run(scenario())


def test_many_names_that_change_together_are_reported_once() -> None:
    async def scenario() -> None:
        count = 100
        names = Names(**{f"n{number}": ["10.0.0.1"] for number in range(count)})
        told: list[str] = []
        go = asyncio.Event()

        async def wait(seconds: float) -> None:
            await (go.wait() if len(names.families) < 2 * count else asyncio.Event().wait())

        discovery = Discovery(told.append, Log(), names.look_up, wait, 0.0)
        wanted = config(*(Host(address=f"n{number}:80") for number in range(count)))
        await discovery.prepare(wanted)
        discovery.follow(wanted)
        for number in range(count):
            names.answers[f"n{number}"] = [f"10.0.1.{number}"]
        go.set()
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(names.families) == 2 * count
        assert told == ["c"]
        assert len(hosts(discovery.expand(wanted))) == count
        discovery.close()

    asyncio.run(scenario())


def test_a_logical_name_has_one_host() -> None:
    async def scenario() -> None:
        wanted = config(Host(address="a.test:80"), kind="LOGICAL_DNS")
        stage = Stage(Names(**{"a.test": ["10.0.0.1", "10.0.0.2"]}))
        await stage.discovery.prepare(wanted)
        assert hosts(stage.discovery.expand(wanted)) == [("10.0.0.1:80", "a.test", 1)]

    asyncio.run(scenario())
