"""The index that owns a target, and the indexes that a policy's sidecars may search."""

import copy

import pytest

from embedding_operator.indexes import claims
from tests.parts import indexes


def outline(name="articles", *, created="2026-01-01T00:00:00Z", uid=None, **spec):
    raw = copy.deepcopy(indexes.everything())
    raw["metadata"] |= {"name": name, "uid": uid or f"uid-{name}", "creationTimestamp": created}
    raw["spec"] |= spec
    return raw


LATER = "2026-02-01T00:00:00Z"
OTHER_TARGET = {"model": "m", "dimensions": 3, "column": "second"}
OTHER_TABLE = {"model": "m", "dimensions": 3, "table": "other"}
SAME_TABLE = {"model": "m", "dimensions": 3, "table": "articles_voyage"}
OTHER_DATABASE = {"dsnSecretRef": {"name": "second", "key": "dsn"}}


def test_older_of_two_has_target():
    old, young = outline("b"), outline("a", created=LATER)
    assert claims.taken(old, [old, young]) is None
    refused = claims.taken(young, [old, young])
    assert refused is not None
    assert refused.reason == "TargetTaken"
    assert "shop.articles.embedding" in refused.message


def test_first_by_name_wins_target_within_one_second():
    one, two = outline("a"), outline("b")
    assert claims.taken(one, [two, one]) is None
    assert claims.taken(two, [two, one]) is not None


@pytest.mark.parametrize(
    ("more", "refused"),
    [
        ({"target": OTHER_TARGET, "failoverTarget": OTHER_TABLE}, False),
        ({"target": OTHER_TARGET, "failoverTarget": SAME_TABLE}, True),
        ({"target": SAME_TABLE, "failoverTarget": None}, True),
        ({"database": OTHER_DATABASE}, False),
        ({"table": {"schema": "shop", "name": "news"}, "failoverTarget": None}, False),
    ],
)
def test_target_is_place_of_one_database(more, refused):
    young = outline("young", created=LATER, **more)
    assert (claims.taken(young, [outline()]) is not None) == refused


def test_index_that_goes_gives_its_target_up():
    going = outline()
    going["metadata"]["deletionTimestamp"] = LATER
    assert claims.taken(outline("young", created=LATER), [going]) is None


def test_index_that_could_not_be_read_takes_nothing():
    empty = {"metadata": {"name": "empty", "uid": "u"}, "spec": {"search": {}}}
    assert claims.taken(outline(), [empty]) is None
    assert claims.searchable([empty]) == ()


def test_searchable_are_those_with_search_that_do_not_go():
    off = outline("off", search={"enabled": False})
    going = outline("going")
    going["metadata"]["deletionTimestamp"] = LATER
    (found,) = claims.searchable([off, going, outline("on")])
    assert (found.name, found.uid) == ("on", "uid-on")
    assert found.url == "http://embedding-index-on.shop.svc:8486"


def test_searchable_are_bounded_and_oldest_stay():
    many = [outline(f"i{number:04}", created=LATER) for number in range(300)]
    found = claims.searchable([*many, outline("oldest")])
    assert len(found) == claims.SEARCHED_LIMIT
    assert "oldest" in {it.name for it in found}
