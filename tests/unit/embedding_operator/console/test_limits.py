"""Limits of policies: used, allowed, and when they will be used up."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_operator.console import command, costs, limits
from tests.parts import paged

NOW = datetime(2026, 11, 16, tzinfo=UTC)  # half of November
MONEY = {
    "period": "month",
    "unit": "cost",
    "limit": "25.00",
    "used": "12.50",
    "resetAt": "2026-12-01T00:00:00Z",
}


def limit(**more):
    (found,) = limits.of_status({"limits": [{**MONEY, **more}]})
    return found


@pytest.mark.parametrize(
    ("used", "lasts"),
    [
        ("0", "its end"),
        ("12.5", "its end"),
        ("15", "2026-11-26 00:00Z"),
        ("20", "2026-11-19 18:00Z"),
        ("25", "used up"),
        ("26", "used up"),
    ],
)
def test_limit_lasts_at_pace_of_its_period_so_far(used, lasts):
    assert limit(used=used).lasts(NOW, pace=None) == lasts


def test_day_begins_at_its_midnight():
    found = limit(period="day", unit="requests", limit=10, used=5, resetAt="2026-11-17T00:00:00Z")
    assert found.lasts(NOW.replace(hour=6), pace=None) == "2026-11-16 12:00Z"
    assert (found.name, found.shown) == ("daily.requests", "5/10")


def test_pace_of_last_hour_comes_first():
    a_dollar_an_hour = 1 / 3600
    assert limit(used="20").lasts(NOW, pace=a_dollar_an_hour) == "2026-11-16 05:00Z"
    assert limit(used="20").lasts(NOW, pace=0.0) == "its end"


def test_period_that_has_ended_tells_nothing():
    assert limit(resetAt="2026-11-01T00:00:00Z").lasts(NOW, pace=None) == "not known"


def test_older_sidecars_tell_of_days_calls_only():
    quota = {"used": 412, "limit": 10_000, "resetAt": "2026-11-17T00:00:00Z"}
    (found,) = limits.of_status(quota)
    assert (found.name, found.shown) == ("daily.requests", "412/10,000")
    assert limits.of_status({"used": 3, "summary": "3/unlimited"}) == ()


@given(
    st.decimals(0, 10**6, places=6), st.decimals(0, 10**6, places=6), st.floats(0, 1e9) | st.none()
)
def test_any_figures_are_shown(used, allowed, pace):
    found = limit(used=f"{used:f}", limit=f"{allowed:f}")
    assert found.lasts(NOW, pace=pace)
    assert 0 <= found.share <= 1


def test_table_has_limits_beside_costs_and_no_second_table():
    cost = costs.Cost(
        key="shop/search", tokens=5, known=limit().used, unpriced=frozenset(), sources=frozenset()
    )
    calls = ("daily.requests", "5/10", "its end")
    rows = {"shop/search": [calls, ("monthly.cost", "1/25 USD", "used up")], "shop/idle": [calls]}
    table = costs.table([cost], by="policy", limits=rows)
    lines = [line.split("   ") for line in table.splitlines()]
    assert [cell.strip() for cell in lines[0] if cell.strip()] == [
        *("POLICY", "TOKENS", "COST", "PRICE", "LIMIT", "USED", "LASTS UNTIL")
    ]
    assert "shop/search" in table.splitlines()[1]
    assert table.splitlines()[2].split() == ["monthly.cost", "1/25", "USD", "used", "up"]
    assert table.splitlines()[3].split()[:5] == ["shop/idle", "0", "-", "-", "daily.requests"]


def test_limits_of_policies_are_those_of_their_status():
    found = limits.of_policies(
        [paged.policy("search", quota={"limits": [MONEY]}), paged.policy("other")]
    )
    assert list(found) == [("shop", "search")]


@pytest.mark.parametrize(
    ("window", "expected"),
    [("24h", "24h"), ("month", f"{15 * 86_400}s")],
)
def test_window_month_begins_with_month_in_utc(window, expected):
    assert command.range_of(window, NOW) == expected
    assert command.range_of("month", NOW.replace(day=1)) == "60s"
