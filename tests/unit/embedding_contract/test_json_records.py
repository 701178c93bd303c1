"""Records: the annotations of a dataclass are all that reading and writing need."""

import json
from dataclasses import dataclass, field
from typing import Annotated

import pytest

from embedding_contract import json_fields, json_records
from embedding_contract.json_fields import Count, InvalidDocument, Text, Word
from embedding_contract.json_records import REQUIRED, Key


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    size: Annotated[Count | None, Key(absent=REQUIRED)] = 3
    note: Text | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    long_name: Word
    inner: Annotated[Text, Key("outer.inner")] = "i"
    second: Annotated[Text | None, Key("outer.second", omits_default=True)] = None
    parts: tuple[Part, ...] = ()
    part: Part = field(default_factory=Part)
    ratio: float = 1.0


LEAST = {"longName": "n", "part": {"size": 1}}


def read(**more):
    return json_records.read(Whole, LEAST | more, "")


def test_keys_are_camel_case_and_dot_leads_into_object():
    assert read(outer={"inner": "x"}) == Whole(long_name="n", inner="x", part=Part(size=1))


def test_written_record_has_keys_in_order_and_leaves_out_what_may_be():
    record = Whole(long_name="n", parts=(Part(),))
    assert json.dumps(json_records.written(record)) == (
        '{"longName": "n", "outer": {"inner": "i"}, "parts": [{"size": 3, "note": null}], '
        '"part": {"size": 3, "note": null}, "ratio": 1.0}'
    )
    second = json_records.written(Whole(long_name="n", second="s"))["outer"]
    assert second == {"inner": "i", "second": "s"}


def test_record_is_read_as_it_was_written():
    record = Whole(long_name="n", second="s", parts=(Part(size=None, note="x"), Part(size=0)))
    assert json_records.parse(Whole, json_records.dump(record)) == record


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"longName": "a b"}, "longName: must be printable ASCII without spaces"),
        ({"longName": ""}, "longName: must not be empty"),
        ({"longName": None}, "longName: must be a string"),
        ({"outer": []}, "outer: must be an object"),
        ({"outer": {"inner": 1}}, "outer.inner: must be a string"),
        ({"parts": {}}, "parts: must be a list"),
        ({"parts": [{"size": 1}, 2]}, "parts[1]: must be an object"),
        ({"parts": [{"size": 1}, {}]}, "parts[1].size: is missing"),
        ({"parts": [{"size": True}]}, "parts[0].size: must be an integer"),
        ({"parts": [{"size": -1}]}, "parts[0].size: must lie between 0 and 1000000000000"),
        ({"part": {}}, "part.size: is missing"),
        ({"part": None}, "part: must be an object"),
        ({"ratio": "1"}, "ratio: must be a number"),
        ({"ratio": False}, "ratio: must be a number"),
    ],
)
def test_refusal_says_path_and_what_is_wrong(more, message):
    with pytest.raises(InvalidDocument) as refused:
        read(**more)
    assert str(refused.value) == message


def test_absent_object_is_read_as_empty_one():
    with pytest.raises(InvalidDocument, match=r"^part\.size: is missing$"):
        json_records.read(Whole, {"longName": "n"}, "")


def test_integer_stays_one_where_number_is_asked_for():
    assert repr(read(ratio=2).ratio) == "2"


def test_list_is_read_up_to_its_bound():
    counted = json_fields.items(json_records.reader(int), [1, 2, "not read"], "list", most=2)
    assert counted == (1, 2)
