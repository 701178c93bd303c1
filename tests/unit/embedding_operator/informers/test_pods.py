"""The memory kept for a namespace's pods has a bound, whatever its tenant makes."""

import json
from typing import Any, cast

import msgspec
import pytest

from embedding_operator import errors
from embedding_operator.informers import pages, pod_objects, pods

FILLED = {f"l{number}-{'x' * 40}": "" for number in range(200)}


def pod(name, *, labels=FILLED):
    metadata = {"name": name, "namespace": "shop", "labels": labels, "resourceVersion": "1"}
    return msgspec.Raw(json.dumps({"metadata": metadata, "spec": {"containers": []}}).encode())


class Lists:
    """Lists these pods, ten a page."""

    def __init__(self, raw):
        self.raw = raw

    def version(self):
        return "1"

    def each(self, _):
        for start in range(0, len(self.raw), 10):
            kept = [pod_objects.pod(it) for it in self.raw[start : start + 10]]
            yield pages.Page(version="1", kept=kept)


class Followed:
    """A namespace that is followed, and how many of its pods were passed over."""

    def __init__(self, listed=()):
        self.skipped = 0
        self.lists: Any = Lists(listed)
        self.pods = pods.Pods(
            cast("pages.Pages", self.lists),
            pod_objects.pod,
            list_later=lambda _: None,
            changed=lambda _, __: None,
            skipped=self.skip,
        )
        self.pods.follow("shop")
        self.pods.fill("shop")

    def skip(self, count):
        self.skipped += count

    def names(self):
        return [it.name for it in self.pods.of("shop") or ()]


@pytest.fixture(autouse=True)
def bound(monkeypatch):
    """Room for three filled pods and a little more."""
    size = len(pod_objects.pod(pod("a")).content or b"")
    monkeypatch.setattr(pods, "NAMESPACE_BYTES", 3 * size + size // 2, raising=False)


def test_listed_pods_beyond_namespaces_bytes_are_not_kept():
    found = Followed([pod(it) for it in "abcdefghijklmnop"])
    assert found.names() == ["a", "b", "c"]
    assert found.skipped == 13


def test_watched_pods_beyond_namespaces_bytes_are_not_kept():
    found = Followed([pod("a")])
    for name in "bcde":
        found.pods.told("ADDED", pod(name))
    assert found.names() == ["a", "b", "c"]
    assert found.skipped == 2


def test_list_that_failed_remembers_nothing_of_what_watch_tells():
    found = Followed([pod("a")])

    def away(_):
        found.pods.told("ADDED", pod("b", labels={}))
        raise errors.Unavailable("away")

    found.lists.each = away
    with pytest.raises(errors.Unavailable):
        found.pods.fill("shop")
    for number in range(100):
        found.pods.told("DELETED", pod(f"gone-{number}"))
    assert found.pods._followed["shop"].told is None
    assert found.names() == ["a", "b"]


def test_pods_that_go_or_change_give_their_room_back():
    found = Followed([pod(it) for it in "abc"])
    found.pods.told("DELETED", pod("a"))
    found.pods.told("MODIFIED", pod("b", labels={}))
    for name in "de":
        found.pods.told("ADDED", pod(name))
    assert sorted(found.names()) == ["b", "c", "d", "e"]
    assert found.skipped == 0
