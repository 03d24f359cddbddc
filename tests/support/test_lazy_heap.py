"""C{LazyHeap}: the lowest of ranks that change unseen."""

from __future__ import annotations

import gc
import weakref
from random import Random

from kolus.support import LazyHeap


def heap_of(**ranks: float) -> LazyHeap[str]:
    heap: LazyHeap[str] = LazyHeap()
    for item, rank in ranks.items():
        heap.set(item, rank)
    return heap


def test_the_first_is_the_one_with_the_lowest_rank_and_stays() -> None:
    heap = heap_of(b=2, a=1, c=3)
    assert [heap.first(), heap.first()] == ["a", "a"]
    heap.discard("a")
    heap.set("c", 0)
    assert heap.first() == "c"
    heap.clear()
    assert heap.first() is None


def test_of_equal_ranks_the_one_that_was_set_first_is_first() -> None:
    heap = heap_of(b=1, a=1)
    assert heap.first() == "b"


def test_a_rank_that_has_become_higher_is_noticed() -> None:
    heap, ranks = heap_of(a=1, b=2), {"a": 3.0, "b": 2.0}
    assert heap.first(ranks.get) == "b"
    assert heap.ranks == ranks


def test_an_item_that_has_no_rank_any_more_is_removed() -> None:
    heap = heap_of(a=1, b=2)
    assert heap.first({"b": 2.0}.get) == "b"
    assert list(heap.ranks) == ["b"]


def test_items_that_may_not_be_first_stay() -> None:
    heap = heap_of(a=1, b=2)
    assert heap.first(may=lambda item: item != "a") == "b"
    assert heap.first() == "a"


def test_who_tells_a_rank_may_change_the_others() -> None:
    heap = heap_of(a=1, b=2, c=3)

    def tell(item: str) -> float | None:
        if item == "a":
            heap.clear()
            heap.set("c", 3)
        return 3.0

    assert heap.first(tell) == "c"
    assert heap.ranks == {"c": 3}


def test_all_may_be_replaced_and_who_has_the_ranks_sees_it() -> None:
    heap = heap_of(a=1)
    ranks = heap.ranks
    heap.set_all({"b": 2, "c": 1})
    assert (heap.first(), ranks) == ("c", {"b": 2, "c": 1})


def test_what_is_outdated_takes_no_room() -> None:
    heap = heap_of()
    for number in range(10_000):
        heap.set("a", -number)
        heap.set(str(number), number)
        heap.discard(str(number))
    assert len(heap._heap) < 100


def test_the_heap_agrees_with_a_look_at_each_whatever_happens() -> None:
    rng = Random(5)
    heap, ranks = heap_of(), dict[str, float]()
    for _ in range(5_000):
        item, rank = rng.choice("abcdefgh"), float(rng.randrange(1000))
        chance = rng.random()
        if chance < 0.3:
            ranks[item] = rank
            heap.set(item, rank)
        elif chance < 0.5 and item in ranks:
            ranks[item] += rank  # unseen
        elif chance < 0.6:
            ranks.pop(item, None)
            heap.discard(item)
        elif chance < 0.7:
            ranks.pop(item, None)  # unseen, too
        may = rng.choice([None, lambda item: item in "aceg"])
        found = heap.first(ranks.get, may)
        allowed = {each: at for each, at in ranks.items() if may is None or may(each)}
        allowed = {each: at for each, at in allowed.items() if each in heap.ranks}
        assert (found is None) == (not allowed)
        if found is not None:
            assert ranks[found] == min(allowed.values())


class Item:
    """One that can be referred to weakly."""


def test_an_item_that_was_removed_is_not_kept() -> None:
    heap: LazyHeap[Item] = LazyHeap()
    kept, item = Item(), Item()
    heap.set(kept, 1)
    heap.set(item, 2)
    heap.set(item, 3)
    gone = weakref.ref(item)
    heap.discard(item)
    del item
    gc.collect()
    assert gone() is None
    assert heap.first() is kept
