"""The quota in the status, and its conditions, by what a sidecar reported."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from embedding_operator.status import quota_status
from embedding_operator.status.quota_status import LiveLimit, LiveQuota
from tests.parts import policies

DAY_ENDS = datetime(2026, 12, 1, tzinfo=UTC)
MONEY = LiveLimit(
    period="month", unit="cost", limit="25.00", used="24.1", reserved="0.2", reset_at=DAY_ENDS
)
CALLS = LiveLimit(period="day", unit="requests", limit=10, used=3, reserved=0, reset_at=DAY_ENDS)
QUOTA = LiveQuota(
    used=3,
    limit=10,
    reset_at=DAY_ENDS,
    exact=True,
    exact_reason="",
    mode="Observe",
    limits=(CALLS, MONEY),
)
ENFORCES = policies.parsed()
OBSERVES = replace(ENFORCES, quota=replace(ENFORCES.quota, observes=True))


def test_every_limit_stands_in_status():
    made = quota_status.part(ENFORCES, QUOTA, previous={})
    assert made["mode"] == "Observe"
    assert made["limits"][1] == {
        "period": "month",
        "unit": "cost",
        "limit": "25.00",
        "used": "24.1",
        "reserved": "0.2",
        "resetAt": "2026-12-01T00:00:00Z",
    }
    assert made["summary"] == "3/5"


def test_report_of_older_sidecar_has_no_limits():
    made = quota_status.part(ENFORCES, replace(QUOTA, mode="", limits=()), previous={})
    assert made.keys() == {"used", "limit", "resetAt", "summary"}


def test_enforced_quota_has_no_condition_of_observing():
    assert quota_status.observed_verdict(ENFORCES, QUOTA) is None


@pytest.mark.parametrize("quota", [None, replace(QUOTA, mode="")])
def test_observing_is_unknown_until_sidecar_reports_limits(quota):
    found = quota_status.observed_verdict(OBSERVES, quota)
    assert found is not None
    assert found.status == "Unknown"


@pytest.mark.parametrize("used", ["25.01", "26", "100000"])
def test_exceeded_limit_is_named_while_it_is_observed(used):
    quota = replace(QUOTA, limits=(CALLS, replace(MONEY, used=used)))
    found = quota_status.observed_verdict(OBSERVES, quota)
    assert found is not None
    assert (found.status, found.reason) == ("True", "LimitExceeded")
    assert f"cost of the month: {used} of 25.00" in found.message
    assert "requests" not in found.message


def test_limit_that_is_just_reached_is_not_exceeded():
    quota = replace(QUOTA, limits=(replace(CALLS, used=10), replace(MONEY, used="25")))
    found = quota_status.observed_verdict(OBSERVES, quota)
    assert found is not None
    assert (found.status, found.reason) == ("False", "WithinLimits")
