"""Reconcile one index: read it, apply its objects, observe its pods, write its status.

Level-based, like the reconcile of a policy. The operator does not connect to the database: the
reports of the index's pods are read like those of sidecars, and from their termination messages.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from embedding_contract import document, names
from embedding_operator import errors, sidecars
from embedding_operator.indexes import applier, claims, documents, objects, resource, runs, status
from embedding_operator.indexes.objects import Vectors
from embedding_operator.indexes.reports import Words
from embedding_operator.indexes.resource import EmbeddingIndex
from embedding_operator.informers.caches import Caches
from embedding_operator.injection import coverage, selection
from embedding_operator.kube import apply, conditions, deadline, kinds
from embedding_operator.kube.client import KubeClient
from embedding_operator.kube.events import EventRecorder
from embedding_operator.kube.kinds import Object, ObjectKey
from embedding_operator.policy import classes, policy, provider_guard
from embedding_operator.policy.reference import SecretReference
from embedding_operator.render import secrets


class IndexReconciler:
    """Reconciles indexes; `deadline_seconds` bounds a reconcile's calls to the API server."""

    def __init__(
        self,
        *,
        objects: KubeClient,
        seen: Caches,
        asked: sidecars.Prober,
        events: EventRecorder,
        vectors: Vectors,
        deadline_seconds: float,
        drifted: Callable[[str], None],
        guard: provider_guard.ProviderGuard = provider_guard.OFF,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._objects = objects
        self._seen = seen
        self._asked = asked
        self._events = events
        self._vectors = vectors
        self._guard = guard
        self._applier = applier.Applier(
            objects=objects,
            kept=apply.ObjectApplier(objects=objects, reads=seen.reads, drifted=drifted),
            vectors=vectors,
        )
        self._deadline_seconds = deadline_seconds
        self._now = now

    def __call__(self, key: ObjectKey) -> float | None:
        """Reconcile one index; None, as events announce every change.

        Raises:
            errors.Unavailable: the API server does not answer, or not within the deadline.
            errors.Denied: it refuses; the message names the permission.
        """
        with deadline.within(self._deadline_seconds):
            self._reconcile(key)
        return None

    def _reconcile(self, key: ObjectKey) -> None:
        raw = self._seen.index(key.namespace, key.name)
        if raw is None or raw["metadata"].get("deletionTimestamp"):
            # Garbage collection deletes owned objects; the database keeps its tables.
            self._asked.forget(sidecars.of_index(key))
            self._applier.forget(key)
            return
        namespace = self._seen.namespace(key.namespace)
        if namespace is None or namespace["metadata"].get("deletionTimestamp"):
            return  # a namespace that is being deleted takes no new objects
        facts: status.Facts | None
        try:
            index = resource.parse(raw)
            self._check_namespace(namespace)
        except errors.InvalidPolicy as error:
            self._asked.forget(sidecars.of_index(key))
            facts = status.Facts(refused=errors.Problem(error.reason, str(error)))
        else:
            facts = self._facts(raw, index)
        if facts is not None:
            self._report(raw, facts)

    def _check_namespace(self, namespace: Mapping[str, Any]) -> None:
        name, labels = namespace["metadata"]["name"], namespace["metadata"].get("labels") or {}
        if name not in self._vectors.namespaces:
            allowed = ", ".join(sorted(self._vectors.namespaces)) or "none"
            message = (
                f"pods of indexes may run in these namespaces: {allowed}; have the administrator"
                f" add {name} to vectors.namespaces of the chart"
            )
            raise errors.InvalidPolicy("", message, reason="NamespaceNotAllowed")
        if labels.get(names.LABEL_INJECTION) != selection.ENABLED:
            message = (
                f"the namespace lacks the label {names.LABEL_INJECTION}={selection.ENABLED}, so the"
                " index's pods would get no sidecar"
            )
            raise errors.InvalidPolicy("", message, reason="NamespaceNotEnabled")

    # --- apply

    def _facts(self, raw: Object, index: EmbeddingIndex) -> status.Facts | None:
        """Apply and observe; None until the pods of the namespace are listed."""
        pods = self._seen.pods_of(index.namespace)
        jobs = self._seen.jobs_of(index.namespace, index.name)
        facts = self._apply(raw, index, jobs)
        if pods is None and facts.is_known_policy:
            return None  # the index is queued again once they are listed
        return self._observe(index, facts, pods=pods or (), jobs=jobs)

    def _apply(self, raw: Object, index: EmbeddingIndex, jobs: Sequence[Object]) -> status.Facts:
        previous = raw.get("status") or {}
        seen = previous.get("targets", ())
        facts = status.Facts(
            target=index.target_id,
            replicas=None if index.search is None else index.search.replicas,
            applies_plan=index.applies_plan,
        )
        try:
            spending = self._policy(index)
            missing = documents.missing_models(
                index, spending, seen=seen, serving=previous.get("serving")
            )
            facts = replace(facts, is_known_policy=True, missing_models=missing)
            made = documents.of(index, spending, seen=seen)
            self._check_claims(raw, index)
        except errors.InvalidPolicy as error:
            # The present objects stay.
            refused = errors.Problem(error.reason, str(error))
            return replace(facts, refused=refused, document=previous.get("document"))
        done = self._applier.apply(index, made, jobs=jobs, recorded=previous.get("run") or {})
        return replace(
            facts,
            database=self._database(index),
            document=done.document,
            run=done.run,
            workloads=done.problem,
        )

    def _policy(self, index: EmbeddingIndex) -> document.PolicyDocument:
        found = self._seen.policy(index.namespace, index.policy)
        if found is None or found["metadata"].get("deletionTimestamp"):
            message = f"there is no EmbeddingPolicy {index.policy} in this namespace"
            raise errors.InvalidPolicy("spec.policyRef.name", message, reason="PolicyNotFound")
        try:
            usable = classes.Classes(
                namespace=index.namespace,
                labels=classes.labels_of(self._seen.namespace(index.namespace)),
                find=self._seen.provider_class,
            )
            return policy.to_document(classes.resolve(policy.parse(found), usable))
        except errors.InvalidPolicy as error:
            message = f"EmbeddingPolicy {index.policy} is not valid: {error}"
            raise errors.InvalidPolicy(
                "spec.policyRef.name", message, reason="PolicyNotAccepted"
            ) from None

    def _database(self, index: EmbeddingIndex) -> errors.Problem | None:
        """The first missing Secret or key for the database connection; the pods wait for it."""
        for reference in self._references(index):
            found = self._seen.reads.get(kinds.SECRET, index.namespace, reference.name)
            if found is None:
                return errors.Problem("SecretMissing", f"There is no Secret {reference.name}.")
            if reference.key not in (found.get("data") or {}):
                return errors.Problem("KeyMissing", f"There is no {reference}.")
        return None

    def _check_claims(self, raw: Object, index: EmbeddingIndex) -> None:
        """Refuse a target of an older index, and a Secret that may not be named."""
        refused = claims.taken(raw, self._seen.indexes_of(index.namespace))
        for reference in self._references(index) if refused is None else ():
            found = self._seen.reads.get(kinds.SECRET, index.namespace, reference.name)
            if found is not None and refused is None:
                refused = self._guard.secret_refusal(found, reference)
        if refused is not None:
            raise errors.InvalidPolicy("", refused.message, reason=refused.reason)

    @staticmethod
    def _references(index: EmbeddingIndex) -> list[SecretReference]:
        return [it for it in (index.dsn, index.authority) if it is not None]

    # --- observe

    def _observe(
        self,
        index: EmbeddingIndex,
        facts: status.Facts,
        *,
        pods: Sequence[Mapping[str, Any]],
        jobs: Sequence[Object],
    ) -> status.Facts:
        running = [
            pod for pod in pods if _label(pod, names.LABEL_INDEX) == index.name and _is_running(pod)
        ]
        party = sidecars.of_index(ObjectKey(index.namespace, index.name))
        token = self._token(index)
        target = sidecars.Target(
            policy_uid=index.uid,
            pods=tuple(map(sidecars.Pod.of_index, running)),
            wanted=None
            if facts.document is None or not token
            else sidecars.Wanted(document=facts.document, secrets="", token=token, has_quota=False),
        )
        self._asked.watch(party, target)
        seen = self._asked.seen(party)
        searching = {
            pod["metadata"]["uid"]: pod["metadata"]["name"]
            for pod in running
            if _label(pod, objects.COMPONENT) == objects.SEARCH
        }
        names_of_searchers = frozenset(searching.values())
        return replace(
            facts,
            words=Words(
                workers=tuple(it for pod, it in seen.reports if pod.uid not in searching),
                searchers=tuple(it for pod, it in seen.reports if pod.uid in searching),
                ended=runs.last_words(jobs, self._seen.runs_of(index.namespace, index.name)),
            ),
            silent=tuple(
                it
                for it in seen.force.unknown
                if it.message.partition(" ")[0] in names_of_searchers
            ),
            pending=seen.force.pending,
        )

    def _token(self, index: EmbeddingIndex) -> str:
        name = names.owned_secret(index.policy)
        held = secrets.decode(self._seen.reads.get(kinds.SECRET, index.namespace, name))
        return held.get(names.SECRET_API_TOKEN, b"").decode(errors="replace")

    # --- say

    def _report(self, raw: Object, facts: status.Facts) -> None:
        previous = raw.get("status") or {}
        metadata = raw["metadata"]
        new = status.build(
            facts, generation=metadata["generation"], previous=previous, now=self._now()
        )
        patch = conditions.merge_patch(previous, new)
        if not patch:
            return
        answer = self._objects.patch_status(
            metadata["namespace"], metadata["name"], patch, kind=kinds.INDEX
        )
        if answer is not None:
            self._seen.wrote_index(answer)
        for condition in status.changes(previous, new):
            self._events.record_condition(raw, condition)


def _label(pod: Mapping[str, Any], name: str) -> str | None:
    found: str | None = (pod["metadata"].get("labels") or {}).get(name)
    return found


def _is_running(pod: Mapping[str, Any]) -> bool:
    """True if the index's container in the pod can be asked."""
    seen = pod.get("status") or {}
    if not seen.get("podIP") or not coverage.is_live(pod):
        return False
    return any(
        it["name"] == names.VECTORS_CONTAINER and "running" in (it.get("state") or {})
        for it in seen.get("containerStatuses") or ()
    )
