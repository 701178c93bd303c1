"""A collection of an API server as a list and a watch report it, with all that may go wrong."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from embedding_operator import errors
from embedding_operator.kube import bodies, kinds

Object = dict[str, Any]


class Body(bodies.Body):
    """An answer of these pieces; it keeps how long nothing might come, each time it was told."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces
        self.waits: list[float] = []

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)

    def wait_at_most(self, seconds: float) -> None:
        """As `bodies.Body` says."""
        self.waits.append(seconds)


PIECE_BYTES = 37
"""Small, and no divisor of anything: lines and pages come in pieces."""


@dataclass
class Collection:
    """Objects by namespace and name, with a history. `sorted_fields`: as custom resources come.

    Each stream takes the first of `faults`: `cut` bytes of an answer, `gone`, `away`, `refused`,
    or for a watch an `error` or `expired` event after the others.
    """

    sorted_fields: bool = False
    version: int = 1
    compacted: int = 0
    objects: dict[tuple[str, str], Object] = field(default_factory=dict)
    history: list[tuple[int, str, Object]] = field(default_factory=list)
    snapshots: dict[str, list[Object]] = field(default_factory=dict)
    faults: list[tuple[str, int]] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)
    before_page: Callable[[], None] = lambda: None

    # --- what happens

    def put(self, namespace: str, name: str, **rest: Any) -> None:
        """Create it or change it."""
        self.version += 1
        before = self.objects.get((namespace, name))
        uid = before["metadata"]["uid"] if before else f"uid-{self.version}"
        metadata = rest.pop("metadata", {})
        made = {
            "metadata": {
                **metadata,
                "name": name,
                "namespace": namespace,
                "uid": uid,
                "resourceVersion": str(self.version),
            },
            **rest,
        }
        self.objects[namespace, name] = made
        self.history.append((self.version, "MODIFIED" if before else "ADDED", made))

    def delete(self, namespace: str, name: str) -> None:
        """Delete it, where it is there."""
        found = self.objects.pop((namespace, name), None)
        if found is not None:
            self.version += 1
            last = {
                **found,
                "metadata": {**found["metadata"], "resourceVersion": str(self.version)},
            }
            self.history.append((self.version, "DELETED", last))

    def compact(self) -> None:
        """Forget the history, and lists that were begun."""
        self.compacted = self.version
        self.history.clear()
        self.snapshots.clear()

    def state(self) -> dict[tuple[str, str], str]:
        """The version of each object."""
        return {key: it["metadata"]["resourceVersion"] for key, it in self.objects.items()}

    # --- what is told of it

    @contextmanager
    def stream(
        self,
        kind: kinds.Kind,
        namespace: str | None = None,
        *,
        query: list[tuple[str, str]],
        accept: str,
        read_seconds: float,
    ) -> Iterator[Body]:
        asked = dict(query)
        self.asked.append(asked)
        fault, cut = self.faults.pop(0) if self.faults else ("", 0)
        if fault == "away":
            raise errors.Unavailable("away", reason="APIServerAway")
        if fault == "gone":
            raise errors.Unavailable("gone", reason="Expired")
        if fault == "refused":
            raise errors.Denied("refused")
        if fault == "silent" and "watch" in asked:
            yield Body(_nothing())
            return
        if "watch" in asked:
            body = self._watch(int(asked["resourceVersion"]), fault)
        else:
            self.before_page()
            body = self._list(namespace, asked)
        yield Body(_pieces(body, cut if fault == "cut" else None))

    def _list(self, namespace: str | None, asked: dict[str, str]) -> bytes:
        token = asked.get("continue", "")
        if token:
            version, place, start = token.split(".")
            if token not in self.snapshots:
                raise errors.Unavailable("gone", reason="Expired")
            found = self.snapshots[token]
        else:
            version, place, start = str(self.version), str(len(self.asked)), "0"
            found = [it for key, it in sorted(self.objects.items()) if namespace in {None, key[0]}]
        end = int(start) + int(asked["limit"])
        meta: Object = {"resourceVersion": version}
        if end < len(found):
            meta["continue"] = f"{version}.{place}.{end}"
            self.snapshots[meta["continue"]] = found
        items = found[int(start) : end]
        made: Object = {"kind": "ThingList", "apiVersion": "v1", "metadata": meta, "items": items}
        return json.dumps(
            made, sort_keys=self.sorted_fields, separators=(",", ":"), ensure_ascii=False
        ).encode()

    def _watch(self, version: int, fault: str) -> bytes:
        if version < self.compacted:
            return _line("ERROR", {"kind": "Status", "code": 410, "reason": "Expired"})
        lines = [_line(event, it) for at, event, it in self.history if at > version]
        bookmark = {"kind": "Thing", "metadata": {"resourceVersion": str(self.version)}}
        lines.append(_line("BOOKMARK", bookmark))
        if fault == "expired":
            lines.append(_line("ERROR", {"kind": "Status", "code": 410}))
        if fault == "error":
            lines.append(_line("ERROR", {"kind": "Status", "code": 500, "reason": "Oops"}))
        return b"".join(lines)


def _line(event: str, found: Object) -> bytes:
    return json.dumps({"type": event, "object": found}, separators=(",", ":")).encode() + b"\n"


def _nothing() -> Iterator[bytes]:
    """A stream whose time-out passes before its first byte."""
    yield from ()
    raise errors.Unavailable("silent", reason=bodies.STREAM_TIMED_OUT)


def _pieces(body: bytes, cut: int | None) -> Iterator[bytes]:
    end = len(body) if cut is None else min(cut, len(body))
    for start in range(0, end, PIECE_BYTES):
        yield body[start : min(start + PIECE_BYTES, end)]
    if end < len(body):
        raise errors.Unavailable("cut", reason="APIServerAway")
