"""A reconciler on a real API server, with Vault and sidecars that a test plays itself."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import kubernetes

from embedding_contract import names
from embedding_operator import errors, sidecars
from embedding_operator.controller import (
    class_credentials,
    class_reconciler,
    reconciler,
    rollouts,
    secret_values,
)
from embedding_operator.injection import injector, selection
from embedding_operator.kube import client, kinds
from embedding_operator.kube.events import EventRecorder
from embedding_operator.kube.kinds import ObjectKey
from embedding_operator.monitoring import endpoints, monitor
from embedding_operator.policy import network, provider_guard
from embedding_operator.sidecars import report
from embedding_operator.status import config_in_force, quota_status
from tests.fakes import secret_store
from tests.parts import kubectl, read_through, shipped_roles

SIDECAR = injector.Sidecar(image="sidecar:1", pull_policy="Never", resources={})
SYSTEM = "embedding-system"
"""The namespace of the operator."""
OPEN_NETWORK = network.Network(by_policies=True)
"""Policies may have proxies of their own."""
START = datetime(2026, 1, 1, tzinfo=UTC)

Object = dict[str, Any]


class Administrator(client.KubeClient):
    """The adapter, as the user of a kubeconfig, who may do everything."""

    def __init__(self, kubeconfig: Path) -> None:
        super().__init__(kubernetes.config.new_client_from_config(str(kubeconfig)))
        self.kubeconfig = kubeconfig


def connect(kubeconfig: Path) -> Administrator:
    """The adapter, as the user of a kubeconfig."""
    return Administrator(kubeconfig)


SILENT = errors.Problem(config_in_force.NO_ANSWER, "cannot be asked")


class Sidecars(sidecars.Prober):
    """Sidecars as dictionaries by address, each asked just now; who is not there is silent."""

    def __init__(self) -> None:
        self.obeys: dict[str, sidecars.InForce] = {}
        self.days: dict[str, quota_status.LiveQuota] = {}
        self.tokens: set[str] = set()
        self.watched: dict[ObjectKey, sidecars.Target] = {}

    def watch(self, policy: ObjectKey, target: sidecars.Target) -> None:
        self.watched[policy] = target

    def seen(self, policy: ObjectKey) -> sidecars.Seen:
        target = self.watched[policy]
        if target.wanted is None:
            return sidecars.Seen(force=config_in_force.Force(pending=len(target.pods)))
        self.tokens.add(target.wanted.token)
        outcomes = [(pod, self.obeys.get(pod.address, SILENT)) for pod in target.pods]
        days = [self.days[it.address] for it in target.pods if it.address in self.days]
        return sidecars.Seen(
            force=report.force(outcomes, target.wanted), quota=days[0] if days else None
        )

    def forget(self, policy: ObjectKey) -> None:
        self.watched.pop(policy, None)


class Events(EventRecorder):
    """What was told, newest last."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def record(self, about: Object, *, warning: bool, reason: str, message: str) -> None:
        self.told.append(f"{'Warning' if warning else 'Normal'} {reason}: {message}")


def no_restarts(objects: client.KubeClient) -> rollouts.Rollouts:
    """What restarts workloads, where it is allowed nowhere."""
    return rollouts.Rollouts(
        objects=objects,
        seen=read_through.ReadThrough(objects),
        events=Events(),
        namespaces=frozenset(),
        restarted=lambda _: None,
    )


def no_monitoring() -> monitor.Monitor:
    """What asks Prometheus and Alertmanager, where there is none."""
    return monitor.Monitor(endpoints.Endpoints(), changed=lambda _: None)


class CrashError(Exception):
    """The process ended here."""


class Crashing:
    """A cluster on which the process dies before, or right after, one of its writes."""

    WRITES = frozenset({"apply", "create", "delete", "remove_keys", "patch_status"})

    def __init__(self, real: client.KubeClient, *, at: int, after: bool) -> None:
        self._real = real
        self._at = at
        self._after = after
        self.writes = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._real, name)
        if name not in self.WRITES:
            return method

        def write(*arguments: Any, **keywords: Any) -> Any:
            self.writes += 1
            if self.writes == self._at and not self._after:
                raise CrashError(name)
            answer = method(*arguments, **keywords)
            if self.writes == self._at:
                raise CrashError(name)
            return answer

        return write


class Reconciling:
    """One policy's reconciles, in one namespace, under the chart's roles (`subject`).

    An administrator plays the informers, and looks at what was done (`objects`).
    """

    def __init__(self, objects: Administrator, namespace: str) -> None:
        self.objects = objects
        self.subject = shipped_roles.connect(objects.kubeconfig)
        self.namespace = namespace
        self.store = secret_store.Store()
        self.asks = Sidecars()
        self.events = Events()
        self.restarted: list[str] = []
        self.monitoring = no_monitoring()
        self.seconds = 0.0
        self.drifted: list[str] = []
        self.now = START
        self.guard = provider_guard.OFF
        self.restart()

    def restart(self, objects: Any = None, *, reads: Any = None, **options: Any) -> None:
        """A new process, which remembers nothing; `options` are more of the reconciler's.

        It writes by `objects`, and its informers read by `reads`.
        """
        seen = read_through.ReadThrough(reads or self.objects, subject=objects or self.subject)
        self._classes = class_reconciler.ClassReconciler(
            objects=objects or self.subject,
            seen=seen,
            credentials=class_credentials.ClassCredentials(
                values=secret_values.SecretValues(reads=seen.reads, store=self.store),
                namespace=SYSTEM,
            ),
            deadline_seconds=60,
            now=self._tick,
        )
        self._reconciler = reconciler.Reconciler(
            objects=objects or self.subject,
            seen=seen,
            store=self.store,
            asked=self.asks,
            events=self.events,
            sidecar=SIDECAR,
            poll_seconds=60,
            deadline_seconds=60,
            namespace=SYSTEM,
            drifted=self.drifted.append,
            guard=self.guard,
            restarts=rollouts.Rollouts(
                objects=objects or self.subject,
                seen=seen,
                events=self.events,
                namespaces=frozenset({self.namespace}),
                restarted=self.restarted.append,
                clock=lambda: self.seconds,
            ),
            monitoring=self.monitoring,
            now=self._tick,
            **options,
        )

    def __call__(self, name: str) -> float | None:
        """Reconcile a policy once; after how many seconds to look again."""
        return self._reconciler(ObjectKey(self.namespace, name))

    def provider_class(self, name: str) -> Object:
        """Reconcile a ClusterEmbeddingProvider once; its status."""
        self._classes(ObjectKey("", name))
        found = self.objects.get(kinds.PROVIDER_CLASS, None, name)
        assert found is not None, f"there is no class {name}"
        status: Object = found["status"]
        return status

    def get(self, kind: kinds.Kind, name: str) -> Object:
        """An object that is there."""
        found = self.objects.get(kind, self.namespace, name)
        assert found is not None, f"there is no {kind.plural} {name}"
        return found

    def status(self, name: str) -> Object:
        """The status of a policy."""
        found: Object = self.get(kinds.POLICY, name)["status"]
        return found

    def condition(self, name: str, kind: str) -> Object:
        """A condition of a policy."""
        found: Object = next(it for it in self.status(name)["conditions"] if it["type"] == kind)
        return found

    def owned(self, policy: str) -> dict[str, Object]:
        """All objects that carry the policy's label, by kind and name."""
        selector = f"{names.LABEL_POLICY}={policy}"
        return {
            f"{kind}/{found['metadata']['name']}": found
            for kind, where in kinds.KINDS.items()
            if where.namespaced
            for found in self.objects.find(where, self.namespace, selector=selector)
        }

    def _tick(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


def injected(pod: Object, *, policy: str, resources: Object | None = None) -> Object:
    """A pod as the webhook makes it, with the sidecar's resources of a policy."""
    candidate = selection.Candidate(
        name=policy, created_at="", pod_selector={}, resources=resources
    )
    return injector.inject(pod, sidecar=SIDECAR, candidate=candidate)


def settled(found: Object) -> Object:
    """What of an object does not depend on when, and how often, it was written."""
    metadata = found["metadata"]
    kept: Object = {
        "name": metadata["name"],
        "labels": metadata.get("labels"),
        "owners": [owner["name"] for owner in metadata.get("ownerReferences", [])],
    }
    rest = {key: it for key, it in found.items() if key not in {"metadata", "status"}}
    data = rest.get("data") or {}
    random = {names.SECRET_API_TOKEN, names.SECRET_CACHE_KEY} & data.keys()
    if random:
        rest["data"] = {**data, **dict.fromkeys(random, "random")}
    return {**rest, **kept}


def wait_for_default_account(asked: kubectl.Kubectl, namespace: str) -> None:
    """Until pods may be created in a new namespace."""
    asked("wait", "--for=create", "serviceaccount/default", "-n", namespace, "--timeout=30s")
