"""Informers of single namespaces: each has its own lists and watches."""

import threading

import pytest

from embedding_contract import names
from embedding_operator.informers import kept as keeping
from embedding_operator.informers import policy_objects
from embedding_operator.informers.pages import Page
from embedding_operator.informers.store import Store
from embedding_operator.injection import selection
from embedding_operator.kube.kinds import ObjectKey
from tests.parts.informing import World
from tests.parts.waiting import eventually


def listed(*named):
    """A list of policies, by namespace and name."""
    found = [
        {"metadata": {"namespace": space, "name": name, "uid": "u"}, "spec": {"podSelector": {}}}
        for space, name in named
    ]
    return [Page(version="7", kept=[policy_objects.policy(keeping.encode(it)) for it in found])]


@pytest.fixture
def store():
    return Store(policy_objects.policy, changed=lambda *_: None, scopes=("shop", "blog"))


def test_store_is_synced_once_each_namespace_is_listed(store):
    store.refill(listed(("shop", "search")), scope="shop")
    assert not store.synced
    store.refill(listed(), scope="blog")
    assert store.synced


def test_list_of_one_namespace_removes_nothing_of_another(store):
    store.refill(listed(("shop", "search"), ("shop", "old")), scope="shop")
    store.refill(listed(("blog", "posts")), scope="blog")
    store.refill(listed(("shop", "search")), scope="shop")
    assert sorted(store.keys()) == [ObjectKey("blog", "posts"), ObjectKey("shop", "search")]
    store.clear(scope="shop")
    assert store.keys() == [ObjectKey("blog", "posts")]


def test_pods_are_synced_once_each_watch_has_begun():
    pods = World(watched=("blog", "shop")).caches.pods
    pods.restart("shop")
    assert not pods.synced
    pods.restart("blog")
    assert pods.synced


def test_kinds_of_cluster_are_not_watched_for_namespaces():
    kinds = World(watched=("blog", "shop")).caches.watches.kinds
    assert set(World().caches.watches.kinds) - set(kinds) == {"namespaces", names.CLASS_PLURAL}
    assert len(kinds) == len(set(kinds))


@pytest.fixture
def started():
    """Begins to watch two namespaces; the watch of one kind ends, if it is named."""
    stopping = threading.Event()
    worlds = []

    def start(ends=None):
        world = World(watched=("blog", "shop"))
        world.api.ends = ends
        world.caches.start(stopping, deaf=print)
        worlds.append(world)
        return world.caches

    yield start
    stopping.set()
    for world in worlds:
        world.caches.close()


def test_watched_namespaces_count_as_enabled(started):
    caches = started()
    found = caches.namespace("shop")
    assert found["metadata"]["labels"] == {names.LABEL_INJECTION: selection.ENABLED}
    assert caches.namespace("other") is None
    assert caches.classes.synced


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_ended_watch_of_namespace_is_told(started):
    caches = started(ends="pods")
    eventually(lambda: caches.watches.deaf() == "pods")
    # The watch of the other namespace ends, too: not while the next test runs.
    eventually(lambda: "watch-pods" not in {it.name for it in threading.enumerate()})
    assert not caches.watches.is_watching("pods")
    assert caches.watches.is_watching(names.PLURAL)
