"""Reconcile one policy: read it, apply its objects, observe its pods, write its status.

Level-based: no step depends on an event, every step may be repeated, and the next run heals a crash
between two of them. Problems are collected into the status. Only an API server that does not answer
ends a run early; the queue then retries.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from embedding_contract import document, names
from embedding_operator import errors, indexes, sidecars
from embedding_operator.controller import (
    applier,
    credentials,
    injection_reconciler,
    resizes,
    rollouts,
    secret_values,
)
from embedding_operator.controller.redis_users import RedisUsers
from embedding_operator.informers.caches import Caches
from embedding_operator.injection import coverage, injector, selection
from embedding_operator.kube import api_errors, apply, conditions, deadline, kinds
from embedding_operator.kube.client import KubeClient
from embedding_operator.kube.events import EventRecorder
from embedding_operator.kube.kinds import Object, ObjectKey
from embedding_operator.monitoring import monitor
from embedding_operator.policy import classes, network, policy, provider_guard
from embedding_operator.status import policy_status, retirements, secret_status

PROBLEM_SECONDS: Final = 3.0
"""Retry after this time where a value is missing; changes in Vault come from the poller."""
PATIENCE: Final = 5
"""The retry interval grows to a fifth of the time that a value has been missing, up to 60 s."""
LAST_PROBLEM_SECONDS: Final = 60.0
ANNOTATION_CHARACTERS: Final = 256
_GOING: Final = errors.Problem(
    api_errors.NAMESPACE_TERMINATING, "The namespace is being deleted, and takes no new objects."
)


class Reconciler:
    """Reconciles policies. `poll_seconds` is the store's interval, for the status.

    `namespace` is the operator's. Pods of indexes run in `index_namespaces`. `covers` gets the
    number of pods of each policy without a sidecar; 0 while it is unknown. `retires` gets the ends
    of each policy's models in Unix time, by provider and model. `resize`: whether sidecars of
    running pods get new resources. `deadline_seconds` bounds all calls of one reconcile to the API
    server. With `injections` the API server injects, else the webhook.
    """

    def __init__(
        self,
        *,
        objects: KubeClient,
        seen: Caches,
        store: secret_values.SecretStore | None,
        asked: sidecars.Prober,
        events: EventRecorder,
        sidecar: injector.Sidecar,
        poll_seconds: float,
        deadline_seconds: float,
        namespace: str,
        drifted: Callable[[str], None],
        restarts: rollouts.Rollouts,
        guard: provider_guard.ProviderGuard = provider_guard.OFF,
        monitoring: monitor.Monitor,
        resize: bool = True,
        additional_alerts: bool = False,
        network: network.Network = network.Network(),  # noqa: B008 - frozen
        users: RedisUsers | None = None,
        injections: injection_reconciler.InjectionReconciler | None = None,
        selected_by: Callable[[], Mapping[str, str]] = dict,
        index_namespaces: frozenset[str] = frozenset(),
        covers: Callable[[ObjectKey, int], None] = lambda _, __: None,
        retires: Callable[[ObjectKey, Mapping[tuple[str, ...], float]], None] = lambda _, __: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._objects = objects
        self._guards = guard.verdict()
        self._seen = seen
        self._credentials = credentials.Credentials(
            reads=seen.reads, store=store, namespace=namespace, guard=guard
        )
        self._applier = applier.Applier(
            objects=objects,
            seen=seen,
            found=self._credentials,
            kept=apply.ObjectApplier(objects=objects, reads=seen.reads, drifted=drifted),
            changing=restarts.secret_changes,
            guard=guard,
            additional_alerts=additional_alerts,
            selected_by=selected_by,
            network=network,
            users=users,
        )
        self._sidecars = asked
        self._events = events
        self._restarts = restarts
        self._resizes = resizes.Resizes(
            objects=objects, sidecar=sidecar, enabled=resize, clock=clock
        )
        self._monitoring = monitoring
        self._index_namespaces = index_namespaces
        self._covers = covers
        self._retires = retires
        self._sidecar = sidecar
        self._injections = injections
        self._poll_seconds = poll_seconds
        self._deadline_seconds = deadline_seconds
        self._now = now
        self._clock = clock
        self._missing_since: dict[ObjectKey, float] = {}

    def __call__(self, key: ObjectKey) -> float | None:
        """Reconcile one policy; seconds until the next run, None to wait for an event.

        Raises:
            errors.Unavailable: the API server does not answer, or not within the deadline.
            errors.Denied: it refuses; the message names the permission.
        """
        with deadline.within(self._deadline_seconds):
            return self._reconcile(key)

    def _reconcile(self, key: ObjectKey) -> float | None:
        raw = self._seen.policy(key.namespace, key.name)
        if raw is None or raw["metadata"].get("deletionTimestamp"):
            # Garbage collection deletes owned objects; pods keep their sidecars.
            self._sidecars.forget(key)
            self._applier.forget(key)
            self._credentials.forget(key)
            self._monitoring.forget(key)
            self._resizes.forget(key)
            self._missing_since.pop(key, None)
            self._covers(key, 0)
            self._retires(key, {})
            return None
        namespace = self._seen.namespace(key.namespace)
        if namespace is None or namespace["metadata"].get("deletionTimestamp"):
            self._covers(key, 0)
            if namespace is not None:
                self._report(raw, None, policy_status.Facts(refused=_GOING, guards=self._guards))
            return None
        usable = classes.Classes(
            namespace=key.namespace,
            labels=classes.labels_of(namespace),
            find=self._seen.provider_class,
        )
        try:
            wanted = classes.resolve(policy.parse(raw), usable)
        except errors.InvalidPolicy as error:
            uid = raw["metadata"].get("uid", "")
            owner = policy.PolicyOwner(namespace=key.namespace, name=key.name, uid=uid)
            self._applier.withdraw(owner, usable)
            refused = errors.Problem(error.reason, str(error))
            facts = policy_status.Facts(refused=refused, guards=self._guards)
            self._covers(key, 0)  # its pods are not checked
            self._report(raw, None, facts)
            return None
        self._credentials.follow(wanted)
        refreshed = self._refresh(raw, wanted)
        done = self._applier.apply(wanted, usable=usable, indexes=self._indexes(wanted))
        pods = self._seen.pods_of(wanted.namespace)
        if pods is None:
            self._covers(key, 0)
            return None  # the policy is queued again once they are listed
        labels = namespace["metadata"].get("labels") or {}
        running, facts = self._observe(
            raw, wanted, done, pods=pods, namespace_labels=labels, refreshed=refreshed
        )
        self._covers(key, len(facts.coverage.missing))
        proof = self._monitoring.look(
            wanted,
            told=done.told,
            running=running,
            asked=_annotation(raw, names.ANNOTATION_TEST_ALERT),
            previous=raw.get("status") or {},
            now=self._now(),
        )
        resized = self._resize(raw, running)
        facts = replace(
            facts,
            proofs=proof.conditions,
            alert_test=proof.alert_test,
            resizing=resized.problem,
        )
        self._report(raw, wanted, facts)
        self._monitoring.reported(key)
        restarting = self._restarts.look(wanted.namespace) if wanted.secrets else None
        again = self._again(key, facts)
        times = (again, restarting, proof.again_seconds, resized.again_seconds)
        return min((seconds for seconds in times if seconds is not None), default=None)

    def _indexes(self, wanted: policy.EmbeddingPolicy) -> Sequence[document.Index]:
        """The indexes that the policy's sidecars may search."""
        if wanted.namespace not in self._index_namespaces:
            return ()
        found = self._seen.indexes_of(wanted.namespace, policy=wanted.name)
        return indexes.searchable(found)

    def _resize(self, raw: Object, running: Sequence[Mapping[str, Any]]) -> resizes.Resized:
        """Give running sidecars their resources."""
        own = selection.candidates([raw])
        if not own:
            return resizes.Resized()
        key = ObjectKey(raw["metadata"]["namespace"], raw["metadata"]["name"])
        version = self._seen.server_version()
        return self._resizes.look(key, candidate=own[0], running=running, server_version=version)

    def _refresh(self, raw: Object, wanted: policy.EmbeddingPolicy) -> str | None:
        """Poll Vault at once if the annotation has changed since the last refresh."""
        asked = _annotation(raw, names.ANNOTATION_REFRESH)
        if asked is not None and asked != (raw.get("status") or {}).get("refreshed"):
            self._credentials.refresh(wanted)
        return asked

    # --- observe

    def _observe(
        self,
        raw: Object,
        wanted: policy.EmbeddingPolicy,
        done: applier.ApplyResult,
        *,
        pods: Sequence[Mapping[str, Any]],
        namespace_labels: Mapping[str, str],
        refreshed: str | None,
    ) -> tuple[Sequence[Mapping[str, Any]], policy_status.Facts]:
        """The pods whose sidecar runs, and the facts for the status."""
        version = self._seen.server_version()
        among = selection.candidates([raw])
        if coverage.selects_any(among, pods):  # only then do other policies matter
            among = selection.candidates(self._seen.policies_of(wanted.namespace))
        running = [
            pod for pod in coverage.carrying(wanted.name, pods) if not coverage.is_starting(pod)
        ]
        environment_since = policy_status.environment_since(
            raw.get("status") or {}, created_at=done.environment_created_at
        )
        covering = policy_status.covering(
            raw.get("status") or {},
            selector=raw["spec"].get("podSelector") or {},
            is_possible=environment_since is not None
            and namespace_labels.get(names.LABEL_INJECTION) == selection.ENABLED
            and _too_old(version) is None
            and self._injects(wanted.key, raw),
            now=self._now(),
        )
        target = sidecars.Target(
            policy_uid=wanted.uid,
            pods=tuple(map(sidecars.Pod.of, running)),
            wanted=done.wanted,
        )
        self._sidecars.watch(wanted.key, target)
        seen = self._sidecars.seen(wanted.key)
        return running, policy_status.Facts(
            refused=done.refused,
            stale=done.stale,
            secrets=secret_status.Secrets(
                problems=done.problems,
                pending=done.pending,
                deleted=done.deleted,
                sources=self._credentials.sources(wanted),
                poll_seconds=self._poll_seconds,
            ),
            refreshed=refreshed,
            environment_since=environment_since,
            covering=covering,
            injection=_too_old(version) or self._injection_problem(wanted.namespace),
            monitoring=done.monitoring,
            alerts_refused=done.alerts_refused,
            coverage=coverage.of(
                name=wanted.name,
                pods=pods,
                namespace_labels=namespace_labels,
                among=among,
                server_version=version,
                sidecar=self._sidecar,
                environment_since=environment_since,
                covering_since=covering.since if covering is not None else None,
            ),
            force=seen.force,
            quota=seen.quota,
            document_fingerprint=done.wanted.document if done.wanted else None,
            pull_secrets=self._pull_verdict(wanted.namespace),
            guards=self._guards,
        )

    def _injects(self, key: ObjectKey, raw: Object) -> bool:
        selector = raw["spec"].get("podSelector") or {}
        return self._injections is None or self._injections.injects(key, selector)

    def _injection_problem(self, namespace: str) -> errors.Problem | None:
        return None if self._injections is None else self._injections.problem(namespace)

    def _pull_verdict(self, namespace: str) -> conditions.Verdict | None:
        named = self._sidecar.pull_secrets
        if not named:
            return None
        missing = [it for it in named if self._seen.reads.get(kinds.SECRET, namespace, it) is None]
        return policy_status.pull_secrets_verdict(missing)

    # --- say

    def _report(
        self, raw: Object, wanted: policy.EmbeddingPolicy | None, facts: policy_status.Facts
    ) -> None:
        if wanted is not None:
            ends = retirements.of(wanted)
            self._retires(wanted.key, {(it.provider, it.model): it.unix_seconds for it in ends})
        previous = raw.get("status") or {}
        new = policy_status.build(
            policy=wanted,
            generation=raw["metadata"]["generation"],
            facts=facts,
            previous=previous,
            now=self._now(),
        )
        patch = conditions.merge_patch(previous, new)
        if not patch:
            return
        metadata = raw["metadata"]
        answer = self._objects.patch_status(metadata["namespace"], metadata["name"], patch)
        if answer is not None:
            self._seen.wrote_policy(answer)
        for condition in policy_status.changes(previous, new):
            if condition.type in policy_status.TOLD:
                self._events.record_condition(raw, condition)

    def _again(self, key: ObjectKey, facts: policy_status.Facts) -> float | None:
        if all(it.reason in secret_status.OF_CLASSES for it in facts.secrets.problems):
            self._missing_since.pop(key, None)
            return None
        since = self._missing_since.setdefault(key, self._clock())
        waited_seconds = self._clock() - since
        return min(max(PROBLEM_SECONDS, waited_seconds / PATIENCE), LAST_PROBLEM_SECONDS)


def _annotation(raw: Object, name: str) -> str | None:
    """The value of an annotation, bounded for the status."""
    asked = (raw["metadata"].get("annotations") or {}).get(name)
    return None if asked is None else str(asked)[:ANNOTATION_CHARACTERS]


def _too_old(version: tuple[int, int]) -> errors.Problem | None:
    if version >= selection.NATIVE_SIDECARS_SINCE:
        return None
    needed = ".".join(map(str, selection.NATIVE_SIDECARS_SINCE))
    return errors.Problem(
        "ServerTooOld", f"Native sidecars need Kubernetes {needed} or newer; no pod is injected."
    )
