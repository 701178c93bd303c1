import dataclasses
import re

import pytest
import yaml

from tests.scale import generator, page, ranges, results
from tests.scale.figures import FIGURES, Result, Round
from tests.scale.model import parts

SMALL = generator.Generator(
    name="small",
    policies=100,
    namespaces=10,
    secrets_of_each=0,
    pods_of_each=0,
    idle_seconds=60,
    edits_per_second=1,
    edit_seconds=3,
    rounds=3,
)
ROUND = Round(
    load=0.5,
    cold_seconds=6.0,
    cold_processor_seconds=1.0,
    cold_requests={"patch configmaps": 200, "list pods": 1, "create leases": 1},
    idle_seconds=60.0,
    idle_processor_seconds=0.6,
    idle_requests={"update leases": 30, "get configmaps": 10, "patch secrets": 2},
    edit_seconds=(0.1, 0.2, 0.9),
    resident_bytes=100 * 2**20,
    most_resident_bytes=120 * 2**20,
    server_resident_bytes=500 * 2**20,
    bare_cold_seconds=4.0,
    bare_cold_requests=401,
    bare_edit_seconds=(0.1, 0.1, 0.1),
)


def result(*colds, **changed):
    rounds = tuple(dataclasses.replace(ROUND, cold_seconds=it, **changed) for it in colds)
    return Result(
        generator=SMALL, machine="2 cores", cores=2, date="2026-01-01", commit="abc", rounds=rounds
    )


def range_of(tmp_path, figure, **limits):
    file = tmp_path / "ranges.yaml"
    file.write_text(yaml.safe_dump({"small": {figure: limits}}))
    return ranges.read(file)


@pytest.mark.parametrize(
    ("figure", "value"),
    [
        ("coldToBare", 1.5),
        ("coldRequestsOfPolicy", 2.02),
        ("idleRequestsOfPolicyHour", 7.2),
        ("idleWrites", 2),
        ("idleLeaseRequestsHour", 1800),
        ("idleCorePercent", 1.0),
        ("editP50Seconds", 0.2),
        ("editP99Seconds", 0.9),
        ("editP50ToBare", 2.0),
        ("mostResidentMiB", 120),
    ],
)
def test_figure_is_of_its_round(figure, value):
    assert FIGURES[figure].values(result(6.0)) == [pytest.approx(value)]


def test_figure_that_was_not_measured_has_no_value():
    assert FIGURES["inForceSeconds"].values(result(6.0)) == []
    assert FIGURES["editP50Seconds"].values(result(6.0, edit_seconds=())) == []


def test_result_is_read_as_it_was_written(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    results.write(result(6.0, 7.0))
    text = (tmp_path / "small.json").read_text()
    assert results.parse(text) == result(6.0, 7.0)


@pytest.mark.parametrize(
    ("figure", "limits", "said"),
    [
        ("coldSecondz", {"aim": 1}, r"^ranges\.yaml: small\.coldSecondz is no figure; there are"),
        ("coldToBare", {"most": 1}, r"^ranges\.yaml: small\.coldToBare: give aim and allowed"),
        ("coldToBare", {}, "give aim and allowed"),
        ("coldToBare", {"aim": "1"}, r"small\.coldToBare\.aim: '1' is no number$"),
        ("coldSeconds", {"allowed": 60}, r"small\.coldSeconds\.allowed: a time is of its machine"),
    ],
)
def test_wrong_range_is_named(tmp_path, figure, limits, said):
    with pytest.raises(ranges.InvalidRangesError, match=said):
        range_of(tmp_path, figure, **limits)


def test_range_beyond_what_is_allowed_fails_run(tmp_path):
    ((one,),) = range_of(tmp_path, "coldToBare", allowed=1.5).values()
    assert one.breach(result(6.0)) is None
    assert one.breach(result(5.0, 8.0, 9.0)) == "small.yaml: coldToBare: 2.00, of 1.50 allowed"


def test_allowed_figure_that_was_not_measured_fails_run(tmp_path):
    ((one,),) = range_of(tmp_path, "editP50ToBare", allowed=5).values()
    assert "not measured" in one.breach(result(6.0, edit_seconds=()))


def test_table_says_what_was_missed_beside_ceiling_and_spread(tmp_path):
    allowed = range_of(tmp_path, "coldSeconds", aim=6)
    cells = row(page.tables([result(5.0, 7.0, 9.0)], allowed), "cold start to all Ready")
    assert cells == ["6.0", "7.0", "5.0 to 9.0", "4.0", "**missed**"]
    cells = row(page.tables([result(5.0)], allowed), "cold start to all Ready")
    assert cells == ["6.0", "5.0", "", "4.0", "met"]


def row(text, title):
    """The cells of a row behind its title."""
    line = next(it for it in text.splitlines() if it.startswith(f"| {title}"))
    return [it.strip() for it in line.split("|")[2:-1]]


def test_table_says_that_machine_was_busy():
    assert "**busy**: load 2.5 to 2.5" in page.tables([result(5.0, load=2.5)], {})
    assert "busy" not in page.tables([result(5.0)], {})


def test_page_names_aims_of_runs_that_were_not_made(tmp_path):
    text = page.text([], {"large": range_of(tmp_path, "coldSeconds", aim=60)["small"]})
    assert row(text, "large: cold start")[-1] == "not run"


def test_page_names_figures_that_grow_faster_than_size():
    few = result(6.0)
    many = dataclasses.replace(
        result(240.0), generator=dataclasses.replace(SMALL, policies=1_000, name="many")
    )
    text = page.text([few, many], {})
    grown = re.search(
        r"\| cold start to all Ready, s +\| +6\.0 \| +240\.0 \| +(\S+) \| (.*) \|", text
    )
    assert grown is not None
    assert (grown[1], grown[2].strip()) == ("1.60", "**faster than n**")
    assert "<svg" in page.cold_start_chart([few, many])


def test_page_is_that_of_kept_results():
    text = page.text(results.read_all(), ranges.read(), model=parts.read_all())
    assert page.PAGE.read_text(encoding="utf-8") == text
