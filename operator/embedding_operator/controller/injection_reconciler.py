"""Keep the EmbeddingInjection of a namespace, by which the API server injects.

While the operator is down the last one holds.
"""

from collections.abc import Mapping
from typing import Any

from embedding_operator import errors
from embedding_operator.informers.caches import Caches
from embedding_operator.injection import embedding_injection, injector, selection
from embedding_operator.kube import deadline
from embedding_operator.kube.client import KubeClient
from embedding_operator.kube.kinds import ObjectKey


class InjectionReconciler:
    """Reconciles namespaces; `deadline_seconds` bounds a reconcile's calls to the API server."""

    def __init__(
        self,
        *,
        objects: KubeClient,
        seen: Caches,
        sidecar: injector.Sidecar,
        deadline_seconds: float,
    ) -> None:
        self._objects = objects
        self._seen = seen
        self._sidecar = sidecar
        self._deadline_seconds = deadline_seconds
        self._problems: dict[str, errors.Problem] = {}

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
                self._problems[key.namespace] = errors.Problem("InjectionNotWritten", message)
                raise
        self._problems.pop(key.namespace, None)
        return None

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
        wanted = embedding_injection.of(name, covering, sidecar=self._sidecar)
        if found is None or found["digest"] != embedding_injection.digest(wanted["spec"]):
            self._objects.apply(wanted)

    def problem(self, namespace: str) -> errors.Problem | None:
        """Why the last write in a namespace failed; None after one that did not."""
        return self._problems.get(namespace)

    def injects(self, key: ObjectKey, selector: Mapping[str, Any]) -> bool:
        """True once the API server can inject the pods that this policy's `selector` selects."""
        found = self._seen.injection(key.namespace) or {"selectors": {}}
        wanted = embedding_injection.digest(embedding_injection.normal_selector(selector))
        return bool(found["selectors"].get(key.name) == wanted)
