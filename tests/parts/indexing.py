"""A reconciler of indexes on a real API server, whose pods a test plays itself."""

from datetime import UTC, datetime, timedelta
from typing import Any

from embedding_contract import index_report, names
from embedding_contract.index_report import IndexReport, TargetReport
from embedding_operator import errors, sidecars
from embedding_operator.indexes import IndexReconciler, Vectors, objects
from embedding_operator.kube import kinds
from embedding_operator.kube.kinds import ObjectKey
from embedding_operator.policy import provider_guard
from embedding_operator.status import config_in_force
from tests.parts import kubectl, read_through, reconciling, shipped_roles
from tests.parts.reconciling import Events

START = datetime(2026, 1, 1, tzinfo=UTC)
TOKEN = "a-token-of-the-policy-of-32-characters"
TARGET = "public.articles.embedding"
KINDS = ("ConfigMap", "Deployment", "Service", "CronJob", "Job")
SILENT = errors.Problem(config_in_force.NO_ANSWER, "cannot be asked")

Object = dict[str, Any]


class Pods(sidecars.Prober):
    """Pods of indexes as reports by address, each asked just now; who is not there is silent."""

    def __init__(self) -> None:
        self.reports: dict[str, IndexReport] = {}
        self.watched: dict[ObjectKey, sidecars.Target] = {}

    def watch(self, policy: ObjectKey, target: sidecars.Target) -> None:
        self.watched[policy] = target

    def seen(self, policy: ObjectKey) -> sidecars.Seen:
        target = self.watched[policy]
        said = {it: self.reports[it.address] for it in target.pods if it.address in self.reports}
        silent = [it for it in target.pods if it not in said]
        unknown = tuple(
            errors.Problem(SILENT.reason, f"{it.name} {SILENT.message}") for it in silent
        )
        force = config_in_force.Force(in_force=len(said), unknown=unknown)
        return sidecars.Seen(force=force, reports=tuple(said.items()))

    def forget(self, policy: ObjectKey) -> None:
        self.watched.pop(policy, None)


class Indexing:
    """The reconciles of one namespace's indexes, under the chart's roles (`subject`)."""

    def __init__(self, api: reconciling.Administrator, namespace: str) -> None:
        self.api = api
        self.subject = shipped_roles.connect(api.kubeconfig)
        shipped_roles.grant_in(kubectl.Kubectl(api.kubeconfig), namespace)
        self.namespace = namespace
        self.asks = Pods()
        self.events = Events()
        self.drifted: list[str] = []
        self.now = START
        self.vectors = Vectors(
            image="embedding-vectors:1",
            pull_policy="Never",
            resources={"requests": {"cpu": "25m", "memory": "128Mi"}},
            namespaces=frozenset({namespace}),
        )
        self.guard = provider_guard.OFF
        self.restart()

    def restart(self, api: Any = None, *, reads: Any = None) -> None:
        """A new process, which remembers nothing; it writes by `api`, and reads by `reads`."""
        self._reconciler = IndexReconciler(
            objects=api or self.subject,
            seen=read_through.ReadThrough(reads or self.api, subject=api or self.subject),
            asked=self.asks,
            events=self.events,
            vectors=self.vectors,
            deadline_seconds=60,
            drifted=self.drifted.append,
            guard=self.guard,
            now=self._tick,
        )

    def __call__(self, name: str = "articles") -> Object:
        """Reconcile an index once; its status then."""
        self._reconciler(ObjectKey(self.namespace, name))
        found = self.api.get(kinds.INDEX, self.namespace, name)
        status: Object = (found or {}).get("status", {})
        return status

    def owned(self, name: str = "articles") -> dict[str, Object]:
        """All objects that carry the index's label and are the operator's, by kind and name."""
        selector = f"{names.LABEL_INDEX}={name},{names.LABEL_MANAGED_BY}={names.MANAGED_BY}"
        return {
            f"{kind}/{found['metadata']['name']}": found
            for kind in KINDS
            for found in self.api.find(kinds.KINDS[kind], self.namespace, selector=selector)
        }

    def pod(
        self, name: str, address: str, *, component: str, owner: Object | None = None
    ) -> Object:
        """A running pod of the index, as the object that the API server takes."""
        labels = {names.LABEL_INDEX: "articles", objects.COMPONENT: component}
        metadata: Object = {"name": name, "namespace": self.namespace, "labels": labels}
        if owner is not None:
            reference = {key: owner["metadata"][key] for key in ("name", "uid")}
            kind = {"apiVersion": "batch/v1", "kind": "Job", "controller": True}
            # Without these the Job controller lets it go.
            labels |= owner["spec"]["template"]["metadata"]["labels"]
            metadata["ownerReferences"] = [{**reference, **kind}]
        container = {"name": names.VECTORS_CONTAINER, "image": "embedding-vectors:1"}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": {"containers": [container]},
        }

    def _tick(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


def running(address: str) -> Object:
    """The status of a running pod."""
    return {"phase": "Running", "podIP": address, "containerStatuses": [_status(running={})]}


def ended(report: IndexReport, *, phase: str = "Succeeded") -> Object:
    """The status of a pod whose worker ended with these last words."""
    terminated = {
        "exitCode": 0,
        "finishedAt": "2026-01-01T00:00:00Z",
        "message": index_report.dump(report),
    }
    return {"phase": phase, "containerStatuses": [_status(terminated=terminated)]}


def _status(**state: Object) -> Object:
    return {
        "name": names.VECTORS_CONTAINER,
        "image": "embedding-vectors:1",
        "imageID": "",
        "ready": True,
        "restartCount": 0,
        "state": state,
    }


def report(
    phase: str = "Switched",
    *,
    done: int = 200,
    serving: str | None = TARGET,
    document: str = "d",
    **more: Any,
) -> IndexReport:
    """What a pod says of the index `smallest`."""
    return IndexReport(
        document=document, serving=serving, targets=(target(phase, done=done),), **more
    )


def target(phase: str, *, name: str = TARGET, done: int = 200, **more: Any) -> TargetReport:
    """What is said of a target."""
    values: dict[str, Any] = {
        "id": name,
        "model": "e5",
        "dimensions": 384,
        "space": "OpenAICompatible/http://e5.models.svc/v1/e5@384",
        "phase": phase,
        "rows": 200,
        "done": done,
        "parked": 0,
        **more,
    }
    return TargetReport(**values)


def condition(status: Object, kind: str) -> tuple[str, str]:
    """Status and reason of a condition."""
    found = next(it for it in status["conditions"] if it["type"] == kind)
    return found["status"], found["reason"]
