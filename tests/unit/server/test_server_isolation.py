"""Which item cannot be activated, if the faults name none."""

import asyncio

from pymosn.config.schema import Cluster, Listener
from pymosn.control.xds.layer import Layer, Owner
from pymosn.server.isolation import MAX_ATTEMPTS, differing, isolate


def clusters(*names: str) -> Layer:
    return Layer(clusters={name: Cluster(name=name) for name in names})


class Activation:
    """Fails if a layer has one of the clusters `bad`."""

    def __init__(self, *bad: str) -> None:
        self.bad = bad
        self.active: Layer | None = None
        self.attempts = 0

    async def __call__(self, layer: Layer) -> str:
        self.attempts += 1
        found = [name for name in self.bad if name == "*" or name in layer.clusters]
        if not found:
            self.active = layer
        return f"{found[0]} is bad" if found else ""


def found(before: Layer, after: Layer, activation: Activation) -> dict[Owner, str]:
    return asyncio.run(isolate(before, after, "all are bad", activation))


def test_all_but_the_bad_ones_are_activated() -> None:
    activation = Activation("c", "f")
    names = "abcdefgh"
    assert found(clusters("a"), clusters(*names), activation) == {
        Owner("cluster", "c"): "c is bad",
        Owner("cluster", "f"): "f is bad",
    }
    assert activation.active is not None
    assert sorted(activation.active.clusters) == sorted(set(names) - {"c", "f"})


def test_a_single_item_is_the_cause_if_the_rest_can_be_activated_again() -> None:
    assert found(clusters(), clusters("c"), Activation("c")) == {Owner("cluster", "c"): "all are bad"}


def test_a_fault_of_no_item_is_reported_as_that() -> None:
    assert found(clusters("a"), clusters("a", "b", "c"), Activation("*")) == {}


def test_the_attempts_are_bounded() -> None:
    names = [f"c{i}" for i in range(500)]
    activation = Activation(*names)
    assert len(found(clusters(), clusters(*names), activation)) == 500
    assert activation.attempts <= MAX_ATTEMPTS + 1


def test_clusters_come_before_what_names_them_and_removed_items_count() -> None:
    before = Layer(listeners={"old": Listener(name="old")})
    after = clusters("c")._replace(listeners={"new": Listener(name="new")})
    assert differing(before, after) == [Owner("cluster", "c"), Owner("listener", "new"), Owner("listener", "old")]
