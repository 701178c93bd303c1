"""The Prometheus objects of the cluster, listed once a minute for all policies together."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from embedding_operator import errors
from embedding_operator.errors import Problem
from embedding_operator.kube.kinds import Object
from embedding_operator.monitoring import selectors

LOOK_SECONDS: Final = 60.0
NAMESPACES_KEPT: Final = 10_000

_LOG = logging.getLogger(__name__)


class Prometheuses:
    """The last list; safe to use from any thread.

    `find` lists the objects. `labels_of` reads the labels of a namespace, if one of them selects
    namespaces by labels. Both call the API server and raise errors.OperatorError.
    """

    def __init__(
        self,
        *,
        find: Callable[[], Sequence[Object]],
        labels_of: Callable[[str], Mapping[str, str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._find = find
        self._labels_of = labels_of
        self._clock = clock
        self._lock = threading.Lock()
        self._asked_at = float("-inf")
        self._found: Sequence[Object] = ()
        self._namespaces: dict[str, tuple[float, Mapping[str, str]]] = {}

    def agreed_labels(self) -> Mapping[str, str]:
        """The labels by which all select; empty if they differ."""
        return selectors.agreed_labels(self._look())

    def not_selected(self, made: Object) -> Problem | None:
        """The reason why none selects this PrometheusRule or PodMonitor; None if one does."""
        found = self._look()
        return selectors.not_selected(found, self._ours(made, found), kind=made["kind"])

    def _ours(self, made: Object, found: Sequence[Object]) -> selectors.Ours:
        metadata = made["metadata"]
        namespace = metadata["namespace"]
        by_labels = selectors.select_namespaces_by_labels(found)
        return selectors.Ours(
            namespace=namespace,
            namespace_labels=self._labels(namespace) if by_labels else {},
            labels=metadata.get("labels") or {},
        )

    def _labels(self, namespace: str) -> Mapping[str, str]:
        """The labels of a namespace, at most LOOK_SECONDS old; the last ones on failure."""
        now = self._clock()
        with self._lock:
            asked_at, known = self._namespaces.get(namespace, (float("-inf"), {}))
            if now - asked_at < LOOK_SECONDS:
                return known
            if len(self._namespaces) >= NAMESPACES_KEPT:
                self._namespaces.clear()
            self._namespaces[namespace] = now, known
        try:
            labels = self._labels_of(namespace)
        except errors.OperatorError as error:
            _LOG.warning("cannot read the labels of namespace %s: %s", namespace, error)
            return known
        with self._lock:
            self._namespaces[namespace] = now, labels
        return labels

    def _look(self) -> Sequence[Object]:
        """A list at most LOOK_SECONDS old; the last one on failure."""
        with self._lock:
            now = self._clock()
            if now - self._asked_at < LOOK_SECONDS:
                return self._found
            # Also on failure: one list a minute is the limit.
            self._asked_at = now
        try:
            found = self._find()
        except errors.OperatorError as error:
            _LOG.warning("cannot list the kinds of the Prometheus operator: %s", error)
            return self._found
        with self._lock:
            self._found = found
        return found
