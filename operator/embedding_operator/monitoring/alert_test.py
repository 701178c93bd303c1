"""A test alert: its labels, when it may be sent, and its result. Pure.

At most one in 10 minutes per policy, also over restarts of the operator: the status records a test
before it begins, and an interrupted one is not repeated.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from embedding_operator.kube.kinds import Object
from embedding_operator.monitoring.alertmanager import Counts, Held
from embedding_operator.policy.policy import EmbeddingPolicy
from embedding_operator.render import alert_rules

ALERT: Final = "EmbeddingTestAlert"
INTERVAL_SECONDS: Final = 600.0
VALUE_CHARACTERS: Final = 256
RUNNING: Final = "Running"
DELIVERED: Final = "Delivered"
NOT_DELIVERED: Final = "NotDelivered"
NO_RECEIVER: Final = "NoReceiver"
RESULTS: Final = (
    RUNNING,
    DELIVERED,
    NOT_DELIVERED,
    NO_RECEIVER,
    "Suppressed",
    "NotActive",
    "CannotAsk",
    "NotConfigured",
    "Interrupted",
)
"""Values of `status.alertTest.result`; a test has ended unless it is Running."""
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of one test; Alertmanager routed it to `receivers`."""

    result: str
    message: str
    receivers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The new `status.alertTest`, whether to begin a test, and when to reconcile again."""

    status: Object | None
    begins: bool = False
    again_seconds: float | None = None


def labels(policy: EmbeddingPolicy) -> dict[str, str]:
    """The labels of a policy's test alert, which route it like the policy's alerts."""
    return {
        **alert_rules.labels(policy, severity="warning"),
        "alertname": ALERT,
        "namespace": policy.namespace,
        "policy": policy.name,
        "test": "true",
    }


def alert(test_labels: Mapping[str, str], *, since: datetime, until: datetime) -> Object:
    """The alert for POST /api/v2/alerts."""
    who = f"{test_labels['namespace']}/{test_labels['policy']}"
    return {
        "labels": dict(test_labels),
        "annotations": {
            "summary": f"Test alert of {who}; nothing is wrong.",
            "description": "A user asked to test the delivery of this policy's alerts.",
        },
        "startsAt": since.astimezone(UTC).isoformat(),
        "endsAt": until.astimezone(UTC).isoformat(),
    }


def plan(
    *,
    asked: str | None,
    previous: Mapping[str, Any],
    ended: Result | None,
    is_running: bool,
    now: datetime,
) -> Plan:
    """The plan for the annotation's value `asked`; `previous` is `status.alertTest`.

    `ended` and `is_running` are of the test that the status calls Running, in this process.
    """
    before = dict(previous)
    if before.get("result") == RUNNING and not is_running:
        if ended is None:
            message = "The operator was restarted during the test; set another value to repeat it."
            ended = Result(result="Interrupted", message=message)
        before |= {"result": ended.result, "message": ended.message}
        if ended.receivers:
            before["receivers"] = list(ended.receivers)
    kept = before or None
    if asked is None or asked == before.get("value") or before.get("result") == RUNNING:
        return Plan(status=kept)
    wait_seconds = seconds_until_next(before, now=now)
    if wait_seconds > 0:
        return Plan(status=kept, again_seconds=wait_seconds)
    made = {
        "value": asked,
        "time": now.astimezone(UTC).strftime(_TIME),
        "result": RUNNING,
        "message": "The test alert is being sent.",
    }
    return Plan(status=made, begins=True)


def seconds_until_next(previous: Mapping[str, Any], *, now: datetime) -> float:
    """Seconds until a policy with this `status.alertTest` may be tested again."""
    try:
        before = datetime.strptime(previous["time"], _TIME).replace(tzinfo=UTC)
    except (KeyError, TypeError, ValueError):
        return 0.0
    # A time in the future is not ours, and must not delay a test for longer than the interval.
    waited_seconds = max(0.0, (now - before) / timedelta(seconds=1))
    return max(0.0, INTERVAL_SECONDS - waited_seconds)


def unrouted(held: Held, integrations: Mapping[str, tuple[str, ...]]) -> Result | None:
    """The result of an alert that notifies nobody; None if it can notify somebody.

    `integrations` are those of each receiver in Alertmanager's configuration.
    """
    names = ", ".join(held.receivers) or "none"
    if held.state == "suppressed":
        return Result(
            result="Suppressed",
            message="Alertmanager suppresses the alert: a silence or an inhibition matches it.",
            receivers=held.receivers,
        )
    if not any(integrations.get(name, ("?",)) for name in held.receivers):
        message = (
            f"The test alert is routed to receiver {names}, which notifies nobody; add a route for"
            " the labels of the policy's alerts, or give that receiver an integration."
        )
        return Result(result=NO_RECEIVER, message=message, receivers=held.receivers)
    return None


def delivered(
    held: Held,
    integrations: Mapping[str, tuple[str, ...]],
    sent: Mapping[str, Counts],
    *,
    is_over: bool,
) -> Result | None:
    """The result by the counters since the alert was posted; None to wait on.

    Counters are per integration and include its other notifications: any failure counts as ours,
    and a success counts once more were tried than failed. `is_over`: the time to wait has passed.
    """
    routed = {kind for name in held.receivers for kind in integrations.get(name, ())}
    kinds = sorted(routed or sent)
    names = ", ".join(held.receivers)
    counted = {kind: sent.get(kind, Counts()) for kind in kinds}
    failing = [kind for kind, it in counted.items() if it.failed or it.given_up]
    waiting = [kind for kind, it in counted.items() if it.tried <= it.failed]
    if failing and (is_over or not set(waiting) - set(failing)):
        told = ", ".join(
            f"{kind} ({counted[kind].failed:g} of {counted[kind].tried:g} tries failed)"
            for kind in failing
        )
        message = f"Routed to {names} but not delivered: {told}. See Alertmanager's log."
        return Result(result=NOT_DELIVERED, message=message, receivers=held.receivers)
    if kinds and not waiting and not failing:
        message = f"Routed to {names} and delivered by {', '.join(kinds)}."
        return Result(result=DELIVERED, message=message, receivers=held.receivers)
    if is_over:
        message = (
            f"Routed to {names}, but no notification was sent in time by"
            f" {', '.join(waiting) or 'any integration'}; check the route's group_wait and time"
            " intervals."
        )
        return Result(result=NOT_DELIVERED, message=message, receivers=held.receivers)
    return None
