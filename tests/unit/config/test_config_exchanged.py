"""Which blocks of a configuration were exchanged."""

from pymosn.config.exchanged import Watched, exchanged, exchanged_in


class Block:
    def __init__(self, matters: bool = False) -> None:
        self.matters = matters


def test_only_other_objects_are_found() -> None:
    one, two, three = Block(), Block(), Block()
    assert exchanged([one, two], [one, three]) == [(two, three)]
    assert exchanged([one], [one, two]) is None
    assert exchanged_in({"a": one, "b": two}, {"a": one, "b": three}) == [("b", two, three)]


def test_other_keys_and_another_order_are_more_than_an_exchange() -> None:
    one, two = Block(), Block()
    assert exchanged_in({"a": one}, {"b": one}) is None
    assert exchanged_in({"a": one}, {"a": one, "b": two}) is None
    assert exchanged_in({"a": one, "b": two}, {"b": two, "a": one}) is None


def test_equal_keys_need_not_be_the_same_objects() -> None:
    one = Block()
    key = "".join(["a", "b"])
    assert exchanged_in({"ab": one}, {key: one}) == []


def test_a_watched_list_has_changed_only_in_items_that_matter() -> None:
    watched: Watched[Block] = Watched(lambda block: block.matters)
    plain, important = Block(), Block(True)
    assert watched.has_changed([plain, important]), "nothing is known at first"
    assert not watched.has_changed([Block(), important])
    assert watched.has_changed([plain, Block(True)])
    assert watched.has_changed([plain, Block()]), "it mattered before"
    assert watched.has_changed([plain]), "one less"
    assert not watched.has_changed([plain])
