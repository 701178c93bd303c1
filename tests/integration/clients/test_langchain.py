"""langchain-openai: texts as they are, and as the token arrays that it sends by default."""

import asyncio

import langchain_openai
import pytest
import tiktoken

from tests.parts.vectors import MODEL, bits, made

pytestmark = pytest.mark.integration


@pytest.fixture
def vocabulary(monkeypatch):
    """A small vocabulary under the real one's name, which would be downloaded."""
    ranks = {bytes([byte]): byte for byte in range(256)}
    ranks |= {pair: 256 + at for at, pair in enumerate([b"he", b"ll", b"hell", b"hello", b" w"])}
    made = tiktoken.Encoding(
        "cl100k_base", pat_str=r"\s?\w+|\s+", mergeable_ranks=ranks, special_tokens={}
    )
    monkeypatch.setitem(tiktoken.registry.ENCODINGS, "cl100k_base", made)
    return made


def test_texts_come_back_in_order_with_models_own_bits(injected):
    embeddings = langchain_openai.OpenAIEmbeddings(model=MODEL, check_embedding_ctx_length=False)
    texts = ["hello", "two words", "hello"]
    assert [bits(row) for row in embeddings.embed_documents(texts)] == made(*texts)
    assert [bits(embeddings.embed_query("hello"))] == made("hello")

    async def later():
        found = await embeddings.aembed_documents(texts)
        await embeddings.async_client._client.close()
        return found

    assert [bits(row) for row in asyncio.run(later())] == made(*texts)


def test_token_arrays_are_items_like_texts(injected, stand_in, vocabulary):
    embeddings = langchain_openai.OpenAIEmbeddings(model=MODEL)
    texts = ["hello", "hello world", "hello"]
    tokens = [vocabulary.encode(text) for text in texts]
    assert [bits(row) for row in embeddings.embed_documents(texts)] == made(*tokens)
    # Duplicates inside the batch are bought once.
    assert [call.body["input"] for call in stand_in.calls] == [tokens[:2]]
    assert [bits(embeddings.embed_query("hello"))] == made(tokens[0])
    assert len(stand_in.calls) == 1


def test_long_text_is_cut_by_client_and_its_parts_are_items(injected, stand_in, vocabulary):
    embeddings = langchain_openai.OpenAIEmbeddings(model=MODEL, embedding_ctx_length=4)
    tokens = vocabulary.encode("abcdefghij")
    assert len(embeddings.embed_query("abcdefghij")) == 16
    assert stand_in.calls[-1].body["input"] == [tokens[:4], tokens[4:8], tokens[8:]]
