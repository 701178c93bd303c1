"""No new name has a word of our own where the field has one, and old names only become fewer."""

import pytest

from tests.parts import house_words

FIGURES = house_words.figures()
COMMAND = "python -m tests.parts.house_words"


@pytest.fixture(scope="module")
def counts():
    return house_words.count(list(FIGURES))


@pytest.mark.parametrize("word", FIGURES)
def test_private_word_is_in_no_new_name(counts, word):
    row = dict(FIGURES[word])
    field = row.pop("field")
    more = {it: n for it, n in counts[word].items() if n > row.get(it, 0)}
    assert more == {}, f"{word} is our own word: the field says {field}"


@pytest.mark.parametrize("word", FIGURES)
def test_figure_is_lowered_once_names_are_gone(counts, word):
    row = dict(FIGURES[word])
    del row["field"]
    assert {it: n for it, n in row.items() if n > counts[word].get(it, 0)} == {}, COMMAND


@pytest.mark.parametrize(
    ("name", "word", "has_it"),
    [
        ("flight", "flight", True),
        ("first_flights", "flight", True),
        ("FlightEnds", "flight", True),
        ("_MAX_FLIGHTS", "flight", True),
        ("flighty", "flight", False),
        ("returned", "turn", False),
        ("_Line", "Line", True),
        ("line", "Line", False),
        ("LineReader", "Line", False),
    ],
)
def test_name_has_word_as_part_or_whole(name, word, has_it):
    assert house_words.has(name, word) is has_it


def test_names_count_where_they_are_given(tmp_path):
    text = """
import json as flight
def flight_of(flight): return flight
class Flight:
    flight = 1
    def take(self): self.flight = flight; use(flight, flight=flight)
for flight in flight: pass
"""
    (tmp_path / "flights.py").write_text(text, encoding="utf-8")
    found = house_words.given(tmp_path)
    assert {it: n for it, n in found.items() if house_words.has(it, "flight")} == {
        "flights": 1,
        "flight": 5,
        "flight_of": 1,
        "Flight": 1,
    }


def test_command_lowers_figures_and_raises_none():
    text = 'flight = { field = "call", operator = 3, sidecar = 5, vectors = 1 }\n'
    counted = {"flight": {"operator": 4, "sidecar": 2, "contract": 7}}
    lowered = 'flight = { field = "call", operator = 3, sidecar = 2 }\n'
    assert house_words.lowered(text, counted) == lowered
    assert house_words.lowered(lowered, counted) == lowered
