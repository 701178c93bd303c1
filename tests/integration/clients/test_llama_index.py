"""llama-index's OpenAI embedding, which reads OPENAI_API_BASE and nothing else."""

import asyncio

import pytest
from llama_index.embeddings.openai import OpenAIEmbedding

from embedding_contract import names
from tests.parts.vectors import MODEL, bits, made

pytestmark = pytest.mark.integration


def test_texts_come_back_in_order_with_models_own_bits(injected, stand_in, monkeypatch):
    monkeypatch.delenv(names.ENV_BASE_URL)
    embedding = OpenAIEmbedding(model=MODEL, embed_batch_size=2)
    texts = ["one", "two words", "one", "three"]
    assert [bits(row) for row in embedding.get_text_embedding_batch(texts)] == made(*texts)
    assert len(stand_in.calls) == 2
    assert [bits(embedding.get_query_embedding("one"))] == made("one")

    async def later():
        found = await embedding.aget_text_embedding_batch(texts)
        await embedding._get_aclient().close()
        return found

    assert [bits(row) for row in asyncio.run(later())] == made(*texts)
    assert len(stand_in.calls) == 2


def test_dimensions_are_kept(injected):
    embedding = OpenAIEmbedding(model=MODEL, dimensions=8)
    assert [bits(embedding.get_text_embedding("x"))] == made("x", dimensions=8)
