"""The watched objects of the cluster: one store for each kind, for webhook and reconcile."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from embedding_contract import names
from embedding_operator import errors
from embedding_operator.informers import (
    index_objects,
    namespace_objects,
    objects,
    pod_objects,
    policy_objects,
    run_objects,
    sources,
    unread_namespaces,
)
from embedding_operator.informers.changes import WatchedChanges
from embedding_operator.informers.fifo_lock import FifoLock
from embedding_operator.informers.kept import Trim
from embedding_operator.informers.live_reads import LiveReads
from embedding_operator.informers.named_secrets import NamedSecrets, Readers
from embedding_operator.informers.pages import Pages, Source
from embedding_operator.informers.pods import Pods
from embedding_operator.informers.reflector import NOT_SERVED, Reflector
from embedding_operator.informers.routes import Known, Routes, users_of_class
from embedding_operator.informers.store import Store
from embedding_operator.informers.watches import Watches
from embedding_operator.injection import namespace_bounds
from embedding_operator.kube import kinds
from embedding_operator.kube.client import KubeClient
from embedding_operator.kube.current_reads import CurrentReads
from embedding_operator.kube.kinds import Kind, Object, ObjectKey
from embedding_operator.queues import workqueue
from embedding_operator.queues.workqueue import WorkQueue

LISTING: Final = 2
"""Namespaces whose pods are listed at the same time, page by page in lock."""


class Caches:
    """The stores and the watches that fill them; a change queues its policy, index or class.

    Without an `injection_queue` EmbeddingInjections are not watched, as the API server does not
    inject. `namespace` is the operator's, whose Secrets provider classes name. `skipped` gets the
    kind and the number of objects that were too large or could not be decoded. With `watched` only
    these namespaces are watched, each by itself: they count as enabled for injection, as their
    labels cannot be read, and there are no provider classes.
    """

    def __init__(
        self,
        api: KubeClient,
        *,
        queue: WorkQueue[ObjectKey],
        index_queue: WorkQueue[ObjectKey],
        class_queue: WorkQueue[ObjectKey],
        injection_queue: WorkQueue[ObjectKey] | None = None,
        namespace: str,
        skipped: Callable[[str, int], None],
        watched: Sequence[str] = (),
    ) -> None:
        self._api = api
        self._scopes: tuple[str | None, ...] = tuple(watched) or (None,)
        self._routes = Routes(
            policies=queue,
            indexes=index_queue,
            classes=class_queue,
            injections=injection_queue,
            is_echo=api.is_echo,
        )
        self._injects = injection_queue is not None
        self._skipped = skipped
        self._lock = FifoLock()
        self._to_list: WorkQueue[ObjectKey] = WorkQueue()
        self._deaf: Callable[[str], None] = lambda _: None
        self._server_version: tuple[int, int] | None = None
        self.policies = Store(
            policy_objects.policy,
            changed=self._routes.policy_changed,
            skipped=self._counted(kinds.POLICY),
            scopes=self._scopes,
        )
        self.indexes = Store(
            index_objects.index,
            changed=self._routes.index_changed,
            skipped=self._counted(kinds.INDEX),
            scopes=self._scopes,
        )
        self.classes = Store(
            policy_objects.provider_class,
            changed=self._routes.class_changed,
            skipped=self._counted(kinds.PROVIDER_CLASS),
        )
        self.injections = Store(
            objects.injection,
            changed=self._routes.injection_changed,
            skipped=self._counted(kinds.INJECTION),
            scopes=self._scopes,
        )
        self.namespaces = Store(
            namespace_objects.namespace,
            changed=self._routes.namespace_changed,
            skipped=self._counted(kinds.NAMESPACE),
        )
        self.limit_ranges = Store(
            namespace_objects.limit_range,
            changed=self._routes.bounds_changed,
            skipped=self._counted(kinds.LIMIT_RANGE),
            scopes=self._scopes,
        )
        self.quotas = Store(
            namespace_objects.quota,
            changed=self._routes.bounds_changed,
            skipped=self._counted(kinds.RESOURCE_QUOTA),
            scopes=self._scopes,
        )
        self.pods = Pods(
            self._pages(sources.PODS, pod_objects.pod),
            pod_objects.pod,
            list_later=lambda namespace: self._to_list.add(ObjectKey(namespace, "")),
            changed=self._routes.pod_changed,
            skipped=self._counted(kinds.POD),
            scopes=self._scopes,
        )
        self._routes.begin(Known(policies=self.policies, indexes=self.indexes, pods=self.pods))
        self.owned = {it.kind: self._owned_store(it.kind) for it in sources.OWNED}
        self._live = LiveReads(self._pages, skipped=skipped)
        self._named_secrets = NamedSecrets(
            self._pages(sources.NAMED_SECRETS, objects.nothing),
            (
                Readers(self.policies, queue.add),
                Readers(self.indexes, index_queue.add),
                Readers(self.classes, self._routes.queue_class, of_namespace=namespace),
            ),
        )
        first = {names.PLURAL: self.policies, names.INDEX_PLURAL: self.indexes}
        self.watches = Watches(self._reflectors(), first=first)
        self.reads = CurrentReads(
            api.get,
            changes=WatchedChanges(
                stores=self.owned, named=self._named_secrets, hears=self.watches.hears
            ),
        )

    # --- run

    def start(self, stopping: threading.Event, *, deaf: Callable[[str], None]) -> None:
        """Watch until stopped; `deaf` gets a kind whose streams have become silent."""
        self._deaf = deaf
        workqueue.work(self._to_list, self._list_pods, workers=LISTING, name="list the pods")
        self.watches.start(stopping)
        if self._scopes != (None,):
            self.classes.clear()
            self.namespaces.refill([unread_namespaces.assumed(filter(None, self._scopes))])

    def close(self) -> None:
        """List no more."""
        self._to_list.close()

    @property
    def synced(self) -> bool:
        """True once every store that a reconcile or the webhook reads is listed."""
        needed = [store for kind, store in self.owned.items() if kind not in sources.OPTIONAL]
        stores = [
            *(self.policies, self.indexes, self.classes, self.namespaces),
            *(self.limit_ranges, self.quotas, *needed),
        ]
        if self._injects:
            stores.append(self.injections)
        return self.pods.synced and all(it.synced for it in stores)

    # --- read

    def policy(self, namespace: str, name: str) -> Object | None:
        """A policy with spec, status and the metadata in use."""
        return self.policies.get(namespace, name)

    def start_round(self) -> list[ObjectKey]:
        """All policies, for a resync; reads that no reconcile repeated in a round are forgotten."""
        self.reads.next_round()
        return self.policies.keys()

    def policies_of(self, namespace: str) -> list[Object]:
        """The outlines of a namespace's policies: pod selectors, names of Secrets, identities.

        Each review and each reconcile reads all of them, so nothing else is decoded.
        """
        return [
            policy_objects.outlined(it, (self.classes.kept("", name) for name in it.classes))
            for it in self.policies.of(namespace)
        ]

    def index(self, namespace: str, name: str) -> Object | None:
        """An index with spec, status and the metadata in use."""
        return self.indexes.get(namespace, name)

    def indexes_of(self, namespace: str, *, policy: str | None = None) -> list[Object]:
        """The outlines of a namespace's indexes, or of those of one policy."""
        return [
            msgspec.json.decode(it.outline)
            for it in self.indexes.of(namespace)
            if policy is None or it.policy == policy
        ]

    def provider_class(self, name: str) -> Object | None:
        """A provider class with spec, status and the metadata in use."""
        return self.classes.get("", name)

    def injection(self, namespace: str) -> Object | None:
        """Metadata, `digest` and `selectors` of a namespace's EmbeddingInjection."""
        return self.injections.get(namespace, names.INJECTION_NAME)

    def injected_namespaces(self) -> list[ObjectKey]:
        """The namespaces that have a policy or an EmbeddingInjection, by its key."""
        found = {it.namespace for it in (*self.policies.keys(), *self.injections.keys())}
        return [ObjectKey(it, names.INJECTION_NAME) for it in sorted(found)]

    def users_of_class(self, name: str) -> list[ObjectKey]:
        """The policies of all namespaces that name a provider class."""
        return users_of_class(self.policies, name)

    def jobs_of(self, namespace: str, index: str) -> list[Object]:
        """The Jobs labelled with an index, trimmed; read now.

        Raises:
            errors.OperatorError: they cannot be listed.
        """
        return self._live.of_index(kinds.JOB, run_objects.job, namespace, index)

    def runs_of(self, namespace: str, index: str) -> list[Object]:
        """The pods labelled with an index, ended ones too, trimmed; read now.

        Raises:
            errors.OperatorError: they cannot be listed.
        """
        return self._live.of_index(kinds.POD, run_objects.run, namespace, index)

    def namespace(self, name: str) -> Object | None:
        """A namespace with its labels; `labelsUnknown` where they are too long to be stored."""
        return self.namespaces.get("", name)

    def bounds_of(self, namespace: str) -> namespace_bounds.Bounds:
        """The LimitRanges and ResourceQuotas of a namespace."""
        return namespace_bounds.Bounds(
            limit_ranges=[it.value() for it in self.limit_ranges.of(namespace)],
            quotas=[it.value() for it in self.quotas.of(namespace)],
        )

    def pods_of(self, namespace: str) -> Sequence[Mapping[str, Any]] | None:
        """The live pods of a namespace that has a policy; None before they were listed."""
        return self.pods.values_of(namespace)

    def owned_secrets(self, namespace: str, policy: str) -> list[str]:
        """The names of the Secrets that a policy owns."""
        kept = self.owned[kinds.SECRET].of(namespace)
        return [it.name for it in kept if it.policy == policy]

    def server_version(self) -> tuple[int, int]:
        """Major and minor of the API server, as of the last list or stream; (0, 0) before it."""
        return self._server_version or (0, 0)

    def queue_policies(self, namespace: str) -> None:
        """Queue all policies of a namespace."""
        self._routes.queue_policies(namespace)

    def wrote_policy(self, answer: Object) -> None:
        """Store the answer to a write of a policy's status."""
        self.policies.wrote(answer)

    def wrote_index(self, answer: Object) -> None:
        """Store the answer to a write of an index's status."""
        self.indexes.wrote(answer)

    def wrote_class(self, answer: Object) -> None:
        """Store the answer to a write of a class's status."""
        self.classes.wrote(answer)

    def workloads_of(self, kind: Kind, namespace: str) -> Iterator[Object]:
        """The workloads of a namespace that ask to be restarted, trimmed; read now, by page.

        Raises:
            errors.OperatorError: they cannot be listed.
        """
        return self._live.workloads(kind, namespace)

    # --- filled

    def _pages(self, source: Source, trim: Trim) -> Pages:
        return Pages(source, trim, stream=self._api.stream, lock=self._lock)

    def _counted(self, kind: Kind) -> Callable[[int], None]:
        return partial(self._skipped, kind.plural)

    def _owned_store(self, kind: Kind) -> Store:
        return Store(
            self._owned_trim(kind),
            changed=partial(self._routes.owned_changed, kind.plural),
            skipped=self._counted(kind),
            scopes=self._scopes,
        )

    def _owned_trim(self, kind: Kind) -> Trim:
        named = sources.OWNED_NAMES.get(kind)
        return objects.of_dependents(named, policy=self.policies.kept, index=self.indexes.kept)

    def _reflectors(self) -> list[Reflector]:
        return [it for scope in self._scopes for it in self._reflectors_of(scope)]

    def _reflectors_of(self, scope: str | None) -> list[Reflector]:
        filled: list[tuple[Source, Trim, Store]] = [
            (sources.POLICIES, policy_objects.policy, self.policies),
            (sources.INDEXES, index_objects.index, self.indexes),
            (sources.CLASSES, policy_objects.provider_class, self.classes),
            (sources.NAMESPACES, namespace_objects.namespace, self.namespaces),
            (sources.LIMIT_RANGES, namespace_objects.limit_range, self.limit_ranges),
            (sources.QUOTAS, namespace_objects.quota, self.quotas),
            *([(sources.INJECTIONS, objects.injection, self.injections)] if self._injects else []),
            *((it, self._owned_trim(it.kind), self.owned[it.kind]) for it in sources.OWNED),
        ]
        made = [
            self._reflector(
                source,
                scope=scope,
                relist=partial(
                    self._relist, source.kind, store, self._pages(source, trim), scope=scope
                ),
                told=store.told,
                changes=store.changes,
            )
            for source, trim, store in filled
            if scope is None or source.kind.namespaced
        ]
        pods = self._reflector(
            sources.PODS,
            scope=scope,
            relist=lambda _: self.pods.restart(scope),
            told=self.pods.told,
        )
        named = self._reflector(
            sources.NAMED_SECRETS,
            scope=scope,
            relist=lambda _: self._named_secrets.restart(scope),
            told=self._named_secrets.told,
        )
        return [*made, pods, named]

    def _reflector(
        self,
        source: Source,
        *,
        scope: str | None,
        relist: Callable[[Callable[[], None]], str],
        told: Callable[[str, msgspec.Raw], None],
        changes: Callable[[], int] = lambda: 0,
    ) -> Reflector:
        first = sources.NAMESPACES if scope is None else sources.POLICIES
        return Reflector(
            source,
            stream=self._api.stream,
            # An upgrade of the API server ends all streams, so this sees its new version.
            opening=self._learn_version if source is first else None,
            namespace=scope,
            relist=relist,
            told=told,
            skipped=self._counted(source.kind),
            lock=self._lock,
            changes=changes,
            deaf=self._falls_deaf,
        )

    def _falls_deaf(self, name: str) -> None:
        self._deaf(name)

    def _learn_version(self) -> None:
        self._server_version = self._api.version()

    def _relist(
        self,
        kind: Kind,
        store: Store,
        pages: Pages,
        moved: Callable[[], None],
        *,
        scope: str | None,
    ) -> str:
        if kind in sources.OPTIONAL and not self._api.serves(kind):
            store.clear(scope=scope)
            raise errors.Unavailable(f"there are no {kind.plural}", reason=NOT_SERVED)
        return store.refill(pages.each(scope, moved=moved), scope=scope)

    def _list_pods(self, key: ObjectKey) -> None:
        if self.pods.fill(key.namespace):
            self._routes.queue_all(key.namespace)
