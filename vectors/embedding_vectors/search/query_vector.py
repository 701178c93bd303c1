"""The vector of a query from this pod's sidecar, in a time that leaves some for text."""

import array
import asyncio
import sys
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import orjson

from embedding_vectors.database.facts import TargetRow
from embedding_vectors.embedding_client import Embedded, EmbeddingClient, EmbeddingRefusedError

EMBED_SECONDS: Final = 2.0
_PROVIDERS: Final = 500
"""The lowest status that is not the request's own fault (RFC 9110, section 15.6)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryVector:
    """A vector as pgvector reads it, `[1,2]`, with its size and its space."""

    text: str = field(repr=False)
    dimensions: int
    space: str


class NoVectorError(Exception):
    """There is no vector; `reason` is one of the closed set of fallbacks."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class QueryEmbedder:
    """Asks one sidecar."""

    def __init__(self, client: EmbeddingClient, *, seconds: float = EMBED_SECONDS) -> None:
        self._client = client
        self._seconds = seconds

    async def embed(self, query: str, *, target: TargetRow) -> QueryVector:
        """The query's vector by the target's model.

        Raises:
            NoVectorError: there is none in time.
        """
        dimensions = target.dimensions if target.request_dimensions else None
        try:
            async with asyncio.timeout(self._seconds):
                embedded = await self._client.embed(
                    [query], model=target.model, dimensions=dimensions
                )
        except TimeoutError:
            raise NoVectorError("provider") from None
        except EmbeddingRefusedError as error:
            raise NoVectorError(_reason(error)) from None
        return _vector(embedded)


def _reason(error: EmbeddingRefusedError) -> str:
    if error.is_quota:
        return "quota"
    status = error.status
    if status is None or status >= _PROVIDERS or status == HTTPStatus.TOO_MANY_REQUESTS:
        return "provider"
    return "error"


def _vector(embedded: Embedded) -> QueryVector:
    numbers = array.array("f", embedded.vectors[0])
    if sys.byteorder == "big":
        numbers.byteswap()
    # A float32 is exact as a double, and this is the shortest text that parses to that double.
    text = orjson.dumps(numbers.tolist()).decode()
    return QueryVector(text=text, dimensions=len(numbers), space=embedded.space)
