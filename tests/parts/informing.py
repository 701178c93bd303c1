"""The informers' stores without an API server, and what a change queues."""

import json
from contextlib import contextmanager

from embedding_contract import names
from embedding_operator import errors
from embedding_operator.informers import caches as wiring
from embedding_operator.informers import kept as keeping
from embedding_operator.kube.client import KubeClient
from embedding_operator.kube.kinds import ObjectKey
from embedding_operator.queues.workqueue import WorkQueue
from tests.parts.collection import Body

SEARCH = ObjectKey("shop", "search")
UID = "uid-of-search"


class API(KubeClient):
    """An API server on which nothing is; `written` are versions that this process wrote."""

    def __init__(self):
        self.written = set()
        self.ends = None
        self.listed = {}

    @contextmanager
    def stream(self, kind, namespace=None, *, query, accept, read_seconds):
        if kind.plural == self.ends:
            raise SystemExit  # as nothing that a reflector guards against
        if "watch" in dict(query):
            raise errors.Unavailable("away", reason="APIServerAway")
        found = {"metadata": {"resourceVersion": "1"}, "items": self.listed.get(kind.plural)}
        yield Body([json.dumps(found).encode()])

    def serves(self, kind):
        return False

    def version(self):
        return (1, 37)

    def is_echo(self, plural, namespace, name, *, version):
        return version in self.written


class World:
    """The stores, and which policies were queued since the last look."""

    def __init__(self, *, injects=True, watched=()):
        self.api = API()
        self.queue: WorkQueue[ObjectKey] = WorkQueue()
        self.index_queue: WorkQueue[ObjectKey] = WorkQueue()
        self.class_queue: WorkQueue[ObjectKey] = WorkQueue()
        self.injection_queue: WorkQueue[ObjectKey] = WorkQueue()
        self.skipped: list[str] = []
        self.deaf: list[str] = []
        self.caches = wiring.Caches(
            self.api,
            queue=self.queue,
            index_queue=self.index_queue,
            class_queue=self.class_queue,
            injection_queue=self.injection_queue if injects else None,
            namespace="embedding-system",
            skipped=lambda kind, count: self.skipped.append(kind),
            watched=watched,
        )

    def policy(
        self, event="MODIFIED", *, name="search", uid=UID, generation=1, spec=None, **metadata
    ):
        return self.tell(
            self.caches.policies,
            event,
            {
                "metadata": {
                    "name": name,
                    "namespace": "shop",
                    "uid": uid,
                    "generation": generation,
                    **metadata,
                },
                "spec": spec or {"podSelector": {}},
            },
        )

    def owned(self, kind, name, event="MODIFIED", *, version="7", uid=UID, owners=None):
        reference = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "name": "search",
            "uid": uid,
        }
        owners = [reference] if owners is None else owners
        metadata = {"name": name, "namespace": "shop", "resourceVersion": version}
        return self.tell(
            self.caches.owned[kind], event, {"metadata": {**metadata, "ownerReferences": owners}}
        )

    def index(self, event="MODIFIED", *, name="articles", generation=1, spec=None, **metadata):
        self.tell(
            self.caches.indexes,
            event,
            {
                "metadata": {
                    "name": name,
                    "namespace": "shop",
                    "uid": f"uid-of-{name}",
                    "generation": generation,
                    **metadata,
                },
                "spec": {"policyRef": {"name": "search"}} if spec is None else spec,
            },
        )
        return self.queued_indexes()

    def namespace(self, event="MODIFIED", **metadata):
        return self.tell(self.caches.namespaces, event, {"metadata": {"name": "shop", **metadata}})

    def pod(self, event="MODIFIED", *, labels=None, ip="10.0.0.1", **rest):
        metadata = {"name": "a", "namespace": "shop", "uid": "u", "labels": labels or {}}
        found = {"metadata": metadata, "spec": {}, "status": {"podIP": ip}, **rest}
        return self.tell(self.caches.pods, event, found)

    def tell(self, store, event, found):
        store.told(event, keeping.encode(found))
        return self.queued()

    def queued(self):
        return taken(self.queue)

    def queued_indexes(self):
        return taken(self.index_queue)

    def queued_classes(self):
        return taken(self.class_queue)


def taken(queue):
    found = []
    while len(queue):
        key = queue.take()
        assert key is not None
        found.append(key)
        queue.done(key, failed=False)
    return found
