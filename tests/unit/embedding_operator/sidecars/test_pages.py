"""The content of a sidecar's pages goes into a status only where it fits there."""

import contextlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from embedding_operator.sidecars import pages
from tests.parts.answering import CONFIG, DAY, STRANGE_PAGES

WRONG: tuple[Any, ...] = (-1, ["A name?"], {}, 2**80, True)


def page(of, **changed):
    return json.dumps({**of, **changed}).encode()


def test_pages_of_sidecar_are_read():
    assert pages.in_force(page(CONFIG)) == pages.InForce(
        document="d", secrets="s", rejected=None, keys_refused=frozenset()
    )
    day = pages.quota(page(DAY))
    assert (day.used, day.limit, day.exact) == (1, 10, True)
    assert day.reset_at == datetime(2026, 1, 2, tzinfo=UTC)
    assert pages.quota(page(DAY, daily_quota=None)).limit is None


LIMIT = {
    "period": "month",
    "unit": "cost",
    "limit": "25.00",
    "used": "24.1",
    "reserved": "0.2",
    "reset_at": "2026-12-01T00:00:00Z",
}
CALLS = {**LIMIT, "period": "day", "unit": "requests", "limit": 10, "used": 3, "reserved": 0}


def test_mode_and_limits_are_read_and_older_sidecars_lack_them():
    quota = pages.quota(page(DAY, mode="Observe", limits=[LIMIT, CALLS]))
    money, calls = quota.limits
    assert (quota.mode, money.limit, money.used, calls.used) == ("Observe", "25.00", "24.1", 3)
    assert money.reset_at == datetime(2026, 12, 1, tzinfo=UTC)
    older = pages.quota(page(DAY))
    assert (older.mode, older.limits) == ("", ())


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "Off"},
        {"mode": 1},
        {"limits": {}},
        {"limits": [LIMIT] * 7},
        {"limits": ["x"]},
        *(
            {"limits": [{**LIMIT, **more}]}
            for more in (
                {"period": "year"},
                {"unit": "euros"},
                {"limit": 25},
                {"used": "-1"},
                {"used": "1e9"},
                {"used": "9" * 13},
                {"reserved": None},
                {"reset_at": "soon"},
            )
        ),
        *(
            {"limits": [{**CALLS, **more}]}
            for more in ({"limit": "10"}, {"used": -1}, {"used": 10**15 + 1}, {"used": True})
        ),
    ],
    ids=str,
)
def test_limit_that_no_status_takes_is_refused(wrong):
    with pytest.raises(ValueError):  # noqa: PT011 - likewise
        pages.quota(page(DAY, **wrong))


def test_older_sidecar_does_not_tell_of_keys():
    older = {key: value for key, value in CONFIG.items() if key != "keys_refused"}
    assert pages.in_force(page(older)).keys_refused is None


@pytest.mark.parametrize("body", STRANGE_PAGES.values(), ids=STRANGE_PAGES)
def test_body_that_is_no_page_is_refused(body):
    with pytest.raises(ValueError):  # noqa: PT011 - the one promised
        pages.in_force(body)
    with pytest.raises(ValueError):  # noqa: PT011 - likewise
        pages.quota(body)


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize("key", CONFIG)
def test_configuration_with_value_of_another_kind_is_refused(key, value):
    with pytest.raises(ValueError):  # noqa: PT011 - likewise
        pages.in_force(page(CONFIG, **{key: value}))


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize("key", sorted(DAY.keys() - {"exact"}))
def test_day_with_value_of_another_kind_is_refused(key, value):
    with pytest.raises(ValueError):  # noqa: PT011 - likewise
        pages.quota(page(DAY, **{key: value}))


def test_integer_of_100000_digits_is_refused():
    body = page(DAY).replace(b'"current_count": 1', b'"current_count": ' + b"9" * 100_000)
    with pytest.raises(ValueError):  # noqa: PT011 - likewise
        pages.quota(body)


DATES = [
    "tomorrow",
    "2026-01-02T00:00:00",  # of no zone
    "0001-01-01T00:00:00+23:59",  # before the first year once it is UTC
    "9999-12-31T23:59:59-23:59",  # after the last
    "1999-12-31T00:00:00Z",
    "2200-01-01T00:00:00Z",
]


@pytest.mark.parametrize("date", DATES)
def test_date_that_is_out_of_range_is_refused(date):
    with pytest.raises(ValueError):  # noqa: PT011 - likewise
        pages.quota(page(DAY, reset_at=date))


def test_more_providers_than_policy_has_are_refused():
    many = [f"p-{number}" for number in range(9)]
    with pytest.raises(ValueError):  # noqa: PT011 - likewise
        pages.in_force(page(CONFIG, keys_refused=many))


def test_long_reason_is_cut_and_holds_no_control_characters():
    said = pages.in_force(page(CONFIG, rejected="\x1b[31m\n\ud800" + "x" * 100_000)).rejected
    assert said == "  [31m  "[1:] + "x" * (pages.TEXT_CHARACTERS - 7)
    assert len(said) == pages.TEXT_CHARACTERS


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON, st.sampled_from(sorted({*CONFIG, *DAY})))
@example(float("nan"), "current_count")
def test_any_json_value_is_read_or_refused(value, key):
    body = json.dumps({**CONFIG, **DAY, key: value}).encode()
    for read in (pages.in_force, pages.quota):
        with contextlib.suppress(ValueError):
            read(body)


@given(st.binary())
def test_any_bytes_are_read_or_refused(body):
    for read in (pages.in_force, pages.quota):
        with contextlib.suppress(ValueError):
            read(body)


def report(**more):
    target = {
        "id": "public.articles.embedding",
        "model": "e5",
        "dimensions": 384,
        "space": "s",
        "phase": "Filling",
        "rows": 2,
        "done": 1,
        "parked": 0,
    }
    return page({"document": "d", "targets": [{**target, **more}], "problems": []})


def test_words_of_report_are_cut_and_cleaned():
    problem = {"reason": "no-word", "message": "a\x1b[31m" + "x" * 5000, "sqlstate": "28'00"}
    body = {"document": "d" * 900, "serving": "t" * 900, "targets": [], "problems": [problem]}
    read = pages.index_report_of(page(body))
    (told,) = read.problems
    assert (told.reason, told.sqlstate) == ("Unknown", None)
    assert len(told.message) <= pages.TEXT_CHARACTERS
    assert told.message.isprintable()
    assert len(read.document) <= pages.TEXT_CHARACTERS
    assert len(read.serving or "") == pages.ID_CHARACTERS


@pytest.mark.parametrize("end", ["9999-12-31T00:00:00Z", "soon", "2026-01-01", "2026-01-01T00:00"])
def test_time_of_report_that_no_status_takes_is_left_out(end):
    (target,) = pages.index_report_of(report(expectedEnd=end)).targets
    assert target.expected_end is None


def test_time_of_report_is_written_as_status_writes_it():
    (target,) = pages.index_report_of(report(expectedEnd="2026-01-01T02:00:00+02:00")).targets
    assert target.expected_end == "2026-01-01T00:00:00Z"


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_are_more_than_no_report(body):
    with contextlib.suppress(ValueError):
        pages.index_report_of(body)
