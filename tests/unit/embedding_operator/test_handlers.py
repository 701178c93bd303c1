"""What is watched, that nothing else of kopf's is on, and that a lost watch is noticed."""

import asyncio

import kopf
import pytest

from embedding_contract import names
from embedding_operator import handlers, workqueue

WATCHED = (names.PLURAL, "configmaps", "secrets", "pods")


def run(*plurals):
    """What the probe says while these are watched."""

    async def watch() -> int:
        tasks = [
            asyncio.create_task(asyncio.sleep(60), name=f"watcher for {plural}.x")
            for plural in plurals
        ]
        try:
            return handlers.watching()
        finally:
            for task in tasks:
                task.cancel()

    return asyncio.run(watch())


def test_all_that_must_be_watched_is_watched():
    assert run(*WATCHED) == 4


@pytest.mark.parametrize("lost", WATCHED)
def test_a_watch_that_has_ended_is_noticed(lost):
    with pytest.raises(handlers.DeafError, match=lost):
        run(*(plural for plural in WATCHED if plural != lost))


def test_kopf_does_not_wait_to_tell_that_it_is_deaf():
    assert issubclass(handlers.DeafError, kopf.PermanentError)


def test_nothing_of_kopfs_own_reaches_the_cluster():
    chosen = handlers.settings()
    assert not chosen.posting.enabled
    assert chosen.peering.standalone


def test_only_what_is_ours_is_watched():
    selectors = handlers.settings().watching.label_selectors
    for resource in handlers.OWNED:
        assert selectors[resource] == f"{names.LABEL_MANAGED_BY}={names.MANAGED_BY}"
    assert selectors[handlers.PODS] == names.LABEL_INJECTED


def test_every_handler_only_looks():
    registry = handlers.registry(workqueue.WorkQueue())
    assert not registry._changing.get_all_handlers()
    assert not registry._spawning.get_all_handlers()
