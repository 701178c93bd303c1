"""A search from its body to the body of its answer."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from embedding_contract.index_document import IndexDocument, Search
from embedding_vectors.database import failures
from embedding_vectors.database.facts import TargetRow
from embedding_vectors.errors import DatabaseError
from embedding_vectors.metrics import Metrics
from embedding_vectors.search import answers, requests, statements, targets
from embedding_vectors.search.answers import Found, Row
from embedding_vectors.search.columns import Columns, Table
from embedding_vectors.search.query_vector import NoVectorError, QueryEmbedder, QueryVector
from embedding_vectors.search.reading import Reader
from embedding_vectors.search.requests import Request
from embedding_vectors.search.statements import Statement
from embedding_vectors.search.targets import Targets
from embedding_vectors.serving.refusals import Refusal

WHOLE_SECONDS: Final = 9.0
"""The time for a whole search; the sidecar that forwards it waits 10 s."""
RETRY_SECONDS: Final = 1.0
LONG_RETRY_SECONDS: Final = 30.0
"""The Retry-After where a person has to change something first."""
FUSED_ROWS: Final = 50
"""The fewest rows of each ranking that a fusion looks at."""
_TIMEOUT: Final = "57014"
_AWAY: Final = ("08", "28", "3D", "53", "57")
"""Classes of SQLSTATE that do not depend on the statement: text would fail in the same way."""
_TOO_MUCH: Final = ("54", "XX")
"""Errors of websearch_to_tsquery: "stack depth limit exceeded", "tsquery stack too small"."""
_NO_CHARACTER: Final = frozenset({"22021", "22P05"})
"""The database's encoding has no such character."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A search under way: `until` is the moment, by the loop's clock, at which it must end."""

    document: IndexDocument
    search: Search
    table: Table
    request: Request
    until: float


class Searcher:
    """Searches one index over its database and this pod's sidecar."""

    def __init__(
        self,
        *,
        reader: Reader,
        columns: Columns,
        targets: Targets,
        embedder: QueryEmbedder,
        metrics: Metrics,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._reader = reader
        self._columns = columns
        self._targets = targets
        self._embedder = embedder
        self._metrics = metrics
        self._clock = clock

    async def search(self, document: IndexDocument, body: bytes) -> bytes:
        """The body of the answer.

        Raises:
            Refusal: the request is wrong (400), or cannot be answered now (503).
        """
        search = document.search
        if search is None:
            raise Refusal(
                f"The index {document.name} is not searched: its search is off.",
                status=404,
                param="index",
            )
        until = asyncio.get_running_loop().time() + WHOLE_SECONDS
        try:
            table = await self._columns.of(document)
            request = requests.parse(body, document=document, search=search, types=table.types)
            asked = _Asked(
                document=document,
                search=search,
                table=table,
                request=request,
                until=until,
            )
            found = await self._find(asked)
        except DatabaseError as error:
            self._forget()
            raise _unavailable(error) from None
        shown = statements.shown_columns(document, search)
        return answers.render(found, document=document, shown=shown)

    async def _find(self, asked: _Asked) -> Found:
        if asked.request.mode == "text":
            return await self._by_text(asked, reason=None)
        try:
            vector, target = await self._vector(asked)
            near = await self._by_vectors(asked, vector, target)
        except NoVectorError as error:
            found = await self._by_text(asked, reason=error.reason)
            self._metrics.fell_back(error.reason)
            return found
        if asked.request.mode == "hybrid":
            return await self._fused(asked, near, space=target.space)
        return _by_distance(near, space=target.space)

    async def _vector(self, asked: _Asked) -> tuple[QueryVector, TargetRow]:
        """The query's vector, and the target that holds vectors of its space."""
        try:
            known = await self._targets.of(asked.document)
        except DatabaseError as error:
            raise self._without_vectors(error) from None
        serving = targets.serving(known, document=asked.document)
        if serving is None:
            raise NoVectorError("no_vectors")
        vector = await self._embedder.embed(asked.request.query, target=serving)
        target = targets.of_space(known, vector.space)
        if target is None or target.dimensions != vector.dimensions:
            raise NoVectorError("space")
        return vector, target

    async def _by_vectors(
        self, asked: _Asked, vector: QueryVector, target: TargetRow
    ) -> Sequence[Row]:
        most = _depth(asked.request)
        statement = statements.by_vectors(
            asked.document,
            asked.search,
            target,
            asked.request,
            extension_schema=asked.table.extension_schema,
            vector=vector.text,
            most=most,
        )
        started = self._clock()
        try:
            rows = await self._read(statement, asked, ef_search=max(most, statements.MIN_EF_SEARCH))
        except DatabaseError as error:
            raise self._without_vectors(error) from None
        self._metrics.searched(self._clock() - started)
        return rows

    def _without_vectors(self, error: DatabaseError) -> NoVectorError | DatabaseError:
        """The error to raise: NoVectorError where text may still work, else the database's own."""
        state = error.problem.sqlstate
        if state == _TIMEOUT:
            return NoVectorError("timeout")
        if state is None or state in _NO_CHARACTER or state.startswith(_AWAY):
            return error
        self._forget()
        return NoVectorError("error")

    async def _by_text(self, asked: _Asked, *, reason: str | None) -> Found:
        rows = await self._words(asked, most=asked.request.k)
        return Found(
            mode="text", score_kind=answers.RANK, scored=answers.by_rank(rows), reason=reason
        )

    async def _fused(self, asked: _Asked, near: Sequence[Row], *, space: str) -> Found:
        try:
            worded = await self._words(asked, most=_depth(asked.request))
        except DatabaseError as error:
            if error.problem.reason != failures.TIMEOUT:
                raise
            # Half of the search, and the answer says so, is better than nothing.
            return _by_distance(near[: asked.request.k], space=space)
        scored = answers.fused(
            near, worded, keys=len(asked.document.key_columns), most=asked.request.k
        )
        return Found(mode="hybrid", score_kind=answers.FUSION, scored=scored, space=space)

    async def _words(self, asked: _Asked, *, most: int) -> list[Row]:
        """Rows by their words. Few rows have all words of a query that was not written for this.

        So rows with any of them follow, unless the caller chose this mode and its syntax.
        """
        try:
            rows = await self._matching(asked, most=most)
        except DatabaseError as error:
            if _state(error).startswith(_TOO_MUCH):
                raise Refusal(
                    "'query' is none that PostgreSQL's text search can read: it is too deep.",
                    param="query",
                ) from None
            raise
        if asked.request.mode == "text" or len(rows) >= most:
            return rows
        try:
            more = await self._matching(asked, most=most, any_word=True)
        except DatabaseError as error:
            is_late = error.problem.reason == failures.TIMEOUT
            if not is_late and not _state(error).startswith(_TOO_MUCH):
                raise
            return rows
        return answers.filled_up(rows, more, keys=len(asked.document.key_columns), most=most)

    async def _matching(self, asked: _Asked, *, most: int, any_word: bool = False) -> list[Row]:
        statement = statements.by_text(
            asked.document, asked.search, asked.request, most=most, any_word=any_word
        )
        return await self._read(statement, asked)

    async def _read(
        self,
        statement: Statement,
        asked: _Asked,
        *,
        ef_search: int = statements.MIN_EF_SEARCH,
    ) -> list[Row]:
        left = asked.until - asyncio.get_running_loop().time()
        allowed = asked.search.statement_timeout_milliseconds / 1_000
        seconds = min(allowed, left)
        if seconds <= 0:
            raise failures.timeout("the search took too long")
        return await self._reader.read(statement, seconds=seconds, ef_search=ef_search)

    def _forget(self) -> None:
        self._columns.forget()
        self._targets.forget()


def _state(error: DatabaseError) -> str:
    return error.problem.sqlstate or ""


def _by_distance(near: Sequence[Row], *, space: str) -> Found:
    return Found(
        mode="vector",
        score_kind=answers.COSINE,
        scored=answers.by_distance(near),
        space=space,
    )


def _depth(request: Request) -> int:
    """The rows of a ranking to look at: more than k where two rankings are fused."""
    if request.mode != "hybrid":
        return request.k
    return min(max(2 * request.k, FUSED_ROWS), requests.MAX_K)


def _unavailable(error: DatabaseError) -> Refusal:
    state = f" (SQLSTATE {error.problem.sqlstate})" if error.problem.sqlstate else ""
    if error.problem.sqlstate in _NO_CHARACTER:
        return Refusal(f"The database's encoding lacks a character of this request{state}.")
    return Refusal(
        f"The index cannot be searched now: {error.problem.message}{state}.",
        status=503,
        code="database_unavailable",
        retry_after_seconds=RETRY_SECONDS if error.retry_helps else LONG_RETRY_SECONDS,
    )
