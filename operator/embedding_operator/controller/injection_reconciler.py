"""Keep the EmbeddingInjection of a namespace, by which the API server injects.

While the operator is down the last one holds.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from embedding_operator import errors
from embedding_operator.informers.caches import Caches
from embedding_operator.injection import embedding_injection, injector, selection
from embedding_operator.kube import deadline, kinds
from embedding_operator.kube.client import KubeClient
from embedding_operator.kube.kinds import ObjectKey

COMPLETE_SECONDS: Final = 60.0


def check_served(objects: KubeClient, *, is_needed: bool) -> None:
    """Check that the API server can inject where that is needed; one that does not answer may.

    Raises:
        errors.Denied: it cannot; the message begins with the setting's name.
    """
    try:
        serves = not is_needed or objects.serves(kinds.MUTATING_POLICY)
    except errors.Unavailable:
        return
    if not serves:
        raise errors.Denied(
            "INJECTION_BY: policy (injection.by of the chart) needs an API server with"
            " MutatingAdmissionPolicy of admissionregistration.k8s.io/v1 (Kubernetes 1.36)"
        )


class InjectionReconciler:
    """Reconciles namespaces; `deadline_seconds` bounds a reconcile's calls to the API server.

    `objects` writes only while this replica holds the Lease, and `free` always. `changed` gets the
    namespace whose problem comes, changes or goes: the event of a write may be there before that,
    and names no policy whose selector is as before.
    """

    def __init__(
        self,
        *,
        objects: KubeClient,
        free: KubeClient,
        seen: Caches,
        sidecar: injector.Sidecar,
        deadline_seconds: float,
        changed: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._objects = objects
        self._free = free
        self._seen = seen
        self._sidecar = sidecar
        self._deadline_seconds = deadline_seconds
        self._changed = changed
        self._clock = clock
        self._problems: dict[str, errors.Problem] = {}
        self._looked_at: set[str] = set()
        self._asked_since: float | None = None
        self._complete = False

    def __call__(self, key: ObjectKey) -> float | None:
        """Write or delete the object of a namespace where that is due.

        Raises:
            errors.Unavailable: the API server does not answer, or not within the deadline.
            errors.Denied: it refuses; the message names the permission.
        """
        with deadline.within(self._deadline_seconds):
            try:
                self._reconcile(key.namespace)
            except errors.OperatorError as error:
                message = f"Pods are injected as before: EmbeddingInjection not written: {error}"
                self._keep(key.namespace, errors.Problem("InjectionNotWritten", message))
                raise
            finally:
                self._looked_at.add(key.namespace)
        self._keep(key.namespace, None)
        return None

    def _keep(self, namespace: str, problem: errors.Problem | None) -> None:
        """Keep the outcome of the last write."""
        if problem == self._problems.get(namespace):
            return
        if problem is None:
            self._problems.pop(namespace, None)
        else:
            self._problems[namespace] = problem
        self._changed(namespace)

    def write_missing(self) -> None:
        """Write the objects of namespaces that have none, whichever replica holds the Lease.

        The holder may inject by a webhook, and is replaced only once this replica is ready.
        """
        for key in self._seen.injected_namespaces():
            if self._seen.injection(key.namespace) is None:
                with suppress(errors.OperatorError):  # the problem is kept, and the holder repeats
                    self(key)

    def _reconcile(self, name: str) -> None:
        namespace = self._seen.namespace(name)
        if namespace is None or namespace["metadata"].get("deletionTimestamp"):
            return
        found = self._seen.injection(name)
        covering = selection.candidates(self._seen.policies_of(name))
        if not covering:
            if found is not None:
                self._objects.delete(found)
            return
        wanted = embedding_injection.of(
            name, covering, sidecar=self._sidecar, within=self._seen.bounds_of(name)
        )
        if found is None:
            self._free.apply(wanted)
        elif found["digest"] != embedding_injection.digest(wanted["spec"]):
            self._objects.apply(wanted)

    def waits(self) -> str | None:
        """The reason why this operator may not replace another yet; None once all is written.

        Objects that cannot be written, in somebody's namespace, are waited for no longer than
        COMPLETE_SECONDS.
        """
        if self._complete:
            return None
        now = self._clock()
        self._asked_since = now if self._asked_since is None else self._asked_since
        self._complete = now - self._asked_since > COMPLETE_SECONDS or (
            self._seen.synced
            and all(
                it.namespace in self._looked_at or self._seen.injection(it.namespace) is not None
                for it in self._seen.injected_namespaces()
            )
        )
        return None if self._complete else "not every EmbeddingInjection is written yet"

    def problem(self, namespace: str) -> errors.Problem | None:
        """The failure of the last write in a namespace; None after one that succeeded."""
        return self._problems.get(namespace)

    def injects(self, key: ObjectKey, selector: Mapping[str, Any]) -> bool:
        """True once the API server can inject the pods that this policy's `selector` selects."""
        found = self._seen.injection(key.namespace) or {"selectors": {}}
        wanted = embedding_injection.digest(embedding_injection.normal_selector(selector))
        return bool(found["selectors"].get(key.name) == wanted)
