"""Ask Prometheus and Alertmanager in one thread with one event loop.

A reconcile registers what a policy expects and reads the last answers; it never waits for a server.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from embedding_operator.errors import Problem
from embedding_operator.kube.conditions import Verdict
from embedding_operator.kube.kinds import Object, ObjectKey
from embedding_operator.monitoring import alert_test, conditions, rules
from embedding_operator.monitoring.alert_tester import AlertTester
from embedding_operator.monitoring.connection import Connection
from embedding_operator.monitoring.endpoints import Endpoint, Endpoints
from embedding_operator.monitoring.poller import Poller
from embedding_operator.monitoring.prometheuses import Prometheuses
from embedding_operator.policy.policy import EmbeddingPolicy

_LOG = logging.getLogger(__name__)
STARTING_SECONDS: Final = 120.0
"""A sidecar younger than this may not have been scraped yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The proofs for one policy: conditions by type, and `status.alertTest`."""

    conditions: Mapping[str, Verdict]
    alert_test: Object | None
    again_seconds: float | None


class Monitor:
    """Asks all servers; `changed` gets each policy with news.

    `selecting` has the Prometheus objects of the cluster; `observe` gets the kind of server and the
    outcome of each request.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        *,
        changed: Callable[[ObjectKey], None],
        selecting: Prometheuses | None = None,
        observe: Callable[[str, str], None] = lambda _, __: None,
    ) -> None:
        def connected(kind: str, servers: Sequence[Endpoint]) -> tuple[Connection, ...]:
            return tuple(
                Connection(it, body_bytes=endpoints.body_bytes, observe=partial(observe, kind))
                for it in servers
            )

        prometheus = connected("prometheus", endpoints.prometheus)
        alertmanagers = connected("alertmanager", endpoints.alertmanager)
        self._poller = Poller(prometheus=prometheus, alertmanagers=alertmanagers, changed=changed)
        self._tester = AlertTester(alertmanagers=alertmanagers, changed=changed)
        self._selecting = selecting
        self._planned: dict[ObjectKey, Mapping[str, str]] = {}

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="monitoring", daemon=True).start()

    def look(
        self,
        policy: EmbeddingPolicy,
        *,
        told: Sequence[Object],
        running: Sequence[Mapping[str, Any]],
        asked: str | None,
        previous: Mapping[str, Any],
        now: datetime,
    ) -> Proof:
        """The last proofs for a policy; asks no server.

        `told` are its objects as rendered, with metadata and status from the cluster, `running` the
        pods whose sidecar runs, and `asked` is the annotation that requests a test alert.
        """
        key = policy.key
        made = [it for it in told if it["kind"] == "PrometheusRule"]
        groups = tuple(group for rule in made for group in rules.expected(rule))
        seen = self._poller.watch(key, groups)
        refusals = [it for it in map(rules.refusal, made) if it is not None]
        no_rules, no_pods = self._not_selected(told)
        wanted = conditions.Rules(
            groups=groups, refused=refusals[0] if refusals else None, not_selected=no_rules
        )
        plan = alert_test.plan(
            asked=asked,
            previous=previous.get("alertTest") or {},
            ended=self._tester.ended(key),
            is_running=self._tester.is_running(key),
            now=now,
        )
        if plan.begins:
            self._planned[key] = alert_test.labels(policy)
        else:
            self._planned.pop(key, None)
        names = [pod["metadata"]["name"] for pod in running]
        starting = [pod["metadata"]["name"] for pod in running if _is_starting(pod, now=now)]
        return Proof(
            conditions={
                conditions.RULES_LOADED: conditions.rules_loaded(wanted, seen.prometheus),
                conditions.SCRAPED: conditions.scraped(
                    names, seen.prometheus, starting=starting, not_selected=no_pods
                ),
                conditions.ALERTMANAGER_READY: conditions.alertmanager_ready(seen.alertmanager),
            },
            alert_test=plan.status,
            again_seconds=plan.again_seconds,
        )

    def reported(self, key: ObjectKey) -> None:
        """Begin a planned test, once the status records it."""
        labels = self._planned.pop(key, None)
        if labels is not None:
            self._tester.begin(key, labels)

    def forget(self, key: ObjectKey) -> None:
        """A policy has gone."""
        self._poller.forget(key)
        self._tester.forget(key)
        self._planned.pop(key, None)

    def _not_selected(self, told: Sequence[Object]) -> tuple[Problem | None, Problem | None]:
        """The reasons why no Prometheus object selects the rules, and the PodMonitor."""
        if self._selecting is None:
            return None, None
        found = {it["kind"]: self._selecting.not_selected(it) for it in reversed(told)}
        return found.get("PrometheusRule"), found.get("PodMonitor")

    def _run(self) -> None:
        try:
            asyncio.run(self._ask())
        except Exception:  # noqa: BLE001 - only the log shows that a thread ends
            _LOG.exception("asking Prometheus and Alertmanager has ended")

    async def _ask(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._poller.run())
            tasks.create_task(self._tester.run())


def _is_starting(pod: Mapping[str, Any], *, now: datetime) -> bool:
    try:
        since = datetime.fromisoformat(pod["status"]["startTime"]).astimezone(UTC)
    except (KeyError, TypeError, ValueError):
        return False
    return now - since < timedelta(seconds=STARTING_SECONDS)
