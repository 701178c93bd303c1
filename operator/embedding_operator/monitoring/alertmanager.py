"""Parse answers of Alertmanager's API and its metrics: pure.

Formats: Alertmanager's api/v2/openapi.yaml, its configuration file, and the counters in its notify
package. `alertmanager_notifications_total` counts a notification when it begins and `_failed_total`
when it is given up, which takes minutes while a receiver answers 500. The counters
`alertmanager_notification_requests_total` and `_requests_failed_total` have each try, so they
decide.
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
"""Good states of a cluster: `disabled` is a single instance."""
RECEIVERS_LIMIT: Final = 16
_SAMPLE: Final = re.compile(r"([a-z_]+)\{([^}]*)\} ([0-9.e+]+)")
_INTEGRATION: Final = re.compile(r'integration="([a-z0-9_]+)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """An alert in Alertmanager; `state` is active, suppressed or unprocessed."""

    state: str
    receivers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Notifications of one integration (`webhook`, `slack`) since Alertmanager's start."""

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


_STATUS_DECODER: Final = msgspec.json.Decoder(_Status)


class _State(msgspec.Struct):
    state: str


class _Receiver(msgspec.Struct):
    name: str


class _Alert(msgspec.Struct):
    status: _State
    receivers: list[_Receiver]


_ALERTS_DECODER: Final = msgspec.json.Decoder(list[_Alert])


def cluster(body: bytes) -> str:
    """The state of the cluster, from an answer of /api/v2/status.

    Raises:
        NotUnderstood: the answer has another form.
    """
    return bounded(str(decoded(body, _STATUS_DECODER).cluster.status))


def integrations(body: bytes) -> dict[str, tuple[str, ...]]:
    """The integrations of each receiver, such as `webhook`, from an answer of /api/v2/status.

    Raises:
        NotUnderstood: the answer or its configuration has another form.
    """
    status = decoded(body, _STATUS_DECODER)
    try:
        parsed = yaml.safe_load(status.config.original if status.config else "")
        receivers = parsed["receivers"] or []
        return {str(it["name"]): _integrations(it) for it in receivers}
    except (yaml.YAMLError, KeyError, TypeError, RecursionError):
        raise NotUnderstood("configuration") from None


def held(body: bytes) -> Held | None:
    """The alert in an answer of /api/v2/alerts filtered for it; None without it.

    Raises:
        NotUnderstood: the answer has another form.
    """
    listed = decoded(body, _ALERTS_DECODER)
    if not listed:
        return None
    names = sorted({it.name for alert in listed for it in alert.receivers})[:RECEIVERS_LIMIT]
    states = {alert.status.state for alert in listed}
    state = next((it for it in ("active", "suppressed") if it in states), "unprocessed")
    return Held(state=state, receivers=tuple(names))


def counts(body: bytes) -> dict[str, Counts]:
    """The counters of each integration, from an answer of /metrics.

    Raises:
        NotUnderstood: there are none, so it is not Alertmanager's.
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
            # Each receiver and reason has a sample.
            of[name] = of.get(name, 0.0) + float(sample[3])
    if not found:
        raise NotUnderstood("metrics")
    return {integration: Counts(**of) for integration, of in found.items()}


def added(totals: Sequence[Mapping[str, Counts]]) -> dict[str, Counts]:
    """The sums over the Alertmanagers of a cluster, which share the work."""
    names = {name for it in totals for name in it}
    return {name: _sum([it[name] for it in totals if name in it]) for name in sorted(names)}


def since(before: Mapping[str, Counts], now: Mapping[str, Counts]) -> dict[str, Counts]:
    """The differences between two looks; the new counters after a restart."""
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
