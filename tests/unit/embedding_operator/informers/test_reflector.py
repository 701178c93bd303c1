"""A store comes to hold what the server holds, whatever happens on the way."""

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedding_operator import errors
from embedding_operator.informers import kept as keeping
from embedding_operator.informers import (
    objects,
    pages,
    pod_objects,
    pods,
    policy_objects,
    reflector,
    store,
)
from embedding_operator.informers.fifo_lock import FifoLock
from embedding_operator.kube import kinds
from tests.parts.collection import Collection

MOST_BYTES = 1600
"""Of one object: it has some 170, and with a filling of 2,000 it is too large."""
SOURCE = pages.Source(kind=kinds.CONFIG_MAP)
NAMESPACES = ("books", "shop")
FAULTS = st.tuples(
    st.sampled_from(["cut", "cut", "gone", "away", "refused", "error", "expired", "silent", ""]),
    st.integers(0, 900),
)
PUT = st.tuples(
    st.just("put"),
    st.sampled_from(NAMESPACES),
    st.sampled_from("abcdefgh"),
    st.sampled_from([0, 0, 0, 50, 2000]),
)
DELETE = st.tuples(st.just("delete"), st.sampled_from(NAMESPACES), st.sampled_from("abcdefgh"))
ACTIONS = st.lists(
    st.one_of(
        PUT,
        PUT,
        DELETE,
        st.just(("compact",)),
        st.tuples(st.just("step"), st.lists(FAULTS, max_size=3)),
    ),
    max_size=40,
)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Run:
    """A store that follows a collection. `events` is the sum of what it was told had changed."""

    def __init__(self, *, sorted_fields=False):
        self.server = Collection(sorted_fields=sorted_fields)
        self.turn = FifoLock()
        self.skipped = 0
        self.known = {}
        self.store = store.Store(trimmed, changed=self.changed, skipped=self.skip)
        listed = pages.Pages(
            SOURCE, trimmed, stream=self.server.stream, lock=self.turn, most_bytes=MOST_BYTES
        )
        self.clock = Clock()
        self.deaf: list[str] = []
        self.reflector = reflector.Reflector(
            SOURCE,
            stream=self.server.stream,
            relist=lambda moved: self.store.refill(listed.each(moved=moved)),
            told=self.store.told,
            skipped=self.skip,
            lock=self.turn,
            most_bytes=MOST_BYTES,
            changes=self.store.changes,
            deaf=self.deaf.append,
            clock=self.clock,
        )

    def changed(self, before, after):
        seen = after or before
        assert self.known.get(seen.key) == (before and before.version)
        if after is None:
            del self.known[seen.key]
        else:
            self.known[seen.key] = after.version

    def skip(self, count):
        self.skipped += count

    def act(self, action):
        match action:
            case ("put", namespace, name, size):
                self.server.put(namespace, name, filling="x" * size)
            case ("delete", namespace, name):
                self.server.delete(namespace, name)
            case ("compact",):
                self.server.compact()
            case ("step", faults):
                self.server.faults = list(faults)
                self.reflector.step()
        assert not self.turn.locked()

    def settle(self):
        self.server.faults = []
        for _ in range(4):
            self.reflector.step()

    def held(self):
        return {key: it.version for key in self.store.keys() if (it := self.store.kept(*key))}  # noqa: SIM118 - no mapping


def trimmed(raw):
    """All of it but the filling, and as news what has another version."""
    found = objects.owned(raw, is_owner=lambda *_: True)
    return keeping.Kept(
        namespace=found.namespace,
        name=found.name,
        version=found.version,
        about=found.version,
        content=b"{}",
    )


def small(server):
    """The objects of it that can be held."""
    return {
        key: it["metadata"]["resourceVersion"]
        for key, it in server.objects.items()
        if len(it["filling"]) < MOST_BYTES
    }


@pytest.mark.parametrize("sorted_fields", [False, True])
@settings(max_examples=300)
@given(actions=ACTIONS)
def test_store_equals_servers_state_after_any_faults(sorted_fields, actions):
    run = Run(sorted_fields=sorted_fields)
    for action in actions:
        run.act(action)
    run.settle()
    assert run.held() == small(run.server)
    assert run.known == run.held()
    assert run.store.synced


def test_object_that_grew_too_large_and_went_is_not_held_for_ever():
    run = Run()
    run.server.put("shop", "a", filling="")
    run.settle()
    run.server.put("shop", "a", filling="x" * 2000)
    run.server.delete("shop", "a")
    run.act(("step", []))
    run.settle()
    assert run.held() == {}
    assert run.skipped


def test_pages_get_smaller_where_objects_are_large_and_larger_again():
    run = Run()
    for number in range(40):
        run.server.put("shop", f"large-{number}", filling="x" * 200)
    run.settle()
    limits = [int(it["limit"]) for it in run.server.asked if "limit" in it]
    assert limits[0] == pages.MOST_OBJECTS
    assert limits[-1] == 1
    for number in range(40):
        run.server.delete("shop", f"large-{number}")
    run.server.compact()
    for _ in range(4):
        run.settle()
        run.server.compact()
        run.server.put("shop", "small", filling="")
        run.server.compact()
    assert int([it["limit"] for it in run.server.asked if "limit" in it][-1]) > 1


def test_stream_that_ends_goes_on_where_it_was():
    run = Run()
    run.server.put("shop", "a", filling="")
    run.settle()
    lists = sum("limit" in it for it in run.server.asked)
    run.server.put("shop", "b", filling="")
    run.act(("step", [("cut", 10)]))
    run.act(("step", [("away", 0)]))
    run.settle()
    assert run.held() == run.server.state()
    assert sum("limit" in it for it in run.server.asked) == lists


def test_streams_that_fail_at_once_are_not_asked_for_in_hurry():
    run = Run()
    run.server.faults = [("away", 0)] * 9
    waits = [run.reflector.step() for _ in range(9)]
    assert all(waits)
    assert waits[-1] >= 5


def test_silent_stream_is_followed_by_list():
    run = Run()
    run.settle()
    run.act(("step", [("silent", 0)]))
    asked = len(run.server.asked)
    run.server.put("shop", "a", filling="")
    run.act(("step", []))
    assert "limit" in run.server.asked[asked]
    assert run.held() == run.server.state()
    assert run.deaf == []


def missed(run, *, listing):
    """A silent stream, after a list or not, and a change that only the next list brings."""
    run.act(("step", [("", 0)] * listing + [("silent", 0)]))
    run.server.put("shop", "a", filling="")


def test_kind_whose_streams_miss_changes_one_after_other_is_deaf():
    run = Run()
    run.settle()
    missed(run, listing=0)
    run.act(("step", []))
    run.server.put("shop", "b", filling="")
    run.act(("step", []))  # heard again
    missed(run, listing=0)
    assert run.deaf == []
    missed(run, listing=1)
    assert run.deaf == []
    run.act(("step", []))
    assert run.deaf == [SOURCE.name]


def test_kind_that_is_silent_as_nothing_changes_is_not_deaf():
    """API servers whose etcd sends no progress notifications send no bookmarks of a quiet kind."""
    run = Run()
    run.settle()
    for _ in range(5):
        run.clock.now += 75
        run.act(("step", [("", 0), ("silent", 0)]))
    assert run.deaf == []
    assert run.reflector.silent_seconds() < 75  # or EmbeddingOperatorDeaf would fire


def test_silence_is_counted_from_last_line():
    run = Run()
    run.settle()
    run.clock.now += 70
    assert run.reflector.silent_seconds() == 70
    run.act(("step", [("silent", 0)]))
    assert run.reflector.silent_seconds() == 70
    run.settle()
    assert run.reflector.silent_seconds() == 0


def test_reflector_that_does_not_move_is_stuck():
    run = Run()
    assert not run.reflector.is_stuck()
    run.clock.now += reflector.DEAF_SECONDS + 1
    assert run.reflector.is_stuck()
    run.reflector.rest()
    assert not run.reflector.is_stuck()


def many(run, count=20):
    """Objects for so many pages of a list."""
    for number in range(count):
        run.server.put("shop", f"large-{number:02}", filling="x" * 500)


def test_long_list_whose_pages_keep_coming_is_not_stuck():
    run = Run()
    many(run)
    stuck = []

    def takes_long():
        run.clock.now += reflector.DEAF_SECONDS / 2
        stuck.append(run.reflector.is_stuck())

    run.server.before_page = takes_long
    run.reflector.rest()
    run.act(("step", []))
    assert len(stuck) > 10
    assert not any(stuck)
    assert not run.reflector.is_stuck()
    assert run.held() == run.server.state()


def test_expired_list_begins_anew_without_old_pages():
    """What has gone since was in a page of the first list, and no watch tells of it."""
    run = Run()
    many(run)
    asked = len(run.server.asked)

    def expires():
        if len(run.server.asked) == asked + 15:
            run.server.delete("shop", "large-00")
            run.server.compact()

    run.server.before_page = expires
    wait_seconds = run.reflector.step()
    assert not run.store.synced
    assert ("shop", "large-00") in run.held()
    assert wait_seconds < 1
    run.act(("step", []))
    tokens = ["continue" in it for it in run.server.asked[asked:] if "limit" in it]
    assert tokens.index(False, 15) > 0
    assert run.held() == run.server.state()
    assert run.known == run.held()


def test_long_line_is_waited_for_less_long_than_event():
    run = Run()
    bodies = []
    stream = run.server.stream

    @contextmanager
    def kept(*args, **named):
        with stream(*args, **named) as body:
            bodies.append(body)
            yield body

    run.reflector._stream = kept
    run.reflector._most_bytes = 10**6
    run.settle()
    bodies.clear()
    run.server.put("shop", "a", filling="x" * 100_000)
    run.act(("step", []))
    assert bodies[-1].waits == [pages.READ_SECONDS, reflector.SILENT_SECONDS]


@pytest.mark.parametrize("fault", ["refused", "away", "gone"])
def test_kind_whose_streams_are_refused_for_long_is_not_heard_of(fault):
    run = Run()
    run.settle()
    assert run.reflector.hears()
    for _ in range(3):  # a list may be let through, and the watch not
        run.act(("step", [(fault, 0)]))
        assert run.reflector.hears()
        run.clock.now += reflector.UNHEARD_SECONDS / 4
    run.clock.now += reflector.UNHEARD_SECONDS / 4
    assert not run.reflector.hears()
    assert not run.reflector.is_stuck()
    run.settle()
    assert run.reflector.hears()


def test_kind_that_may_be_listed_and_not_watched_is_not_heard_of():
    run = Run()
    for _ in range(5):
        run.act(("step", [("", 0), ("refused", 0)]))
        run.clock.now += reflector.UNHEARD_SECONDS / 4
    assert run.store.synced
    assert not run.reflector.hears()


def test_bug_in_handler_ends_no_watch():
    run = Run()
    run.settle()

    def fails(event, raw):
        raise RuntimeError(event)

    told, run.reflector._told = run.reflector._told, fails
    run.server.put("shop", "a", filling="")
    run.act(("step", []))
    run.reflector._told = told
    run.settle()
    assert run.held() == run.server.state()


# --- own writes


def policy(version, generation=1, **status):
    return {
        "metadata": {
            "name": "search",
            "namespace": "shop",
            "uid": "p",
            "generation": generation,
            "resourceVersion": str(version),
        },
        "spec": {},
        "status": status,
    }


class Policies:
    """A store of policies, and how often it told of news."""

    def __init__(self):
        self.news = 0
        self.store = store.Store(policy_objects.policy, changed=self.changed)

    def changed(self, before, after):
        self.news += 1

    def tell(self, found, event="MODIFIED"):
        self.store.told(event, keeping.encode(found))

    def status(self):
        found = self.store.get("shop", "search")
        return found and found["status"]


def test_own_status_write_is_known_before_its_watch_event():
    policies = Policies()
    policies.tell(policy(3))
    policies.store.wrote(policy(5, ready="True"))
    policies.tell(policy(4))
    assert policies.status() == {"ready": "True"}
    policies.tell(policy(6, ready="False"))
    assert policies.status() == {"ready": "False"}
    assert policies.news == 1


def test_edit_that_is_seen_in_answer_to_write_is_news():
    policies = Policies()
    policies.tell(policy(3))
    policies.store.wrote(policy(5, generation=2))
    assert policies.news == 2


def test_answer_to_write_brings_back_no_policy_that_has_gone():
    policies = Policies()
    policies.tell(policy(3))
    policies.tell(policy(6), event="DELETED")
    policies.store.wrote(policy(5, ready="True"))
    assert policies.status() is None


def test_server_that_was_restored_from_backup_is_believed():
    policies = Policies()
    policies.tell(policy(300, ready="True"))
    page = pages.Page(version="20", kept=[policy_objects.policy(keeping.encode(policy(10)))])
    policies.store.refill([page])
    policies.tell(policy(21, ready="False"))
    assert policies.status() == {"ready": "False"}


# --- pods


class Interrupted(pages.Pages):
    """Lists between whose pages something happens."""

    between: Callable[[], None]

    def each(self, namespace=None, *, limit=None, moved=None):
        for page in super().each(namespace, limit=limit, moved=moved):
            yield page
            if limit is None:
                self.between()


class PodRun:
    """Pods of followed namespaces, with the watch and the lists in any order."""

    def __init__(self):
        self.server = Collection()
        self.turn = FifoLock()
        self.to_list: list[str] = []
        listed = Interrupted(
            SOURCE,
            pod_objects.pod,
            stream=self.server.stream,
            lock=self.turn,
            most_bytes=MOST_BYTES,
        )
        listed.between = self.happen
        self.happening: list[Any] = []
        self.pods = pods.Pods(
            listed,
            pod_objects.pod,
            list_later=self.to_list.append,
            changed=lambda before, after: None,
            skipped=lambda count: None,
        )
        self.reflector = reflector.Reflector(
            SOURCE,
            stream=self.server.stream,
            relist=lambda _: self.pods.restart(),
            told=self.pods.told,
            skipped=lambda count: None,
            lock=self.turn,
            most_bytes=MOST_BYTES,
        )

    def act(self, action):
        match action:
            case ("put", namespace, name, size):
                phase = {"phase": "Running", "podIP": f"10.0.0.{self.server.version}"}
                self.server.put(namespace, name, spec={}, status=phase, filling="x" * size)
            case ("delete", namespace, name):
                self.server.delete(namespace, name)
            case ("compact",):
                self.server.compact()
            case ("step", faults):
                self.server.faults = list(faults)
                self.reflector.step()
                self.server.faults = []
            case ("follow", namespace):
                self.pods.follow(namespace)
            case ("drop", namespace):
                self.pods.drop(namespace)
            case ("fill", between):
                self.happening = list(between)
                self.fill()

    def happen(self):
        while self.happening:
            self.act(self.happening.pop(0))

    def fill(self):
        if self.to_list:
            try:
                self.pods.fill(self.to_list[0])
            except errors.OperatorError:
                return  # it stays to be listed, as in the queue
            self.to_list.pop(0)

    def settle(self):
        self.happening = []
        for _ in range(4):
            self.reflector.step()
            while self.to_list:
                self.fill()

    def held(self, namespace):
        found = self.pods.of(namespace)
        return None if found is None else {it.name: it.value()["status"]["podIP"] for it in found}


POD_ACTIONS = st.one_of(
    PUT,
    PUT,
    DELETE,
    st.just(("compact",)),
    st.tuples(st.just("step"), st.lists(FAULTS, max_size=2)),
)


@settings(max_examples=400)
@given(
    actions=st.lists(
        st.one_of(
            POD_ACTIONS,
            st.tuples(st.sampled_from(["follow", "drop"]), st.sampled_from(NAMESPACES)),
            st.tuples(st.just("fill"), st.lists(POD_ACTIONS, max_size=6)),
        ),
        max_size=40,
    )
)
def test_pods_of_followed_namespaces_equal_servers_in_any_order(actions):
    run = PodRun()
    run.act(("follow", "shop"))
    for action in actions:
        run.act(action)
    run.act(("follow", "shop"))
    run.act(("drop", "books"))
    run.settle()
    assert run.held("shop") == {
        name: it["status"]["podIP"]
        for (namespace, name), it in run.server.objects.items()
        if namespace == "shop" and len(it["filling"]) < MOST_BYTES
    }
    assert run.held("books") is None


def test_pods_of_namespace_are_none_before_they_are_listed():
    run = PodRun()
    run.act(("put", "shop", "a", 0))
    run.act(("follow", "shop"))
    run.reflector.step()
    assert run.held("shop") is None
    run.fill()
    assert list(run.held("shop")) == ["a"]


@pytest.mark.parametrize(
    "meanwhile",
    [
        [("delete", "shop", "a")],
        [("put", "shop", "a", 0)],
        [("put", "shop", "b", 0)],
        [("delete", "shop", "a"), ("put", "shop", "a", 0)],
    ],
)
def test_watch_event_during_list_of_namespace_wins(meanwhile):
    run = PodRun()
    run.act(("put", "shop", "a", 0))
    run.act(("follow", "shop"))
    run.reflector.step()
    run.act(("fill", [*meanwhile, ("step", [])]))
    assert not run.to_list
    assert run.held("shop") == {
        name: it["status"]["podIP"] for (_, name), it in run.server.objects.items()
    }
