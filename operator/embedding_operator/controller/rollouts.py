"""Restart workloads that ask for it, once a Secret that they read has changed."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from embedding_contract import names
from embedding_operator import errors
from embedding_operator.controller import workloads
from embedding_operator.informers.caches import Caches
from embedding_operator.kube import client, deadline, kinds
from embedding_operator.kube.client import KubeClient
from embedding_operator.kube.events import EventRecorder
from embedding_operator.kube.kinds import Object

_LOG = logging.getLogger(__name__)

EVERYWHERE: Final = "*"
SETTLE_SECONDS: Final = 5.0
"""Secrets that change within this time of each other cause one restart."""
LOOK_SECONDS: Final = 300.0
"""The interval of checks without a changed Secret, which note what new workloads started with."""
REASON: Final = "SecretChanged"


class Rollouts:
    """The workloads of the namespaces where restarts are allowed; safe to use from any thread.

    `restarted` gets the kind of each workload whose pods are replaced.
    """

    def __init__(
        self,
        *,
        objects: KubeClient,
        seen: Caches,
        events: EventRecorder,
        namespaces: frozenset[str],
        restarted: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._objects = objects
        self._seen = seen
        self._events = events
        self._namespaces = namespaces
        self._restarted = restarted
        self._clock = clock
        # Two policies of a namespace must not both report one restart.
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._changed: dict[str, float] = {}
        self._due: dict[str, float] = {}

    def secret_changes(self, namespace: str) -> None:
        """Note what pods have started with, before a synced Secret changes.

        Raises:
            errors.Unavailable: the API server does not answer.
        """
        if not self._covers(namespace):
            return
        with self._one_at_a_time(namespace):
            if self._go_through(namespace, may_restart=False):
                self._changed.setdefault(namespace, self._clock())

    def look(self, namespace: str) -> float | None:
        """Restart workloads that need it; seconds until the next check, None for any time.

        Raises:
            errors.Unavailable: the API server does not answer.
        """
        if not self._covers(namespace):
            return None
        with self._one_at_a_time(namespace):
            now = self._clock()
            changed = self._changed.get(namespace)
            if changed is None and now < self._due.get(namespace, float("-inf")):
                return None
            if changed is not None and now < changed + SETTLE_SECONDS:
                return changed + SETTLE_SECONDS - now
            self._go_through(namespace, may_restart=True)
            self._changed.pop(namespace, None)
            self._due[namespace] = now + LOOK_SECONDS
            return None

    @contextmanager
    def _one_at_a_time(self, namespace: str) -> Iterator[None]:
        with self._lock:
            lock = self._locks.setdefault(namespace, threading.Lock())
        if not lock.acquire(timeout=deadline.bounded(client.TIMEOUT_SECONDS[1])):
            raise errors.Unavailable(f"another reconcile still checks the workloads of {namespace}")
        try:
            yield
        finally:
            lock.release()

    def _covers(self, namespace: str) -> bool:
        return not self._namespaces.isdisjoint({EVERYWHERE, namespace})

    def _go_through(self, namespace: str, *, may_restart: bool) -> bool:
        """True if any workload asks to be restarted."""
        asked = False
        try:
            held = self._held(namespace)
            for workload in self._workloads(namespace):
                change = workloads.decide(workload, held, may_restart=may_restart)
                if change is not None:
                    self._apply(workload, change)
                asked = asked or workloads.asks(workload, held)
        except errors.Denied as error:
            # The administrator must grant it; the policy's secrets are in place.
            _LOG.warning("cannot check the workloads of %s: %s", namespace, error)
        return asked

    def _workloads(self, namespace: str) -> Iterator[Object]:
        for kind in kinds.WORKLOADS:
            for workload in self._seen.workloads_of(kinds.KINDS[kind], namespace):
                yield {**workload, "apiVersion": "apps/v1", "kind": kind}

    def _held(self, namespace: str) -> Mapping[str, Object | None]:
        synced = {
            entry["name"]
            for policy in self._seen.policies_of(namespace)
            for entry in policy["spec"].get("secrets") or ()
        }
        return {name: self._synced(namespace, name) for name in synced}

    def _synced(self, namespace: str, name: str) -> Object | None:
        found = self._seen.reads.get(kinds.SECRET, namespace, name)
        labels = found["metadata"].get("labels") or {} if found is not None else {}
        return found if labels.get(names.LABEL_MANAGED_BY) == names.MANAGED_BY else None

    def _apply(self, workload: Object, change: workloads.Change) -> None:
        kind = workload["kind"]
        parts = ", ".join(change.because)
        try:
            self._objects.apply(change.desired)
        except errors.Conflict:
            return  # deleted, or replaced by another, whose pods started just now
        except errors.Denied as error:
            _LOG.warning("%s %s: %s", kind, workload["metadata"]["name"], error)
            if change.because:
                message = f"Not restarted, though {parts} changed: {error}"
                self._events.record(workload, warning=True, reason=REASON, message=message)
            return
        if change.because:
            message = f"{parts} changed; the {kind} replaces its pods by its own strategy."
            self._events.record(workload, warning=False, reason=REASON, message=message)
            self._restarted(kind)
