"""Vendors whose wire differs from OpenAI's in more than names: from the vendor's side.

A request is read as OpenAI's would be, and an answer in OpenAI's form is written in the vendor's:
so the stand-in's vectors, and its faults, are the same for all. Forms and names are those of the
references that sidecar/embedding_sidecar/providers names.
"""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

Answer = tuple[int, dict[str, str], Any]
Asked = dict[str, Any]

SIDES = {
    "search_query": "query",
    "search_document": "document",
    "RETRIEVAL_QUERY": "query",
    "RETRIEVAL_DOCUMENT": "document",
    "retrieval.query": "query",
    "retrieval.passage": "document",
}


class Native(dict[str, Any]):
    """A body that is in the vendor's form already."""


class BadRequestError(Exception):
    """A request that the vendor refuses, with its status."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, kw_only=True)
class Wire:
    """A vendor: its requests read, its answers and errors written, its key found.

    `most` is the number of texts that it takes. A request that is read has in `cuts` whether too
    long a text would be cut.
    """

    most: int
    read: Callable[[str, dict[str, Any]], Asked]
    write: Callable[[Asked, dict[str, Any]], Answer]
    error: Callable[[int, str], Answer]
    key: Callable[[Mapping[str, str]], str]


def of_path(path: str) -> Wire | None:
    """The vendor that stands there; None for OpenAI's form."""
    return WIRES.get(path.split("/")[1])


def _bearer(headers: Mapping[str, str]) -> str:
    return headers.get("authorization", "").partition(" ")[2]


def _known(body: Mapping[str, Any], *names: str, status: int = 400) -> None:
    unknown = sorted(body.keys() - set(names))
    if unknown:
        raise BadRequestError(f"{unknown[0]}: extra fields are not permitted", status=status)


def _asked(model: str, items: Any, *, side: str | None = None, **more: Any) -> Asked:
    if not items:
        raise BadRequestError("texts must not be empty")
    texts = [items] if isinstance(items, str) else items
    if not all(isinstance(it, str) for it in texts):
        raise BadRequestError("texts must be texts")
    asked = {"model": model, "input": texts, "input_type": None if side is None else SIDES[side]}
    return {**asked, **{name: it for name, it in more.items() if it is not None}}


def _floats(raw: object) -> object:
    if not isinstance(raw, str):
        return raw
    return list(memoryview(base64.b64decode(raw)).cast("f"))


def _encoded(answer: Mapping[str, Any]) -> list[Any]:
    return [entry["embedding"] for entry in answer["data"]]


def _tokens(answer: Mapping[str, Any]) -> int:
    tokens: int = answer["usage"]["total_tokens"]
    return tokens


# --- Gemini


def _read_gemini(path: str, body: dict[str, Any]) -> Asked:
    _known(body, "requests")
    model = path.rpartition("/models/")[2].removesuffix(":batchEmbedContents")
    entries = body["requests"]
    for entry in entries:
        _known(entry, "model", "content", "taskType", "title", "outputDimensionality")
        if entry["model"] != f"models/{model}" or len(entry["content"]["parts"]) != 1:
            raise BadRequestError("model must be that of the URL")
    first = entries[0] if entries else {}
    return _asked(
        model,
        [entry["content"]["parts"][0]["text"] for entry in entries],
        side=first.get("taskType"),
        dimensions=first.get("outputDimensionality"),
        cuts=True,
    )


def _write_gemini(asked: Asked, answer: dict[str, Any]) -> Answer:
    del asked
    values = [{"values": _floats(it)} for it in _encoded(answer)]
    usage = {"promptTokenCount": _tokens(answer)}
    return 200, {}, {"embeddings": values, "usageMetadata": usage}


def _error_gemini(status: int, message: str) -> Answer:
    error: dict[str, Any] = {"code": status, "message": message, "status": "INVALID_ARGUMENT"}
    if status == 401:
        # A key that is not valid is a 400.
        status, error["code"] = 400, 400
        kind = "type.googleapis.com/google.rpc.ErrorInfo"
        error["details"] = [{"@type": kind, "reason": "API_KEY_INVALID"}]
    return status, {}, {"error": error}


# --- Cohere


def _read_cohere(path: str, body: dict[str, Any]) -> Asked:
    del path
    _known(body, "model", "texts", "input_type", "embedding_types", "output_dimension", "truncate")
    return _asked(
        body["model"],
        body["texts"],
        side=body["input_type"],
        dimensions=body.get("output_dimension"),
        encoding_format="base64" if body["embedding_types"] == ["base64"] else None,
        cuts=body.get("truncate", "END") != "NONE",
    )


def _write_cohere(asked: Asked, answer: dict[str, Any]) -> Answer:
    kind = "base64" if asked.get("encoding_format") else "float"
    return (
        200,
        {},
        {
            "id": "0",
            "response_type": "embeddings_by_type",
            "texts": asked["input"],
            "embeddings": {kind: _encoded(answer)},
            "meta": {"billed_units": {"input_tokens": _tokens(answer)}},
        },
    )


def _error_cohere(status: int, message: str) -> Answer:
    return status, {}, {"id": "0", "message": message}


# --- Mistral


def _read_mistral(path: str, body: dict[str, Any]) -> Asked:
    del path
    names = ("model", "input", "encoding_format", "output_dimension", "output_dtype", "metadata")
    _known(body, *names, status=422)
    return _asked(
        body["model"],
        body["input"],
        dimensions=body.get("output_dimension"),
        encoding_format=body.get("encoding_format"),
        cuts=False,
    )


def _as_it_is(asked: Asked, answer: dict[str, Any]) -> Answer:
    del asked
    return 200, {}, answer


def _error_mistral(status: int, message: str) -> Answer:
    if status == 401:
        return 401, {}, {"detail": message}
    body = {"object": "error", "message": message, "type": "invalid_request_error", "code": None}
    return status, {}, body


# --- Jina


def _read_jina(path: str, body: dict[str, Any]) -> Asked:
    del path
    _known(body, "model", "input", "embedding_type", "task", "dimensions", "truncate")
    return _asked(
        body["model"],
        body["input"],
        side=body.get("task"),
        dimensions=body.get("dimensions"),
        encoding_format=body.get("embedding_type"),
        cuts=body.get("truncate", False),
    )


def _error_jina(status: int, message: str) -> Answer:
    return status, {}, {"detail": message}


# --- Bedrock


def _read_bedrock(path: str, body: dict[str, Any]) -> Asked:
    model = unquote(path.rpartition("/model/")[2].removesuffix("/invoke"))
    if "amazon.titan" in model:
        _known(body, "inputText", "dimensions", "normalize", "embeddingTypes")
        items: Any = body["inputText"]
        if not isinstance(items, str):
            raise BadRequestError("expected type: String, found: JSONArray")
        side, dimensions, cuts = None, body.get("dimensions"), False
    else:
        _known(body, "texts", "input_type", "truncate", "embedding_types", "output_dimension")
        items, side, dimensions = body["texts"], body["input_type"], body.get("output_dimension")
        cuts = body.get("truncate", "NONE") != "NONE"
    return _asked(model, items, side=side, dimensions=dimensions, cuts=cuts)


def _write_bedrock(asked: Asked, answer: dict[str, Any]) -> Answer:
    vectors = [_floats(it) for it in _encoded(answer)]
    tokens = _tokens(answer)
    if "amazon.titan" in asked["model"]:
        return 200, {}, {"embedding": vectors[0], "inputTextTokenCount": tokens}
    body = {"id": "0", "texts": asked["input"], "embeddings": {"float": vectors}}
    headers = {"x-amzn-bedrock-input-token-count": str(tokens)}
    return 200, headers, {**body, "response_type": "embeddings_by_type"}


_TYPES = {
    400: "ValidationException",
    403: "UnrecognizedClientException",
    404: "ResourceNotFoundException",
    429: "ThrottlingException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
}


def _error_bedrock(status: int, message: str) -> Answer:
    status = 403 if status == 401 else status
    kind = _TYPES.get(status)
    headers = {"x-amzn-errortype": f"{kind}:http://internal.amazon.com/"} if kind else {}
    return status, headers, {"message": message}


def _key_of_bedrock(headers: Mapping[str, str]) -> str:
    """A bearer, or the ID of an access key that signed: the stand-in has no secret to compare."""
    said = headers.get("authorization", "")
    if said.startswith("AWS4-HMAC-SHA256 Credential="):
        return said.partition("=")[2].partition("/")[0]
    return said.partition(" ")[2]


WIRES = {
    "gemini": Wire(
        most=100,
        read=_read_gemini,
        write=_write_gemini,
        error=_error_gemini,
        key=lambda headers: headers.get("x-goog-api-key", ""),
    ),
    "cohere": Wire(
        most=96, read=_read_cohere, write=_write_cohere, error=_error_cohere, key=_bearer
    ),
    "mistral": Wire(
        most=256, read=_read_mistral, write=_as_it_is, error=_error_mistral, key=_bearer
    ),
    "jina": Wire(most=2048, read=_read_jina, write=_as_it_is, error=_error_jina, key=_bearer),
    "bedrock": Wire(
        most=96, read=_read_bedrock, write=_write_bedrock, error=_error_bedrock, key=_key_of_bedrock
    ),
}


def texts(path: str, body: bytes) -> list[str]:
    """The texts of a request to the vendor at this path."""
    wire = of_path(path)
    asked = json.loads(body)
    return list(asked["input"] if wire is None else wire.read(path, asked)["input"])


def told(wire: Wire, asked: Asked, answer: Answer) -> Answer:
    """An answer in OpenAI's form, in the vendor's."""
    status, headers, body = answer
    if isinstance(body, bytes | Native):
        return answer
    if status != 200:
        code, own, written = wire.error(status, body["error"]["message"])
        return code, {**headers, **own}, written
    _, own, written = wire.write(asked, body)
    return status, {**headers, **own}, written
