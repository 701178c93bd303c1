"""Nothing of kopf's own reaches the cluster."""

from embedding_operator.serving import kopf_setup


def test_kopf_writes_nothing_of_its_own_to_cluster():
    chosen = kopf_setup.settings()
    assert not chosen.posting.enabled
    assert chosen.peering.standalone


def test_kopf_watches_nothing():
    registry = kopf_setup.registry()
    for it in (registry._watching, registry._changing, registry._spawning, registry._indexing):
        assert not it.get_all_handlers()
