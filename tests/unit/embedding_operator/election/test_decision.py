"""The rules of client-go's leaderelection, from a record and this replica's clock."""

import pytest

from embedding_operator.election import decision

ME, OTHER = "me", "other"


def seen(holder, *, since=100.0, duration=15):
    return decision.Seen(
        record=decision.Record(holder=holder, duration_seconds=duration), since=since
    )


@pytest.mark.parametrize(
    ("what", "holds", "now", "action"),
    [
        (decision.Seen(record=None, since=0), False, 100, "create"),
        (decision.Seen(record=None, since=0), True, 100, "create"),
        (seen(""), False, 100, "take"),
        (seen(ME), False, 100, "renew"),
        (seen(ME), True, 100, "renew"),
        (seen(OTHER), False, 114.9, "wait"),
        (seen(OTHER), False, 115, "take"),
        (seen(OTHER, duration=60), False, 115, "wait"),
        (seen(OTHER), True, 100, "lost"),
        (seen(""), True, 100, "lost"),
        (seen(OTHER), True, 200, "lost"),
    ],
)
def test_action_follows_from_record_and_clock(what, holds, now, action):
    assert decision.decide(what, identity=ME, holds=holds, now=now) == action


def test_record_counts_from_when_it_was_first_seen():
    first = decision.see(None, decision.Record(holder=OTHER, renewed="1"), now=100)
    assert decision.see(first, decision.Record(holder=OTHER, renewed="1"), now=110).since == 100
    assert decision.see(first, decision.Record(holder=OTHER, renewed="2"), now=110).since == 110


@pytest.mark.parametrize(
    ("what", "now", "seconds"),
    [
        (None, 100, 2),
        (seen(""), 100, 2),
        (seen(ME), 100, 2),
        (seen(OTHER), 100, 2),
        (seen(OTHER), 114, 1),
        (seen(OTHER), 115, 2),
    ],
)
def test_next_attempt_is_no_later_than_end_of_record(what, now, seconds):
    assert decision.wait_seconds(what, identity=ME, now=now) == pytest.approx(seconds)


def test_holder_may_write_until_its_renewal_is_overdue():
    assert decision.is_in_time(100, now=109.9)
    assert not decision.is_in_time(100, now=110)
    assert not decision.is_in_time(None, now=100)


@pytest.mark.parametrize(
    ("lease", "record"),
    [
        (None, None),
        ({}, decision.Record()),
        ({"spec": None}, decision.Record()),
        (
            {"spec": {"holderIdentity": None, "leaseDurationSeconds": "x"}},
            decision.Record(),
        ),
        (
            {
                "spec": {
                    "holderIdentity": OTHER,
                    "leaseDurationSeconds": 60,
                    "acquireTime": "a",
                    "renewTime": "r",
                    "leaseTransitions": 3,
                }
            },
            decision.Record(
                holder=OTHER, duration_seconds=60, acquired="a", renewed="r", transitions=3
            ),
        ),
    ],
)
def test_lease_of_any_form_is_read(lease, record):
    assert decision.read(lease) == record


def test_others_take_over_only_after_holder_stopped():
    assert decision.RENEW_DEADLINE_SECONDS < decision.DURATION_SECONDS
    assert decision.RETRY_SECONDS < decision.RENEW_DEADLINE_SECONDS
