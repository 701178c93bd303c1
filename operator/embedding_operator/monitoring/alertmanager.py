"""What Alertmanager says, read from its API and its metrics: pure.

Formats: Alertmanager's api/v2/openapi.yaml, its configuration file, and the counters in its notify
package. `alertmanager_notifications_total` counts a notification when it begins and `_failed_total`
when it is given up, which takes minutes while a receiver answers 500. What each try came to is in
`alertmanager_notification_requests_total` and `_requests_failed_total`, so those decide.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import yaml

from embedding_operator.monitoring.answers import NotUnderstood, bounded, decoded

STATUS: Final = "/api/v2/status"
ALERTS: Final = "/api/v2/alerts"
METRICS: Final = "/metrics"
COUNTERS: Final = {
    "alertmanager_notifications_total": "begun",
    "alertmanager_notifications_failed_total": "given_up",
    "alertmanager_notification_requests_total": "tried",
    "alertmanager_notification_requests_failed_total": "failed",
}
WELL: Final = frozenset({"ready", "disabled"})
"""States of a cluster that are well: `disabled` is a single instance."""
RECEIVERS_LIMIT: Final = 16
_SAMPLE: Final = re.compile(r"([a-z_]+)\{([^}]*)\} ([0-9.e+]+)")
_INTEGRATION: Final = re.compile(r'integration="([a-z0-9_]+)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """An alert that Alertmanager holds. `state` is active, suppressed or unprocessed."""

    state: str
    receivers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What one integration (`webhook`, `slack`) has sent since Alertmanager was started."""

    begun: float = 0.0
    given_up: float = 0.0
    tried: float = 0.0
    failed: float = 0.0


class _Cluster(msgspec.Struct):
    status: str


class _Config(msgspec.Struct):
    original: str = ""


class _Status(msgspec.Struct):
    cluster: _Cluster
    config: _Config | None = None


class _State(msgspec.Struct):
    state: str


class _Receiver(msgspec.Struct):
    name: str


class _Alert(msgspec.Struct):
    status: _State
    receivers: list[_Receiver]


def cluster(body: bytes) -> str:
    """Of an answer of /api/v2/status: the state of the cluster.

    Raises:
        NotUnderstood: it is no such answer.
    """
    return bounded(str(decoded(body, _Status).cluster.status))


def integrations(body: bytes) -> dict[str, tuple[str, ...]]:
    """Of an answer of /api/v2/status: the integrations of each receiver, such as `webhook`.

    Raises:
        NotUnderstood: it is no such answer, or its configuration cannot be read.
    """
    status = decoded(body, _Status)
    try:
        parsed = yaml.safe_load(status.config.original if status.config else "")
        receivers = parsed["receivers"] or []
        return {str(it["name"]): _integrations(it) for it in receivers}
    except (yaml.YAMLError, KeyError, TypeError, RecursionError):
        raise NotUnderstood("configuration") from None


def held(body: bytes) -> Held | None:
    """Of an answer of /api/v2/alerts, asked for one alert: that alert; None where it is not there.

    Raises:
        NotUnderstood: it is no such answer.
    """
    listed = decoded(body, list[_Alert])
    if not listed:
        return None
    names = sorted({it.name for alert in listed for it in alert.receivers})[:RECEIVERS_LIMIT]
    states = {alert.status.state for alert in listed}
    state = next((it for it in ("active", "suppressed") if it in states), "unprocessed")
    return Held(state=state, receivers=tuple(names))


def counts(body: bytes) -> dict[str, Counts]:
    """Of an answer of /metrics: the counters of each integration.

    Raises:
        NotUnderstood: it holds none, so it is not Alertmanager's.
    """
    found: dict[str, dict[str, float]] = {}
    for line in body.decode("utf-8", errors="replace").splitlines():
        sample = _SAMPLE.match(line)
        if sample is None or sample[1] not in COUNTERS:
            continue
        integration = _INTEGRATION.search(sample[2])
        if integration is not None:
            of = found.setdefault(integration[1], {})
            name = COUNTERS[sample[1]]
            # Of several receivers or reasons, each has a sample.
            of[name] = of.get(name, 0.0) + float(sample[3])
    if not found:
        raise NotUnderstood("metrics")
    return {integration: Counts(**of) for integration, of in found.items()}


def added(totals: Sequence[Mapping[str, Counts]]) -> dict[str, Counts]:
    """The counters of several Alertmanagers, which share the work of a cluster."""
    names = {name for it in totals for name in it}
    return {name: _sum([it[name] for it in totals if name in it]) for name in sorted(names)}


def since(before: Mapping[str, Counts], now: Mapping[str, Counts]) -> dict[str, Counts]:
    """What each integration has sent between two looks; all of it where one was restarted."""
    return {name: _less(it, before.get(name, Counts())) for name, it in now.items()}


def _sum(counted: Sequence[Counts]) -> Counts:
    return Counts(**{key: sum(getattr(it, key) for it in counted) for key in COUNTERS.values()})


def _less(now: Counts, before: Counts) -> Counts:
    if now.begun < before.begun:
        return now
    return Counts(**{key: getattr(now, key) - getattr(before, key) for key in COUNTERS.values()})


def _integrations(receiver: Mapping[str, Any]) -> tuple[str, ...]:
    suffix = "_configs"
    return tuple(
        sorted(
            key.removesuffix(suffix) for key, it in receiver.items() if key.endswith(suffix) and it
        )
    )
