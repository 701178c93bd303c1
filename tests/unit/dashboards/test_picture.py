"""The renderer: the content of a picture of a dashboard, and its description."""

from xml.etree import ElementTree as ET

import pytest

from dashboards import mixin, picture
from tests.parts import dashboards

COST = dashboards.load(mixin.CHART_FOLDER / "embedding-cost.json")
LABELS = {"namespace": "shop", "policy": "search", "provider": "<b>openai", "outcome": "ok"}


def texts(svg):
    return [it.text for it in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_panel_without_answer_says_that_there_is_no_data():
    shown = texts(picture.draw(COST, lambda _: []))
    assert shown.count(picture.NO_DATA) == 13
    assert {panel["title"] for panel in COST["panels"]} <= set(shown)


def test_picture_says_that_it_is_not_grafanas():
    assert picture.NOTE in texts(picture.draw(COST, lambda _: []))


def test_answers_are_drawn_with_their_legends_as_text():
    series = [picture.Series(LABELS, [(0.0, 1.0), (60.0, float("nan")), (120.0, 4.0)])]
    svg = picture.draw(COST, lambda _: series)
    assert "<b>openai ok" in texts(svg)
    assert svg.count("<polyline") == 9 + 2 * 3  # three panels have three quantiles each


def test_values_that_are_no_numbers_are_no_data():
    series = [picture.Series(LABELS, [(0.0, float("nan")), (60.0, float("inf"))])]
    assert texts(picture.draw(COST, lambda _: series)).count(picture.NO_DATA) == 13


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (4928, "short", "4,928"),
        (0.25, "s", "250 ms"),
        (2.5, "s", "2.5 s"),
        (0.5, "percentunit", "50 %"),
        (0.0164, "currencyUSD", "$0.0164"),
        (0.0000001, "currencyUSD", "<$0.0001"),
        (0.123, "reqps", "0.12/s"),
        (2048, "bytes", "2 KiB"),
    ],
)
def test_values_are_written_in_their_unit(value, unit, text):
    assert picture.written(value, unit) == text
