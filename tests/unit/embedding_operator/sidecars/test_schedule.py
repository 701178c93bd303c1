"""The next pod to ask: every pod in time, and none at the expense of others."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from embedding_operator.sidecars import schedule
from embedding_operator.sidecars.schedule import Item, Rank, Schedule


def item(number, namespace="shop"):
    return Item(namespace, "search", f"uid-{number}")


def fill(made, numbers, *, namespace="shop", rank=Rank.ANSWERED):
    for number in numbers:
        made.put(item(number, namespace), due=0, rank=rank)


def taken(made, now=0.0):
    return list(iter(lambda: made.take(now), None))


def test_item_is_not_taken_before_its_time():
    made = Schedule()
    made.put(item(1), due=5, rank=Rank.NEW)
    assert made.take(4.9) is None
    assert made.next_due() == 5
    assert made.take(5) == item(1)
    assert made.next_due() is None


def test_namespace_has_share_of_places():
    made = Schedule()
    fill(made, range(100), namespace="flood")
    fill(made, range(3), namespace="shop")
    found = Counter(it.namespace for it in taken(made))
    assert found == {"flood": schedule.NAMESPACE_PLACES, "shop": 3}


def test_namespaces_take_turns():
    made = Schedule()
    for namespace in "abc":
        fill(made, range(2), namespace=namespace)
    assert [it.namespace for it in taken(made)] == list("abcabc")


def test_silent_pods_hold_quarter_of_places_and_new_ones_half():
    made = Schedule()
    for number in range(20):
        fill(made, range(10), namespace=f"silent-{number}", rank=Rank.FAILED)
    assert len(taken(made)) == schedule.PLACES // 4
    for number in range(20):
        fill(made, range(10), namespace=f"new-{number}", rank=Rank.NEW)
    assert len(taken(made)) == schedule.PLACES // 4
    for number in range(20):
        fill(made, range(10), namespace=f"good-{number}")
    assert len(taken(made)) == schedule.PLACES // 2


def test_freed_place_is_taken_by_waiter():
    made = Schedule()
    fill(made, range(20))
    first = taken(made)
    assert made.take(0) is None
    made.done(first[0])
    assert made.take(0) == item(schedule.NAMESPACE_PLACES)


def test_waiting_item_keeps_its_place_however_often_it_is_put():
    made = Schedule()
    fill(made, range(10))
    first = taken(made)
    for _ in range(1000):
        fill(made, range(10))
    for it in first:
        made.done(it)
    assert taken(made)[:2] == [item(8), item(9)]
    assert len(made._heap) < 200


def test_dropped_item_is_not_taken():
    made = Schedule()
    fill(made, range(10))
    taken(made)
    made.put(item(99), due=3, rank=Rank.NEW)
    for number in range(100):
        made.drop(item(number))
    assert made.next_due() is None
    for number in range(schedule.NAMESPACE_PLACES):
        made.done(item(number))
    assert made.take(100) is None


def test_item_put_while_it_is_asked_comes_again_afterwards():
    made = Schedule()
    fill(made, [1])
    assert made.take(0) == item(1)
    made.put(item(1), due=0, rank=Rank.ANSWERED)
    assert made.take(0) is None
    made.done(item(1))
    assert made.take(0) == item(1)


@given(st.integers(0, 2**32))
def test_everybody_is_asked_and_no_bound_is_passed(seed):
    """Whatever comes, goes, answers or does not."""
    chosen = random.Random(seed)
    made, now = Schedule(), 0.0
    asked: dict[Item, Rank] = {}
    wanted: dict[Item, Rank] = {}
    for _ in range(300):
        now += chosen.random()
        it = item(chosen.randrange(30), f"ns-{chosen.randrange(12)}")
        action = chosen.randrange(3)
        if action == 0:
            rank = Rank(chosen.randrange(3))
            made.put(it, due=now + chosen.random() * 3, rank=rank)
            wanted[it] = rank
        elif action == 1:
            made.drop(it)
            wanted.pop(it, None)
        for it in [it for it in asked if chosen.random() < 0.3]:
            asked.pop(it)
            made.done(it)
        for it in taken(made, now):
            assert it in wanted
            assert it not in asked
            asked[it] = wanted.pop(it)
        of = Counter(it.namespace for it in asked)
        assert max(of.values(), default=0) <= schedule.NAMESPACE_PLACES
        assert len(asked) <= schedule.PLACES
    for _ in range(len(wanted) + 1):
        for it in asked:
            made.done(it)
        asked = {it: wanted.pop(it) for it in taken(made, now + 10)}
    assert not wanted
