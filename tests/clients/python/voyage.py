"""Voyage's SDK, in front of a policy whose provider is Voyage."""

import os

import asked
import voyageai

client = voyageai.Client(
    api_key=os.environ["OPENAI_API_KEY"], base_url=os.environ["OPENAI_BASE_URL"]
)


def embed(request, inputs):
    texts = [inputs] if isinstance(inputs, str) else inputs
    answer = client.embed(
        texts, model=request["model"], input_type="document", output_dimension=request["dimensions"]
    )
    return answer.embeddings


def show(error):
    body = getattr(error, "json_body", None) or {}
    return {
        "type": type(error).__name__,
        "status": getattr(error, "http_status", None),
        "code": body.get("error", {}).get("code"),
        "message": str(error),
    }


asked.answer(embed, show)
