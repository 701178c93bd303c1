"""The reads of a reconcile, each made anew at the API server: for tests without watches."""

from collections.abc import Iterable, Iterator
from typing import Any

from embedding_contract import names
from embedding_operator.informers import (
    index_objects,
    namespace_objects,
    pod_objects,
    policy_objects,
    run_objects,
)
from embedding_operator.informers.caches import Caches
from embedding_operator.informers.kept import Trim, encode
from embedding_operator.injection import namespace_bounds
from embedding_operator.kube import kinds
from embedding_operator.kube.current_reads import CurrentReads
from embedding_operator.kube.kinds import Kind, Object, ObjectKey

ENDED = frozenset({"Succeeded", "Failed"})


class ReadThrough(Caches):
    """As `informers.Caches` is read: objects as they are trimmed, and always up to date."""

    def __init__(self, api: Any, *, subject: Any = None) -> None:
        """The informers read as `api`, and reconciles read single objects as `subject`."""
        self._cluster = api
        self._subject = subject or api
        self.reads = CurrentReads(self._read)

    def _read(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        found: Object | None = self._subject.get(kind, namespace, name)
        return found

    def policy(self, namespace: str, name: str) -> Object | None:
        found = self._cluster.get(kinds.POLICY, namespace, name)
        return next(trimmed([found] if found else [], policy_objects.policy), None)

    def policies_of(self, namespace: str) -> list[Object]:
        return list(trimmed(self._cluster.find(kinds.POLICY, namespace), policy_objects.policy))

    def index(self, namespace: str, name: str) -> Object | None:
        found = self._cluster.get(kinds.INDEX, namespace, name)
        return next(trimmed([found] if found else [], index_objects.index), None)

    def indexes_of(self, namespace: str, *, policy: str | None = None) -> list[Object]:
        found = trimmed(self._cluster.find(kinds.INDEX, namespace), index_objects.index)
        return [it for it in found if policy in (None, it["spec"]["policyRef"]["name"])]

    def provider_class(self, name: str) -> Object | None:
        found = self._cluster.get(kinds.PROVIDER_CLASS, None, name)
        return next(trimmed([found] if found else [], policy_objects.provider_class), None)

    def users_of_class(self, name: str) -> list[ObjectKey]:
        kept = [policy_objects.policy(encode(it)) for it in self._cluster.find(kinds.POLICY)]
        return [it.key for it in kept if name in it.classes]

    def jobs_of(self, namespace: str, index: str) -> list[Object]:
        selector = f"{names.LABEL_INDEX}={index}"
        return list(
            trimmed(self._cluster.find(kinds.JOB, namespace, selector=selector), run_objects.job)
        )

    def runs_of(self, namespace: str, index: str) -> list[Object]:
        selector = f"{names.LABEL_INDEX}={index}"
        return list(
            trimmed(self._cluster.find(kinds.POD, namespace, selector=selector), run_objects.run)
        )

    def namespace(self, name: str) -> Object | None:
        found = self._cluster.get(kinds.NAMESPACE, None, name)
        return next(trimmed([found] if found else [], namespace_objects.namespace), None)

    def pods_of(self, namespace: str) -> list[Object] | None:
        found = trimmed(self._cluster.find(kinds.POD, namespace), pod_objects.pod)
        return [it for it in found if it["status"].get("phase") not in ENDED]

    def owned_secrets(self, namespace: str, policy: str) -> list[str]:
        selector = f"{names.LABEL_MANAGED_BY}={names.MANAGED_BY},{names.LABEL_POLICY}={policy}"
        found = self._cluster.find(kinds.SECRET, namespace, selector=selector)
        return [it["metadata"]["name"] for it in found]

    def workloads_of(self, kind: kinds.Kind, namespace: str) -> Iterator[Object]:
        yield from trimmed(self._cluster.find(kind, namespace), pod_objects.workload)

    def bounds_of(self, namespace: str) -> namespace_bounds.Bounds:
        limit_ranges = self._cluster.find(kinds.LIMIT_RANGE, namespace)
        quotas = self._cluster.find(kinds.RESOURCE_QUOTA, namespace)
        return namespace_bounds.Bounds(
            limit_ranges=list(trimmed(limit_ranges, namespace_objects.limit_range)),
            quotas=list(trimmed(quotas, namespace_objects.quota)),
        )

    def server_version(self) -> tuple[int, int]:
        found: tuple[int, int] = self._cluster.version()
        return found

    def wrote_policy(self, answer: Object) -> None:
        """It is read anew."""

    def wrote_index(self, answer: Object) -> None:
        """It is read anew."""

    def wrote_class(self, answer: Object) -> None:
        """It is read anew."""


def trimmed(found: Iterable[Object], trim: Trim) -> Iterator[Object]:
    """These objects, as the stores keep them."""
    for it in found:
        kept = trim(encode(it))
        if kept.content is not None:
            yield kept.value()
