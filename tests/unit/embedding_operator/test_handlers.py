"""That nothing of kopf's reaches the cluster, and that a lost watch is noticed."""

import kopf
import pytest

from embedding_operator import handlers


class Watches:
    """Some watches; `lost` is deaf."""

    def __init__(self, lost=None):
        self.lost = lost

    def deaf(self):
        return self.lost

    def watching(self):
        return 7


def test_the_probe_counts_the_watches():
    assert handlers.watching(Watches()) == 7


def test_a_watch_that_has_ended_fails_the_probe():
    with pytest.raises(handlers.DeafError, match="nothing watches pods"):
        handlers.watching(Watches(lost="pods"))


def test_kopf_does_not_wait_to_tell_that_it_is_deaf():
    assert issubclass(handlers.DeafError, kopf.PermanentError)


def test_nothing_of_kopfs_own_reaches_the_cluster():
    chosen = handlers.settings()
    assert not chosen.posting.enabled
    assert chosen.peering.standalone


def test_kopf_watches_nothing():
    registry = handlers.registry(Watches())
    for it in (registry._watching, registry._changing, registry._spawning, registry._indexing):
        assert not it.get_all_handlers()
