"""The work of the replica that holds the Lease, composed.

It reconciles, polls Vault, and asks sidecars and Prometheus. Nothing of it runs before `start`, but
for `prepare`.
"""

import threading
import time
from collections.abc import Callable
from typing import Final

from embedding_operator import indexes, informers, metrics, settings, sidecars, vault
from embedding_operator.controller import (
    class_credentials,
    injection_reconciler,
    rollouts,
    secret_values,
    workers,
)
from embedding_operator.controller.class_reconciler import ClassReconciler
from embedding_operator.controller.reconciler import Reconciler
from embedding_operator.controller.redis_users import RedisUsers
from embedding_operator.injection import injector
from embedding_operator.kube import client, events
from embedding_operator.kube.kinds import ObjectKey
from embedding_operator.monitoring import monitor, prometheuses

EVENTS_SECONDS: Final = 1.0
"""The time to write the events that still wait as the work ends."""


class Holder:
    """The work of the holder."""

    def __init__(
        self,
        chosen: settings.Settings,
        *,
        api: client.KubeClient,
        free: client.KubeClient,
        seen: informers.Caches,
        queues: workers.Queues,
        measured: metrics.Metrics,
    ) -> None:
        self._seen = seen
        self._events = told = events.EventRecorder(objects=api)
        self._store = store = _store(chosen, api, measured, queues)
        self._asked = asked = sidecars.Prober(
            asks=sidecars.Client(),
            nudge=api.nudge,
            changed=_told(queues),
            asked=measured.sidecar_asked,
            period_seconds=chosen.resync_seconds,
        )
        selecting = prometheuses.Prometheuses(
            # Without a right on the cluster they cannot be listed.
            find=tuple if chosen.watch_namespaces else api.prometheuses,
            labels_of=api.namespace_labels,
        )
        self._monitoring = monitor.Monitor(
            chosen.monitoring,
            changed=queues.policies.add,
            selecting=selecting,
            observe=measured.monitoring_asked,
        )
        users = RedisUsers()
        self._injections = None
        if chosen.injects_by_policy:
            self._injections = injection_reconciler.InjectionReconciler(
                objects=api,
                free=free,
                seen=seen,
                sidecar=sidecar(chosen),
                deadline_seconds=chosen.reconcile_deadline_seconds,
                changed=seen.queue_policies,
            )
        reconciler = Reconciler(
            objects=api,
            seen=seen,
            store=store,
            asked=asked,
            events=told,
            sidecar=sidecar(chosen),
            poll_seconds=chosen.vault.poll_seconds if chosen.vault else chosen.resync_seconds,
            deadline_seconds=chosen.reconcile_deadline_seconds,
            namespace=chosen.namespace,
            drifted=measured.drifted,
            restarts=rollouts.Rollouts(
                objects=api,
                seen=seen,
                events=told,
                namespaces=chosen.rollout_namespaces,
                restarted=measured.restarted,
            ),
            guard=chosen.providers,
            monitoring=self._monitoring,
            resize=chosen.sidecar_resize,
            additional_alerts=chosen.additional_alerts,
            network=chosen.network,
            users=users,
            injections=self._injections,
            selected_by=selecting.agreed_labels,
            index_namespaces=chosen.vectors.namespaces,
            covers=measured.uncovered,
            retires=measured.retires,
        )
        index_reconciler = indexes.IndexReconciler(
            objects=api,
            seen=seen,
            asked=asked,
            events=told,
            vectors=chosen.vectors,
            deadline_seconds=chosen.reconcile_deadline_seconds,
            drifted=measured.drifted,
            guard=chosen.providers,
        )
        class_reconciler = ClassReconciler(
            objects=api,
            seen=seen,
            credentials=class_credentials.ClassCredentials(
                values=secret_values.SecretValues(reads=seen.reads, store=store),
                namespace=chosen.namespace,
            ),
            deadline_seconds=chosen.reconcile_deadline_seconds,
            users=users,
        )
        self._workers = workers.Workers(
            [
                workers.Part(queue=queue, do=_measured(do, measured, queues), keys=keys)
                for keys, queue, do in (
                    (seen.start_round, queues.policies, reconciler),
                    (seen.indexes.keys, queues.indexes, index_reconciler),
                    (seen.classes.keys, queues.classes, class_reconciler),
                    (seen.injected_namespaces, queues.injections, self._injections),
                )
                if do is not None
            ],
            workers=chosen.workers,
            resync_seconds=chosen.resync_seconds,
            is_ready=lambda: seen.synced,
        )

    def prepare(self, stopping: threading.Event) -> None:
        """Write what a replica needs to be ready, before it holds the Lease."""
        while self._injections is not None and not stopping.wait(workers.SYNC_POLL_SECONDS):
            if self._seen.synced:
                self._injections.write_missing()
                return

    def start(self) -> None:
        """Begin all of it."""
        self._events.start()
        self._asked.start()
        self._monitoring.start()
        if self._store is not None:
            self._store.start()
        self._workers.start()

    def end(self, *, within_seconds: float) -> bool:
        """Reconcile no more; true if all reconciles under way ended in time."""
        have_ended = self._workers.end(within_seconds=within_seconds)
        self._events.close(within_seconds=EVENTS_SECONDS)
        return have_ended

    def close(self) -> None:
        """End the rest."""
        self._asked.close()
        if self._store is not None:
            self._store.close()

    def waits(self) -> str | None:
        """The reason why another replica may not be replaced by this one yet."""
        return None if self._injections is None else self._injections.waits()

    def fault(self) -> str | None:
        """The fault that a restart would repair, in one sentence."""
        return "the thread that asks sidecars has ended" if self._asked.has_ended() else None


def sidecar(chosen: settings.Settings) -> injector.Sidecar:
    """The sidecar of new pods."""
    return injector.Sidecar(
        image=chosen.sidecar_image,
        pull_policy=chosen.sidecar_image_pull_policy,
        resources=chosen.sidecar_resources,
        otel_endpoint=chosen.sidecar_otel_endpoint,
        pull_secrets=chosen.pull_secrets,
    )


def _store(
    chosen: settings.Settings,
    api: client.KubeClient,
    measured: metrics.Metrics,
    queues: workers.Queues,
) -> vault.Poller | None:
    """The poller of Vault, which queues policies and classes with news; None without a Vault."""
    if chosen.vault is None:
        return None

    def changed(key: ObjectKey) -> None:
        (queues.policies if key.namespace else queues.classes).add(key)

    return vault.connect(
        settings=chosen.vault,
        rules=chosen.rules,
        tokens=api,
        changed=changed,
        observe=measured.vault_asked,
    )


def _told(queues: workers.Queues) -> Callable[[ObjectKey, float], None]:
    """Queue the policy or the index whose pods have news."""

    def tell(party: ObjectKey, after_seconds: float) -> None:
        index = sidecars.index_of(party)
        if index is None:
            queues.policies.add(party, after_seconds=after_seconds)
        else:
            queues.indexes.add(index, after_seconds=after_seconds)

    return tell


def _measured(
    do: Callable[[ObjectKey], float | None], measured: metrics.Metrics, queues: workers.Queues
) -> Callable[[ObjectKey], float | None]:
    def run(key: ObjectKey) -> float | None:
        started = time.monotonic()
        result = "failed"
        try:
            again = do(key)
            result = "ok"
        finally:
            measured.reconciled(result=result, seconds=time.monotonic() - started)
            measured.queued(sum(map(len, queues)))
        return again

    return run
