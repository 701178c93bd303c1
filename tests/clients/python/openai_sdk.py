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
    if request["format"] == "base64":
        # Asked for by name, it comes as it is; by itself the SDK asks for it, too, and decodes it.
        return [decoded(row.embedding) for row in answer.data]
    return [row.embedding for row in answer.data]


def decoded(text):
    return array.array("f", base64.b64decode(text)).tolist()


asked.answer(embed)
