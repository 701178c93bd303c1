"""LiteLLM's SDK, with its provider for OpenAI."""

import asked
import litellm


def embed(request, inputs):
    given = {"dimensions": request["dimensions"], "encoding_format": request["format"]}
    answer = litellm.embedding(
        model=f"openai/{request['model']}",
        input=inputs,
        **{name: value for name, value in given.items() if value is not None},
    )
    return [row["embedding"] for row in answer.data]


asked.answer(embed)
