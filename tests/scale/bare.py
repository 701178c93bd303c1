"""The ceiling: a client that decides nothing, lists the policies and applies the same objects.

It runs once the operator has ended, on the same API server, with as many connections as the
operator has workers.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Final
from urllib.parse import quote

from embedding_contract import names
from embedding_operator.kube import kinds
from embedding_operator.kube.kinds import Kind, Object
from tests.parts import arrivals, direct, estate
from tests.parts.installation import wait
from tests.scale import edits

OWNED: Final = (kinds.CONFIG_MAP, kinds.SECRET)
PAGE: Final = 500
GONE_SECONDS: Final = 600
_OF_SERVER: Final = ("uid", "resourceVersion", "creationTimestamp", "managedFields", "generation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What the operator has made: objects to apply, and the policies with their status."""

    objects: tuple[Object, ...]
    policies: tuple[Object, ...]

    @classmethod
    def of(cls, built: estate.Estate) -> "Made":
        """Read it from the API server."""
        spaces = frozenset(built.namespaces)
        return cls(
            objects=tuple(
                desired(kind, it)
                for kind in OWNED
                for it in built.objects.find(kind, selector=arrivals.OURS)
                if it["metadata"]["namespace"] in spaces
            ),
            policies=tuple(built.objects.find(kinds.POLICY)),
        )


class Bare:
    """The client; `workers` connections at once."""

    def __init__(self, built: estate.Estate, made: Made, *, workers: int) -> None:
        self._built = built
        self._made = made
        self._workers = workers

    def cold(self) -> tuple[float, int]:
        """Delete all objects, and make them again: seconds and requests of the second half."""
        self._delete()
        began = time.monotonic()
        pages = _list(self._built.asked.kubeconfig)
        requests = [_apply(it) for it in self._made.objects]
        requests += [changed_status(it) for it in self._made.policies]
        with ThreadPoolExecutor(self._workers) as threads:
            slices = (requests[at :: self._workers] for at in range(self._workers))
            list(threads.map(self._send, slices))
        return time.monotonic() - began, pages + len(requests)

    @contextmanager
    def following(self) -> Iterator[None]:
        """Write each edit of a policy into its ConfigMap meanwhile."""
        documents = {
            it["metadata"]["ownerReferences"][0]["name"]: it
            for it in self._made.objects
            if edits.DOCUMENT in it.get("data", {})
        }
        follower = _Follower(self._built.asked.kubeconfig, documents, workers=self._workers)
        try:
            # An edit that came with its first event would be taken for what was there.
            wait(lambda: follower.count() == len(self._made.policies), "all policies")
            yield
        finally:
            follower.close()

    def _send(self, requests: Sequence["Request"]) -> None:
        connection = direct.Direct(self._built.asked.kubeconfig)
        for it in requests:
            connection.done("PATCH", it.path, it.body, content=it.content)
        connection.close()

    def _delete(self) -> None:
        connection = direct.Direct(self._built.asked.kubeconfig)
        selector = quote(arrivals.OURS)
        for space in self._built.namespaces:
            for kind in OWNED:
                connection.done("DELETE", f"{kind.path(space)}?labelSelector={selector}")
        connection.close()
        wait(
            lambda: not Made.of(self._built).objects,
            "no objects of the operator",
            timeout_seconds=GONE_SECONDS,
        )


@dataclass(frozen=True, slots=True)
class Request:
    """A PATCH."""

    path: str
    body: Object
    content: str


def desired(kind: Kind, found: Object) -> Object:
    """An object as it is applied, from one that was read."""
    metadata = {key: it for key, it in found["metadata"].items() if key not in _OF_SERVER}
    word = next(word for word, it in kinds.KINDS.items() if it == kind)
    return {**found, "apiVersion": "v1", "kind": word, "metadata": metadata}


def _apply(wanted: Object) -> Request:
    kind, metadata = kinds.KINDS[wanted["kind"]], wanted["metadata"]
    path = kind.path(metadata["namespace"], metadata["name"])
    return Request(f"{path}?fieldManager={names.FIELD_MANAGER}&force=true", wanted, direct.APPLY)


def changed_status(policy: Object) -> Request:
    """The whole status, changed in one field, as an equal one would not be written."""
    metadata, status = policy["metadata"], policy["status"]
    changed = {**status, "observedGeneration": status["observedGeneration"] + 1}
    path = kinds.POLICY.path(metadata["namespace"], metadata["name"], "status")
    return Request(path, {"status": changed}, direct.MERGE)


def _list(kubeconfig: Path) -> int:
    """List all policies; the number of requests."""
    connection, pages, more = direct.Direct(kubeconfig), 0, ""
    while more or not pages:
        path = f"{kinds.POLICY.path(None)}?limit={PAGE}&continue={quote(more)}"
        more = connection.done("GET", path)["metadata"].get("continue", "")
        pages += 1
    connection.close()
    return pages


class _Follower(arrivals.Watch):
    """Applies the ConfigMap of each policy whose number has changed."""

    def __init__(self, kubeconfig: Path, documents: dict[str, Object], *, workers: int) -> None:
        self._documents = documents
        self._wanted: SimpleQueue[Request | None] = SimpleQueue()
        self._known: set[arrivals.Place] = set()
        self._threads = [
            threading.Thread(target=_carry_out, args=(kubeconfig, self._wanted.get))
            for _ in range(workers)
        ]
        for thread in self._threads:
            thread.start()
        super().__init__(kubeconfig, kinds.POLICY)

    def value_of(self, found: Object) -> str | None:
        """The number of a policy."""
        return edits.number_of(found["spec"])

    def came(self, place: arrivals.Place, value: str | None, found: Object) -> None:
        """Have the document written, but for the first event of each policy."""
        if place in self._known and value is not None:
            self._wanted.put(_apply(edits.with_number(self._documents[place[1]], value)))
        self._known.add(place)

    def close(self) -> None:
        super().close()
        for _ in self._threads:
            self._wanted.put(None)
        for thread in self._threads:
            thread.join()


def _carry_out(kubeconfig: Path, next_one: Callable[[], Request | None]) -> None:
    connection = direct.Direct(kubeconfig)
    while (wanted := next_one()) is not None:
        connection.done("PATCH", wanted.path, wanted.body, content=wanted.content)
    connection.close()
