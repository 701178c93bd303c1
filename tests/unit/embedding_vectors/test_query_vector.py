"""The vector of a query, and the reason why there is none."""

import array
import asyncio
import json
from typing import Any

import pytest

from embedding_vectors.database.facts import TargetRow
from embedding_vectors.embedding_client import Embedded, EmbeddingRefusedError
from embedding_vectors.search.query_vector import NoVectorError, QueryEmbedder

TARGET = TargetRow(
    id="public.docs.embedding",
    index_uid="uid",
    index_name="shop/docs",
    model="small",
    dimensions=3,
    space="small@3",
    phase="Switched",
    column="embedding",
    table=None,
)


class Client:
    """Stands in for the sidecar's client."""

    def __init__(self, said: Embedded | Exception | None) -> None:
        self.said = said
        self.asked: list[Any] = []

    async def embed(self, texts, *, model, dimensions=None):
        self.asked.append((texts, model, dimensions))
        if self.said is None:
            await asyncio.Event().wait()
        if isinstance(self.said, Exception):
            raise self.said
        return self.said


def embed(said, target=TARGET):
    client = Client(said)
    embedder = QueryEmbedder(client, seconds=0.01)  # type: ignore[arg-type]
    return asyncio.run(embedder.embed("words", target=target)), client


def test_vector_is_one_that_was_answered_bit_for_bit():
    numbers = array.array("f", [0.1, -1.5e-20, 3.0])
    answer = Embedded(vectors=(numbers.tobytes(),), space="small@3", model="small")
    vector, client = embed(answer)
    assert (vector.dimensions, vector.space) == (3, "small@3")
    assert array.array("f", json.loads(vector.text)) == numbers
    assert client.asked == [(["words"], "small", None)]
    assert "0.1" not in repr(vector)


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (429, "insufficient_quota", "quota"),
        (429, "quota_reserved_for_applications", "quota"),
        (429, "rate_limit_exceeded", "provider"),
        (502, "all_providers_failed", "provider"),
        (503, "quota_store_unavailable", "provider"),
        (None, None, "provider"),
        (404, "model_not_found", "error"),
        (400, None, "error"),
    ],
)
def test_reason_is_of_closed_set(status, code, reason):
    with pytest.raises(NoVectorError) as none:
        embed(EmbeddingRefusedError("no", status=status, code=code))
    assert none.value.reason == reason


def test_sidecar_that_does_not_answer_is_not_waited_for():
    with pytest.raises(NoVectorError) as none:
        embed(None)
    assert none.value.reason == "provider"
