"""OpenAI's SDK, as an injected application has it: it reads OPENAI_BASE_URL and OPENAI_API_KEY."""

import array
import base64

import asked
import openai

client = openai.OpenAI()


def embed(request, inputs):
    answer = client.embeddings.create(
        model=request["model"],
        input=inputs,
        dimensions=request["dimensions"] or openai.omit,
        encoding_format=request["format"] or openai.omit,
    )
    return [floats(row.embedding) for row in answer.data]


def floats(embedding):
    """Asked for base64 by name, the SDK hands it over as it is; asked for nothing, it decodes."""
    if isinstance(embedding, str):
        return array.array("f", base64.b64decode(embedding)).tolist()
    return embedding


asked.answer(embed)
