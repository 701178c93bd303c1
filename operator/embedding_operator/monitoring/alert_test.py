"""A test alert: which one, when it may be made, and what came of it. Pure.

At most one in 10 minutes per policy, also over restarts of the operator: the status says that a
test has begun before it begins, and one whose end nobody saw is not made again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

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
"""What `status.alertTest.result` may be; a test has ended unless it is Running."""
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"

Object = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of one test; `receivers` are those that Alertmanager routed it to."""

    result: str
    message: str
    receivers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the status says of the test, whether to begin it, and when to look again."""

    status: Object | None
    begins: bool = False
    again_seconds: float | None = None


def labels(policy: EmbeddingPolicy) -> dict[str, str]:
    """The labels of a policy's test alert, by which it is routed as the policy's alerts are."""
    return {
        **alert_rules.labels(policy, severity="warning"),
        "alertname": ALERT,
        "namespace": policy.namespace,
        "policy": policy.name,
        "test": "true",
    }


def alert(test_labels: Mapping[str, str], *, since: datetime, until: datetime) -> Object:
    """The alert as POST /api/v2/alerts takes it."""
    who = f"{test_labels['namespace']}/{test_labels['policy']}"
    return {
        "labels": dict(test_labels),
        "annotations": {
            "summary": f"A test alert of {who}; nothing is wrong.",
            "description": "Somebody asked whether alerts of this policy are delivered.",
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
    """What to do about the annotation's value.

    Args:
        asked: the value; None where there is none.
        previous: `status.alertTest`, empty where there is none.
        ended: what came of the test that the status calls Running, where this process knows.
        is_running: whether this process is making it.
        now: the time.
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
        "message": "Alertmanager is being asked.",
    }
    return Plan(status=made, begins=True)


def seconds_until_next(previous: Mapping[str, Any], *, now: datetime) -> float:
    """How long until a policy with this `status.alertTest` may be tested again."""
    try:
        before = datetime.strptime(previous["time"], _TIME).replace(tzinfo=UTC)
    except (KeyError, TypeError, ValueError):
        return 0.0
    # A time in the future is not ours: a test is not put off for longer than the interval.
    waited_seconds = max(0.0, (now - before) / timedelta(seconds=1))
    return max(0.0, INTERVAL_SECONDS - waited_seconds)


def unrouted(held: Held, integrations: Mapping[str, tuple[str, ...]]) -> Result | None:
    """What to say where nobody can be notified; None where somebody can.

    `integrations` are those of each receiver of Alertmanager's configuration.
    """
    names = ", ".join(held.receivers) or "none"
    if held.state == "suppressed":
        return Result(
            result="Suppressed",
            message="Alertmanager holds the alert back: a silence or an inhibition matches it.",
            receivers=held.receivers,
        )
    if not any(integrations.get(name, ("?",)) for name in held.receivers):
        message = (
            f"The test alert is routed to receiver {names}, which notifies nobody: add a route for"
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
    """What came of it by the counters since the alert was posted; None: wait on.

    Counters are per integration, so what else was sent by it meanwhile is counted too: a failure of
    any of them is told as ours, and all of its notifications have to fail for us to miss none.
    `is_over`: nobody waits any longer.
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
        message = f"Routed to {names}, and not delivered: {told}. Alertmanager's log says why."
        return Result(result=NOT_DELIVERED, message=message, receivers=held.receivers)
    if kinds and not waiting and not failing:
        message = f"Routed to {names}, and delivered by {', '.join(kinds)}."
        return Result(result=DELIVERED, message=message, receivers=held.receivers)
    if is_over:
        message = (
            f"Routed to {names}, and no notification was sent in time by"
            f" {', '.join(waiting) or 'any integration'}: look at the route's group_wait and"
            " time intervals."
        )
        return Result(result=NOT_DELIVERED, message=message, receivers=held.receivers)
    return None
