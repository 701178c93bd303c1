"""Which changes the watches tell to reads that are remembered."""

import pytest

from embedding_contract import names
from embedding_operator.informers import kept as keeping
from embedding_operator.informers import objects, sources
from embedding_operator.informers.changes import WatchedChanges
from embedding_operator.informers.named_secrets import NamedSecrets
from embedding_operator.kube import kinds
from tests.parts.informing import World

OWNED = kinds.CONFIG_MAP, "shop", names.document_configmap("search")
NAMED = kinds.SECRET, "shop", "keys"


class Seen:
    def __init__(self):
        self.world = World()
        self.world.policy()
        self.deaf: set[str] = set()
        pages = self.world.caches._pages(sources.NAMED_SECRETS, objects.nothing)
        self.named = NamedSecrets(pages, ())
        self.changes = WatchedChanges(
            stores=self.world.caches.owned, named=self.named, hears=lambda it: it not in self.deaf
        )

    def event(self, name):
        found = {"metadata": {"name": name, "namespace": "shop"}}
        self.named.told("MODIFIED", keeping.encode(found))


@pytest.fixture
def seen():
    return Seen()


def test_owned_object_has_version_as_token(seen):
    seen.world.owned(OWNED[0], OWNED[2], version="7")
    assert seen.changes.token(*OWNED) == "7"
    seen.world.owned(OWNED[0], OWNED[2], version="8")
    assert seen.changes.token(*OWNED) == "8"


def test_object_that_no_watch_shows_has_no_token(seen):
    assert seen.changes.token(kinds.CONFIG_MAP, "shop", "authorities") is None
    assert seen.changes.token(kinds.NAMESPACE, None, "shop") is None
    assert seen.changes.token(kinds.DEPLOYMENT, "shop", "search") is None


def test_deaf_watch_gives_no_token_and_shows_nothing(seen):
    seen.world.owned(OWNED[0], OWNED[2])
    seen.deaf = {"configmaps", "named secrets"}
    assert seen.changes.token(*OWNED) is None
    assert seen.changes.token(*NAMED) is None
    assert not seen.changes.shows_none(kinds.CONFIG_MAP, "shop", "other")


def test_named_secret_has_another_token_after_each_event_of_its_own(seen):
    first = seen.changes.token(*NAMED)
    seen.event("others")
    assert seen.changes.token(*NAMED) == first
    seen.event("keys")
    assert seen.changes.token(*NAMED) != first


def test_new_watch_of_secrets_changes_every_token(seen):
    first = seen.changes.token(*NAMED)
    seen.named.restart()
    assert seen.changes.token(*NAMED) != first


def test_first_list_shows_what_is_absent(seen):
    place = kinds.POD_MONITOR, "shop", "search"
    assert not seen.changes.shows_none(*place)
    seen.world.caches.owned[kinds.POD_MONITOR].clear()  # as an empty list does
    assert seen.changes.shows_none(*place)
    assert not seen.changes.shows_none(kinds.DEPLOYMENT, "shop", "search")
