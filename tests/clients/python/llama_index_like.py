"""llama-index's embedding for servers like OpenAI's."""

import functools
import os

import asked
from llama_index.embeddings.openai_like import OpenAILikeEmbedding


@functools.cache
def embedding(model, dimensions):
    return OpenAILikeEmbedding(
        model_name=model,
        api_base=os.environ["OPENAI_BASE_URL"],
        api_key=os.environ["OPENAI_API_KEY"],
        dimensions=dimensions,
        # By default it waits for Retry-After ten times, 120 s at most each, also for a spent day.
        max_retries=1,
    )


def embed(request, inputs):
    if isinstance(inputs, str):
        return [embedding(request["model"], request["dimensions"]).get_text_embedding(inputs)]
    return embedding(request["model"], request["dimensions"]).get_text_embedding_batch(inputs)


asked.answer(embed)
