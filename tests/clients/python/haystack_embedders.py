"""Haystack's embedders of texts and of documents, as components outside a pipeline."""

import functools
import os

import asked
from haystack import Document
from haystack.components.embedders import OpenAIDocumentEmbedder, OpenAITextEmbedder

URL = os.environ["OPENAI_BASE_URL"]


@functools.cache
def of_texts(model, dimensions):
    return OpenAITextEmbedder(model=model, dimensions=dimensions, api_base_url=URL)


@functools.cache
def of_documents(model, dimensions):
    return OpenAIDocumentEmbedder(
        model=model, dimensions=dimensions, api_base_url=URL, progress_bar=False
    )


def embed(request, inputs):
    if isinstance(inputs, str):
        return [of_texts(request["model"], request["dimensions"]).run(inputs)["embedding"]]
    documents = [Document(content=text) for text in inputs]
    found = of_documents(request["model"], request["dimensions"]).run(documents)["documents"]
    return [document.embedding for document in found]


asked.answer(embed)
