"""What is watched, that nothing else of kopf's is on, and that a lost watch is noticed."""

import asyncio
from typing import Any

import kopf
import pytest

from embedding_contract import names
from embedding_operator import cluster, handlers, workqueue

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


class Wrote:
    """This process wrote version 7 of everything."""

    def is_echo(self, plural, namespace, name, *, version):
        return version == "7"


def queued(*events, of):
    """How many policies wait after these events, each of which is worked on before the next."""
    queue: workqueue.WorkQueue[workqueue.Key] = workqueue.WorkQueue()
    registry = handlers.registry(queue, wrote=Wrote())
    handle: Any = next(
        it.fn
        for it in registry._watching.get_all_handlers()
        if it.selector is not None and of in {it.selector.any_name, it.selector.plural}
    )
    taken = 0
    for event in events:
        asyncio.run(
            handle(
                event=event,
                resource=kopf.Resource(group="", version="v1", plural=of, namespaced=True),
                namespace="shop",
                name="search",
                meta=kopf.Body(event["object"]).metadata,
            )
        )
        while len(queue):
            assert queue.take() == workqueue.Key("shop", "search")
            queue.done(workqueue.Key("shop", "search"), failed=False)
            taken += 1
    return taken


def event(kind="MODIFIED", **metadata):
    return {"type": kind, "object": {"metadata": {"uid": "u", "generation": 1, **metadata}}}


def owned(**metadata):
    owner = {"kind": names.KIND, "name": "search"}
    return event(ownerReferences=[owner], **metadata)


def test_a_status_that_was_written_is_no_reason_for_a_reconcile():
    written = [event(resourceVersion=version) for version in "123"]
    assert queued(*written, of=names.PLURAL) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"generation": 2},
        {"annotations": {names.ANNOTATION_REFRESH: "now"}},
        {"labels": {"a": "b"}},
        {"deletionTimestamp": "2026-01-01T00:00:00Z"},
        {"uid": "another"},
    ],
)
def test_all_else_of_a_policy_is(change):
    assert queued(event(), event(**change), of=names.PLURAL) == 2


def test_a_policy_that_goes_and_comes_is_looked_at_each_time():
    assert queued(event(), event("DELETED"), event(), of=names.PLURAL) == 3


def test_an_echo_is_known_of_all_that_is_owned():
    echoing = {(*it.group.split("/")[1:], it.plural) for it in cluster.ECHOING}
    assert echoing == {
        (*group.split(), version, plural) for group, version, plural in handlers.OWNED
    }


def test_what_the_operator_wrote_itself_is_no_reason_for_a_reconcile():
    assert queued(owned(resourceVersion="7"), of="secrets") == 0
    assert queued(owned(resourceVersion="8"), of="secrets") == 1


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
    registry = handlers.registry(workqueue.WorkQueue(), wrote=Wrote())
    assert not registry._changing.get_all_handlers()
    assert not registry._spawning.get_all_handlers()
