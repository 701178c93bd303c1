"""Keys come from each namespace in turn."""

from hypothesis import given
from hypothesis import strategies as st

from embedding_operator.kube.kinds import ObjectKey
from embedding_operator.queues.fair_queue import FairQueue


def everybody(_):
    return True


def popped(made, may=everybody):
    return list(iter(lambda: made.pop(may), None))


def test_namespaces_take_turns_and_namespaces_keys_come_in_order():
    made: FairQueue[ObjectKey] = FairQueue()
    for name in "abc":
        made.push(ObjectKey("flood", name))
    made.push(ObjectKey("shop", "a"))
    assert [str(key) for key in popped(made)] == ["flood/a", "shop/a", "flood/b", "flood/c"]


def test_namespace_that_may_not_is_passed_over_and_keeps_its_place():
    made: FairQueue[ObjectKey] = FairQueue()
    for namespace in "abc":
        made.push(ObjectKey(namespace, "x"))
    assert [key.namespace for key in popped(made, lambda namespace: namespace != "a")] == ["b", "c"]
    assert made.pop(everybody) == ObjectKey("a", "x")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.booleans())))
def test_each_key_that_was_pushed_and_not_discarded_comes_once(steps):
    made: FairQueue[ObjectKey] = FairQueue()
    expected = set()
    for namespace, number, is_pushed in steps:
        key = ObjectKey(namespace, str(number))
        if is_pushed:
            made.push(key)
            expected.add(key)
        else:
            made.discard(key)
            expected.discard(key)
    found = popped(made)
    assert len(found) == len(expected)
    assert set(found) == expected
