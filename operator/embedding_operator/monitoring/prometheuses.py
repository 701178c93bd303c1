"""The Prometheus objects of the cluster: looked at once a minute for all policies together."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from embedding_operator import errors
from embedding_operator.errors import Problem
from embedding_operator.monitoring import selectors

LOOK_SECONDS: Final = 60.0

_LOG = logging.getLogger(__name__)

Object = dict[str, Any]


class Prometheuses:
    """What is known of them. `find` asks the API server; safe to use from any thread."""

    def __init__(
        self,
        *,
        find: Callable[[], Sequence[Object]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._find = find
        self._clock = clock
        self._lock = threading.Lock()
        self._asked_at = float("-inf")
        self._found: Sequence[Object] = ()

    def agreed_labels(self) -> Mapping[str, str]:
        """The labels by which all of them select; empty where they do not agree."""
        return selectors.agreed_labels(self._look())

    def rules_not_selected(
        self, rule: Object, *, namespace_labels: Mapping[str, str]
    ) -> Problem | None:
        """Why none would load this PrometheusRule; None where one would, or there is none."""
        return selectors.rules_not_selected(self._look(), _ours(rule, namespace_labels))

    def pods_not_selected(
        self, pod_monitor: Object, *, namespace_labels: Mapping[str, str]
    ) -> Problem | None:
        """Why none would scrape by this PodMonitor; None where one would, or there is none."""
        return selectors.pods_not_selected(self._look(), _ours(pod_monitor, namespace_labels))

    def _look(self) -> Sequence[Object]:
        """What was found at most LOOK_SECONDS ago; what was known, while nothing can be found."""
        with self._lock:
            now = self._clock()
            if now - self._asked_at < LOOK_SECONDS:
                return self._found
            # Also where it fails: one look a minute is all that the API server is asked for.
            self._asked_at = now
        try:
            found = self._find()
        except errors.OperatorError as error:
            _LOG.warning("the kinds of the Prometheus operator cannot be listed: %s", error)
            return self._found
        with self._lock:
            self._found = found
        return found


def _ours(made: Object, namespace_labels: Mapping[str, str]) -> selectors.Ours:
    metadata = made["metadata"]
    return selectors.Ours(
        namespace=metadata["namespace"],
        namespace_labels=namespace_labels,
        labels=metadata.get("labels") or {},
    )
