"""A test alert: when it may be made, its content, and the reading of Alertmanager's counters."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from embedding_operator.monitoring import alert_test, alertmanager
from embedding_operator.monitoring.alert_test import Result
from embedding_operator.monitoring.alertmanager import Counts, Held
from embedding_operator.monitoring.answers import NotUnderstood
from tests.parts import policies

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
DONE = Result(result="Delivered", message="m", receivers=("hook",))


def plan(asked, previous=None, *, ended=None, is_running=False, now=NOW):
    return alert_test.plan(
        asked=asked, previous=previous or {}, ended=ended, is_running=is_running, now=now
    )


def test_alert_is_not_tested_unasked():
    assert plan(None) == alert_test.Plan(status=None)


def test_value_begins_one_test_and_no_second():
    first = plan("1")
    assert first.begins
    assert first.status is not None
    assert (first.status["value"], first.status["result"]) == ("1", "Running")
    assert first.status["time"] == "2026-01-01T12:00:00Z"
    running = plan("1", first.status, is_running=True)
    assert (running.begins, running.status) == (False, first.status)
    ended = plan("1", first.status, ended=DONE)
    assert ended.status == {
        **first.status,
        "result": "Delivered",
        "message": "m",
        "receivers": ["hook"],
    }
    day = NOW + timedelta(days=1)
    assert plan("1", ended.status, ended=DONE, now=day) == alert_test.Plan(status=ended.status)
    assert plan(None, ended.status) == alert_test.Plan(status=ended.status)


def test_another_value_begins_another_ten_minutes_later():
    before = {"value": "1", "time": "2026-01-01T12:00:00Z", "result": "Delivered", "message": ""}
    early = plan("2", before, now=NOW + timedelta(seconds=599))
    assert (early.begins, early.status, early.again_seconds) == (False, before, 1)
    assert plan("2", before, now=NOW + timedelta(seconds=600)).begins


def test_restart_during_test_makes_no_second():
    running = plan("1").status
    seen = plan("1", running)
    assert not seen.begins
    assert seen.status is not None
    assert seen.status["result"] == "Interrupted"
    assert not plan("2", running, now=NOW + timedelta(seconds=5)).begins


@pytest.mark.parametrize("time", ["", "yesterday", None, 7, "2026-01-01T12:00:00"])
def test_invalid_time_holds_nothing_back(time):
    assert plan("2", {"value": "1", "time": time, "result": "Delivered"}).begins


def test_time_in_future_holds_back_for_ten_minutes_at_most():
    previous = {"value": "1", "time": "2096-01-01T12:00:00Z", "result": "Delivered"}
    assert plan("2", previous).again_seconds == 600


def test_labels_route_it_as_policys_alerts_and_mark_it():
    labels = alert_test.labels(policies.parsed(alerts={"enabled": True, "labels": {"team": "a"}}))
    assert labels == {
        "alertname": "EmbeddingTestAlert",
        "namespace": "shop",
        "policy": "search",
        "severity": "warning",
        "team": "a",
        "test": "true",
    }
    pretending = {"enabled": True, "labels": {"test": "false", "severity": "critical"}}
    labels = alert_test.labels(policies.parsed(alerts=pretending))
    assert (labels["test"], labels["severity"]) == ("true", "critical")


def test_test_alert_ends_by_itself():
    made = alert_test.alert(
        alert_test.labels(policies.parsed()), since=NOW, until=NOW + timedelta(minutes=10)
    )
    assert (made["startsAt"], made["endsAt"]) == (
        "2026-01-01T12:00:00+00:00",
        "2026-01-01T12:10:00+00:00",
    )


HELD = Held(state="active", receivers=("hook",))
KINDS: dict[str, tuple[str, ...]] = {"hook": ("slack", "webhook"), "null": ()}
SENT = Counts(begun=1, tried=1)
FAILED = Counts(begun=1, tried=2, failed=2)


@pytest.mark.parametrize(
    ("sent", "is_over", "expected"),
    [
        ({}, False, None),
        ({"webhook": SENT}, False, None),
        ({"webhook": SENT, "slack": SENT}, False, "Delivered"),
        ({"webhook": SENT, "slack": FAILED}, False, "NotDelivered"),
        ({"webhook": FAILED}, False, None),
        ({"webhook": FAILED}, True, "NotDelivered"),
        # Begun is not sent: notifications_total rises before the receiver has answered.
        ({"webhook": Counts(begun=1), "slack": SENT}, False, None),
        ({"webhook": Counts(begun=1), "slack": SENT}, True, "NotDelivered"),
        ({"pagerduty": FAILED, "webhook": SENT, "slack": SENT}, False, "Delivered"),
        ({}, True, "NotDelivered"),
    ],
)
def test_alert_is_delivered_once_each_integration_has_sent(sent, is_over, expected):
    found = alert_test.delivered(HELD, KINDS, sent, is_over=is_over)
    assert (found and found.result) == expected


def test_receiver_that_notifies_nobody_and_silence_are_told():
    null = Held(state="active", receivers=("null",))
    found = alert_test.unrouted(null, KINDS)
    assert found is not None
    assert found.result == "NoReceiver"
    assert "receiver null, which notifies nobody" in found.message
    silenced = alert_test.unrouted(Held(state="suppressed", receivers=("hook",)), KINDS)
    assert silenced is not None
    assert silenced.result == "Suppressed"
    assert alert_test.unrouted(HELD, KINDS) is None
    assert alert_test.unrouted(Held(state="active", receivers=("null", "hook")), KINDS) is None


METRICS = b"""# HELP alertmanager_notifications_total The total number of attempted notifications.
alertmanager_notifications_total{integration="webhook"} 3
alertmanager_notifications_total{integration="slack",receiver_name="a"} 1
alertmanager_notifications_total{integration="slack",receiver_name="b"} 2
alertmanager_notifications_failed_total{integration="webhook",reason="other"} 1e+06
alertmanager_notification_requests_total{integration="webhook"} 5
alertmanager_notification_requests_failed_total{integration="webhook"} 4
alertmanager_alerts{state="active"} 1
"""


def test_counters_are_summed_by_integration():
    found = alertmanager.counts(METRICS)
    assert found["webhook"] == Counts(begun=3, given_up=1e6, tried=5, failed=4)
    assert found["slack"] == Counts(begun=3)


def test_counters_since_restart_begin_anew():
    before, now = {"webhook": Counts(begun=9, tried=9)}, {"webhook": Counts(begun=1, tried=1)}
    assert alertmanager.since(before, now) == now
    assert alertmanager.since(now, before) == {"webhook": Counts(begun=8, tried=8)}


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff", b"up 1"])
def test_body_without_counters_is_not_understood(body):
    with pytest.raises(NotUnderstood):
        alertmanager.counts(body)


@pytest.mark.parametrize(
    "original",
    ["", "receivers", "receivers: 7", "receivers: [1]", "receivers: [{}]", "{{", "a: &a"],
)
def test_configuration_that_cannot_be_read_is_not_understood(original):
    body = json.dumps({"cluster": {"status": "ready"}, "config": {"original": original}})
    with pytest.raises(NotUnderstood):
        alertmanager.integrations(body.encode())
