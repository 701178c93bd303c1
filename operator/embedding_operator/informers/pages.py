"""Lists in pages of bounded size.

A page beyond the bound is abandoned and requested again with half as many objects. A single object
beyond the bound is skipped: the continue token is found in the first or the last bytes of the
answer, and nothing between is stored.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

import msgspec

from embedding_operator import errors
from embedding_operator.informers.fifo_lock import FifoLock
from embedding_operator.informers.kept import Kept, Trim
from embedding_operator.kube import kinds
from embedding_operator.kube.bodies import Body

MOST_BYTES: Final = 2 * 1024**2
"""The bound for one object in a list, or a line of a watch. etcd accepts requests of up to 1.5 MiB
by default (--max-request-bytes), the most that a custom resource can have as JSON."""
MOST_OBJECTS: Final = 500
READ_SECONDS: Final = 10.0
"""The time-out of a read that holds `lock`: of a page, or a long line of a watch."""
_EDGE_BYTES: Final = 16_384
_PAGE_PART: Final = 4
"""A page of more than one object has at most this part of the bound of one."""
_SMALL_PART: Final = 4
"""After a page of less than this part of its bound, the next has twice the objects."""
_HEAD: Final = re.compile(
    rb'\{"kind":"\w+","apiVersion":"[\w./]+","metadata":(\{[^{}]*\}),"items":'
)
"""The begin of a list of a built-in kind: fields come in the order of the Go structure."""
_TAIL: Final = re.compile(rb'\],"kind":"\w+","metadata":(\{[^{}]*\})\}\s*\Z')
"""The end of a list of custom resources: fields come sorted by name."""
JSON: Final = "application/json"
METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A kind with selectors, to list and watch; `metadata_only` requests `metadata` alone.

    `called` is its name if another source has the same kind.
    """

    kind: kinds.Kind
    label_selector: str = ""
    field_selector: str = ""
    metadata_only: bool = False
    called: str = ""

    @property
    def name(self) -> str:
        """Its name, by default the plural of its kind."""
        return self.called or self.kind.plural

    def query(self, **more: str) -> list[tuple[str, str]]:
        """The non-empty parameters of a request."""
        given = {
            "labelSelector": self.label_selector,
            "fieldSelector": self.field_selector,
            **more,
        }
        return [(key, value) for key, value in given.items() if value]


Stream = Callable[..., AbstractContextManager[Body]]
"""KubeClient.stream."""


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


_LIST_META_DECODER: Final = msgspec.json.Decoder(_ListMeta)


class _List(msgspec.Struct):
    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None


_LIST_DECODER: Final = msgspec.json.Decoder(_List)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Trimmed objects; `skipped` others were too large or of another form."""

    version: str
    kept: Sequence[Kept] = ()
    skipped: int = 0


class Pages:
    """Lists of one source; all readers of large answers share `lock`."""

    def __init__(
        self,
        source: Source,
        trim: Trim,
        *,
        stream: Stream,
        lock: FifoLock,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._source = source
        self._trim = trim
        self._stream = stream
        self._lock = lock
        self._most_bytes = most_bytes
        self._limit = MOST_OBJECTS

    def version(self, namespace: str | None = None) -> str:
        """The present version of the collection."""
        for page in self.each(namespace, limit=1):
            return page.version
        raise AssertionError("a list has at least one page")

    def each(
        self,
        namespace: str | None = None,
        *,
        limit: int | None = None,
        moved: Callable[[], None] | None = None,
    ) -> Iterator[Page]:
        """All pages, of one namespace or of all; `moved` is called after each answer.

        Raises:
            errors.OperatorError: the list cannot be read to its end; reason Expired if the API
                server no longer keeps its version. The pages read are then void: an object may have
                been deleted meanwhile.
        """
        token = ""
        while True:
            asked = limit or self._limit
            with self._lock:
                found = self._page(namespace, limit=asked, token=token)
            if moved is not None:
                moved()
            if found is None:
                self._limit = max(1, asked // 2)
                continue
            page, token = found
            yield page
            if not token:
                return

    def _page(self, namespace: str | None, *, limit: int, token: str) -> tuple[Page, str] | None:
        """A page and the next continue token; None if the page is too large."""
        accept = METADATA_LIST if self._source.metadata_only else JSON
        query = self._source.query(limit=str(limit), **{"continue": token})
        most_bytes = self._most_bytes if limit == 1 else self._most_bytes // _PAGE_PART
        body, head, edge = bytearray(), b"", b""
        with self._stream(
            self._source.kind, namespace, query=query, accept=accept, read_seconds=READ_SECONDS
        ) as pieces:
            for piece in pieces:
                if edge:
                    edge = (edge + piece)[-_EDGE_BYTES:]
                elif len(body) + len(piece) <= most_bytes:
                    body += piece
                elif limit > 1:
                    return None
                else:
                    body += piece
                    head, edge = bytes(body[:_EDGE_BYTES]), bytes(body[-_EDGE_BYTES:])
                    body = bytearray()
        if edge:
            return self._skipped(head, edge)
        if len(body) * _SMALL_PART < self._most_bytes // _PAGE_PART and limit == self._limit:
            self._limit = min(MOST_OBJECTS, 2 * limit)
        try:
            found = _LIST_DECODER.decode(body)
        except msgspec.MsgspecError as error:
            raise self._unreadable() from error
        kept, skipped = [], 0
        for raw in found.items or ():
            try:
                kept.append(self._trim(raw))
            except msgspec.MsgspecError:
                skipped += 1
        meta = found.metadata
        page = Page(version=meta.resource_version, kept=kept, skipped=skipped)
        return page, meta.continue_

    def _skipped(self, head: bytes, tail: bytes) -> tuple[Page, str]:
        found = _HEAD.match(head) or _TAIL.search(tail)
        if found is None:
            raise self._unreadable()
        meta = _LIST_META_DECODER.decode(found[1])
        return Page(version=meta.resource_version, skipped=1), meta.continue_

    def _unreadable(self) -> errors.Unavailable:
        plural = self._source.kind.plural
        return errors.Unavailable(f"list {plural}: the answer cannot be read", reason="Unreadable")
