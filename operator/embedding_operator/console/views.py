"""The page's views of one cluster, read with the user's own rights."""

import threading
import time
from datetime import UTC, datetime
from typing import Any, Final

from embedding_operator import errors
from embedding_operator.console import collection, overview, plots, prometheus, usage
from embedding_operator.kube import client

PODS_ASKED: Final = 200
"""The page asks so many sidecars itself; for more it needs a Prometheus."""
FRESH_SECONDS: Final = 2.0
"""More frequent requests get the same answer."""


class ClusterViews:
    """The page's views of one cluster."""

    def __init__(
        self,
        api: client.KubeClient,
        *,
        namespace: str | None,
        asked: prometheus.Prometheus | None,
        plot_seconds: float = plots.PLOT_SECONDS,
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._prometheus = asked
        self._plot_seconds = plot_seconds
        self._lock = threading.Lock()
        self._last: tuple[float, dict[str, Any]] = (float("-inf"), {})

    def state(self) -> dict[str, Any]:
        """The overview, read at most once in FRESH_SECONDS.

        Raises:
            errors.OperatorError: policies cannot be read.
        """
        with self._lock:
            looked, found = self._last
            if time.monotonic() - looked >= FRESH_SECONDS:
                found = self._look()
                self._last = (time.monotonic(), found)
            return found

    def plots(self, namespace: str, name: str) -> dict[str, Any] | None:
        """One policy's plots; None without a Prometheus or for an unknown policy.

        Raises:
            errors.OperatorError: Prometheus gives no answer.
        """
        known = {(it["namespace"], it["name"]) for it in self.state()["policies"]}
        if self._prometheus is None or (namespace, name) not in known:
            return None
        return plots.draw(
            self._prometheus,
            namespace=namespace,
            policy=name,
            now=time.time(),
            seconds=self._plot_seconds,
        )

    def _look(self) -> dict[str, Any]:
        policies = collection.policies(self._api, self._namespace)
        return overview.build(
            policies,
            self._seen(),
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            scope=self._namespace or "all namespaces",
        )

    def _seen(self) -> overview.Seen:
        notes = []
        if self._prometheus is not None:
            try:
                figures = plots.figures(self._prometheus)
                return overview.Seen(samples=figures, period=plots.PERIOD, source="Prometheus")
            except errors.OperatorError as error:
                notes.append(f"{error}. The figures come from the sidecars.")
        try:
            found = collection.pods(self._api, self._namespace)
        except errors.OperatorError as error:
            notes.append(f"No live figures, as pods cannot be listed: {error}")
            return overview.Seen(notes=tuple(notes))
        if len(found) > PODS_ASKED:
            notes.append(
                f"The figures are of the first {PODS_ASKED} of {len(found)} sidecars; use"
                " --prometheus for all."
            )
        scraped = collection.scrape(self._api, found[:PODS_ASKED])
        if scraped.failed:
            pod, why = scraped.failed[0]
            notes.append(
                f"{len(scraped.failed)} of {len(scraped.failed) + len(scraped.series)} sidecars"
                f" did not answer, such as {pod.namespace}/{pod.name}: {why}"
            )
        return overview.Seen(
            samples=tuple(
                usage.Sample(
                    name=it.name,
                    labels={**it.labels, "namespace": pod.namespace, "policy": pod.policy},
                    value=it.value,
                )
                for pod, seen in scraped.series
                for it in seen
            ),
            period="the time since each sidecar started",
            source="sidecars" if scraped.series else "status",
            notes=tuple(notes),
        )
