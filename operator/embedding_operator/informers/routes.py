"""The queues that each change of a watched object fills."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from embedding_contract import names
from embedding_operator.informers.kept import Kept
from embedding_operator.informers.pods import Pods
from embedding_operator.informers.store import Store
from embedding_operator.kube.kinds import ObjectKey
from embedding_operator.queues.workqueue import WorkQueue

UNCOVERED_SECONDS: Final = 5.0
"""The pods of a rollout that come or go in this time cost one reconcile a policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """The stores that say which objects a change concerns."""

    policies: Store
    indexes: Store
    pods: Pods


def users_of_class(policies: Store, name: str) -> list[ObjectKey]:
    """The policies of all namespaces that name a provider class."""
    return [it.key for it in policies.all() if name in it.classes]


class Routes:
    """Queues policies, indexes, classes and injections; nothing is routed before `begin`.

    Without `injections` the API server does not inject. `is_echo` is that of KubeClient.
    """

    def __init__(
        self,
        *,
        policies: WorkQueue[ObjectKey],
        indexes: WorkQueue[ObjectKey],
        classes: WorkQueue[ObjectKey],
        injections: WorkQueue[ObjectKey] | None,
        is_echo: Callable[..., bool],
    ) -> None:
        self._policies = policies
        self._indexes = indexes
        self._classes = classes
        self._injections = injections
        self._is_echo = is_echo
        self._stores: Known

    def begin(self, stores: Known) -> None:
        """Look owners and dependants up in these stores."""
        self._stores = stores

    def queue_all(self, namespace: str) -> None:
        """Queue all policies and indexes of a namespace."""
        self.queue_policies(namespace)
        for index in self._stores.indexes.of(namespace):
            self._indexes.add(index.key)

    def queue_policies(self, namespace: str) -> None:
        """Queue all policies of a namespace."""
        for policy in self._stores.policies.of(namespace):
            self._policies.add(policy.key)

    def policy_changed(self, before: Kept | None, after: Kept | None) -> None:
        """Queue a policy, its classes, its indexes, and the injection of its namespace."""
        seen = after or before
        if seen is None:
            return
        for name in {name for it in (before, after) if it is not None for name in it.classes}:
            self._classes.add(ObjectKey("", name))  # it counts its policies
        if after is not None:
            self._stores.pods.follow(seen.namespace)
        elif not self._stores.policies.of(seen.namespace):
            self._stores.pods.drop(seen.namespace)
        self._queue_policy(seen.key)

    def index_changed(self, before: Kept | None, after: Kept | None) -> None:
        """Queue an index, its policy, and others that may claim its targets."""
        for seen in (before, after):
            if seen is not None:
                self._indexes.add(seen.key)
                # The policy's document lists its indexes.
                if self._stores.policies.kept(seen.namespace, seen.policy) is not None:
                    self._policies.add(ObjectKey(seen.namespace, seen.policy))
        if before is not None and after is None:
            # Another index may claim its targets now.
            for index in self._stores.indexes.of(before.namespace):
                self._indexes.add(index.key)

    def class_changed(self, before: Kept | None, after: Kept | None) -> None:
        """Queue a class, and all that depend on it."""
        for seen in (before, after):
            if seen is not None:
                self.queue_class(seen.key)

    def queue_class(self, key: ObjectKey) -> None:
        """Queue a class, and all policies and indexes that depend on it."""
        self._classes.add(key)
        for user in users_of_class(self._stores.policies, key.name):
            self._queue_policy(user)

    def _queue_policy(self, key: ObjectKey) -> None:
        """Queue a policy, its indexes, and the injection of its namespace."""
        self._policies.add(key)
        self._queue_injection(key.namespace)
        for index in self._stores.indexes.of(key.namespace):
            if index.policy == key.name:
                self._indexes.add(index.key)

    def _queue_injection(self, namespace: str) -> None:
        if self._injections is not None:
            self._injections.add(ObjectKey(namespace, names.INJECTION_NAME))

    def bounds_changed(self, before: Kept | None, after: Kept | None) -> None:
        """Queue the object that tells the API server which sidecar fits into new pods."""
        seen = after or before
        if seen is not None and self._stores.policies.of(seen.namespace):
            self._queue_injection(seen.namespace)

    def injection_changed(self, before: Kept | None, after: Kept | None) -> None:
        """Queue the object, and the policies that are injected, or no longer, from now on."""
        seen = after or before
        if seen is None:
            return
        self._queue_injection(seen.namespace)
        was, now = (
            set(it.value()["selectors"].items()) if it is not None else set()
            for it in (before, after)
        )
        for name in {name for name, _ in was ^ now}:
            if self._stores.policies.kept(seen.namespace, name) is not None:
                self._policies.add(ObjectKey(seen.namespace, name))

    def namespace_changed(self, before: Kept | None, after: Kept | None) -> None:
        """Queue all in a namespace that is enabled or not any more, and its users of classes."""
        if after is None:
            return
        if before is None or before.outline != after.outline:
            # The policy of a new namespace may have been seen first.
            self.queue_all(after.name)
            self._queue_injection(after.name)
        for policy in self._stores.policies.of(after.name):
            if policy.classes:  # other labels decide on nothing else
                self._queue_policy(policy.key)
                for name in policy.classes:
                    self._classes.add(ObjectKey("", name))

    def owned_changed(self, plural: str, before: Kept | None, after: Kept | None) -> None:
        """Queue the owner of an object, unless the change is the echo of a write."""
        seen = after or before
        if seen is None:
            return
        version = after.version if after is not None else ""
        if self._is_echo(plural, seen.namespace, seen.name, version=version):
            return
        for it in (before, after):
            if it is not None and it.policy:
                self._policies.add(ObjectKey(seen.namespace, it.policy))
            if it is not None and it.index:
                self._indexes.add(ObjectKey(seen.namespace, it.index))

    def pod_changed(self, before: Kept | None, after: Kept | None) -> None:
        """Queue the policy and the index of a pod.

        A pod without a sidecar that comes or goes may be one that a policy misses.
        """
        if before is None or after is None:
            seen = after or before
            if seen is not None and not seen.policy and not seen.index:
                for policy in self._stores.policies.of(seen.namespace):
                    self._policies.add(policy.key, after_seconds=UNCOVERED_SECONDS)
        for seen in (before, after):
            if seen is not None and seen.policy:
                self._policies.add(ObjectKey(seen.namespace, seen.policy))
            if (
                seen is not None
                and self._stores.indexes.kept(seen.namespace, seen.index) is not None
            ):
                self._indexes.add(ObjectKey(seen.namespace, seen.index))
