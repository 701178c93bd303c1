"""EmbeddingInjections in the stores, and what their changes queue."""

from embedding_contract import names
from embedding_operator.informers import kept
from embedding_operator.injection import embedding_injection, selection
from embedding_operator.kube.kinds import ObjectKey
from tests.parts import pods
from tests.parts.informing import SEARCH, World, taken

KEY = ObjectKey("shop", names.INJECTION_NAME)


def tell(world, event="MODIFIED", *, name=names.INJECTION_NAME, version="1", policies=()):
    found = embedding_injection.of("shop", selection.candidates(policies), sidecar=pods.SIDECAR)
    found["metadata"] |= {"uid": "u", "resourceVersion": version, "name": name}
    world.caches.injections.told(event, kept.encode(found))
    return taken(world.injection_queue), world.queued()


def test_policy_queues_injection_of_its_namespace():
    world = World()
    world.policy()
    assert taken(world.injection_queue) == [KEY]
    world.policy("DELETED")
    assert taken(world.injection_queue) == [KEY]
    world.namespace()
    assert taken(world.injection_queue) == [KEY]


def test_object_that_is_lost_is_queued_and_so_are_its_policies():
    world = World()
    world.policy()
    taken(world.injection_queue)
    assert tell(world, policies=[pods.POLICY]) == ([KEY], [SEARCH])
    assert tell(world, policies=[pods.POLICY], version="2") == ([], [])
    assert tell(world, "DELETED", policies=[pods.POLICY]) == ([KEY], [SEARCH])
    assert world.caches.injection("shop") is None


def test_object_says_what_was_seen():
    world = World()
    tell(world, policies=[pods.POLICY])
    seen = world.caches.injection("shop")
    assert seen is not None
    assert seen["metadata"]["resourceVersion"] == "1"
    assert seen["selectors"] == {"search": embedding_injection.digest({})}
    assert world.caches.injected_namespaces() == [KEY]


def test_object_of_another_name_counts_for_nothing():
    world = World()
    tell(world, name="other", policies=[pods.POLICY])
    assert world.caches.injection("shop") is None
    assert world.caches.injected_namespaces() == []


def test_objects_are_not_watched_where_webhook_injects():
    assert names.INJECTION_PLURAL in World().caches.watches.kinds
    assert names.INJECTION_PLURAL not in World(injects=False).caches.watches.kinds
