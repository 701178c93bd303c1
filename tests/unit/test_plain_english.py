"""Sentences begin with their subject: the exceptions become fewer, and no new one is written."""

import pytest

from tests.parts import house_words, plain_english

FIGURES = plain_english.figures()
COMMAND = "python -m tests.parts.plain_english"


@pytest.fixture(scope="module")
def counts():
    return plain_english.count()


@pytest.mark.parametrize("package", FIGURES)
def test_no_new_sentence_begins_without_its_subject(counts, package):
    folder = house_words.PACKAGES[package]
    assert counts[package] <= FIGURES[package], f"{COMMAND} {folder} lists them"


@pytest.mark.parametrize("package", FIGURES)
def test_figure_of_sentences_is_lowered_once_they_are_gone(counts, package):
    assert counts[package] >= FIGURES[package], COMMAND


def test_every_package_has_figure():
    assert FIGURES.keys() == house_words.PACKAGES.keys()


@pytest.mark.parametrize(
    "code",
    [
        '"""Who waits is told."""',
        '"""A line. What comes\nafter it."""',
        '"""A line.\n\n    How it goes."""',
        "# Whether it is there",
        "# It is\n# here. Of all\n# the last",
        "x = 1  # As above",
        'raise ValueError("Why not?")',
        'raise ValueError(f"It is {x}. Whoever waits")',
    ],
)
def test_sentence_without_its_subject_is_found(code):
    assert len(plain_english.found(code)) == 1


@pytest.mark.parametrize(
    "code",
    [
        '"""The caller, who waits, is told what comes."""',
        '"""Office hours: as above. Howard asks."""',
        'x = "What"',
        "x = 1  # noqa: S101 - As said",
        "# The end of one\nx = 1\n\n# as another",
    ],
)
def test_sentence_with_its_subject_is_none(code):
    assert plain_english.found(code) == []


def test_sentence_has_line_it_begins_in():
    code = '"""A line.\n\nWhat comes\nthen."""\n\n# One.\n# As two.\n'
    assert [it.line for it in plain_english.found(code)] == [3, 7]


def test_command_lowers_figures_of_sentences_and_raises_none():
    text = "# A comment = 9\nsidecar = 5\noperator = 2\n"
    counted = {"sidecar": 3, "operator": 4}
    assert plain_english.lowered(text, counted) == "# A comment = 9\nsidecar = 3\noperator = 2\n"
