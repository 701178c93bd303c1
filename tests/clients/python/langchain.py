"""langchain-openai. By default it sends token arrays, by a vocabulary that it would download.

Here the vocabulary is one token for each byte, under the real one's name.
"""

import functools

import asked
import tiktoken
from langchain_openai import OpenAIEmbeddings

tiktoken.registry.ENCODINGS["cl100k_base"] = tiktoken.Encoding(
    "cl100k_base",
    pat_str=r"\S+|\s+",
    mergeable_ranks={bytes([byte]): byte for byte in range(256)},
    special_tokens={},
)


@functools.cache
def embeddings(model, dimensions, *, tokens):
    return OpenAIEmbeddings(model=model, dimensions=dimensions, check_embedding_ctx_length=tokens)


def embed(request, inputs):
    of_texts = embeddings(request["model"], request["dimensions"], tokens=False)
    if isinstance(inputs, str):
        return [of_texts.embed_query(inputs)]
    if isinstance(inputs[0], str):
        return of_texts.embed_documents(inputs)
    of_tokens = embeddings(request["model"], request["dimensions"], tokens=True)
    return of_tokens.embed_documents([bytes(tokens).decode() for tokens in inputs])


asked.answer(embed)
