"""A provider that stands in for all types: their wire, vectors out of the text's hash.

In a test's own process it is asked as an Upstream or served by `app`; as a program of its own it
writes down each call before it answers, so that its log outlives whoever asked:

    python -m tests.fakes.provider --port 9000 --log calls.jsonl
"""

import argparse
import array
import asyncio
import base64
import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from embedding_contract import provider_terms
from embedding_sidecar import errors
from embedding_sidecar.translation import provider_api
from tests.fakes import vendors
from tests.parts.upstreams import Starts

PATHS = {
    "OpenAI": "v1",
    "OpenAICompatible": "extended/v1",
    "Voyage": "voyage/v1",
    "AzureOpenAI": "azure/openai/v1",
    "Gemini": "gemini/v1beta",
    "Cohere": "cohere/v2",
    "Mistral": "mistral/v1",
    "Jina": "jina/v1",
    "Bedrock": "bedrock",
}
"""Where each type of provider stands, for every test of what all of them do."""
TEXTS_ONLY = frozenset({"Voyage", "Gemini", "Cohere", "Mistral", "Jina", "Bedrock"})
"""The types that take no token arrays."""
WITHOUT_INPUT_TYPE = frozenset({"OpenAI", "AzureOpenAI", "Mistral"})
"""The types that make no difference between queries and documents."""
WITH_SIDES_ONLY = frozenset({"Cohere", "Bedrock"})
"""The types that must be told one of both: documents, where the caller says nothing."""
WITHOUT_TRUNCATION = frozenset({"Gemini"})
"""The types that cannot be told to refuse too long a text."""


def model(kind: str) -> str:
    """A model of this type: Bedrock's name says the form of a body."""
    return "cohere.embed-v4:0" if kind == "Bedrock" else "m"


def side(kind: str, input_type: str | None) -> str | None:
    """The side of a search that a provider of this type is told."""
    if kind in WITHOUT_INPUT_TYPE:
        return None
    return input_type or ("document" if kind in WITH_SIDES_ONLY else None)


def terms(kind: str, model: str = "m") -> dict[str, Any]:
    """The fields that a document's provider of this type needs besides."""
    if kind == "Bedrock":
        return {"region": "eu-central-1"}
    azure = provider_terms.Azure(deployment=model)
    return {"azure": azure} if kind == "AzureOpenAI" else {}


KEY = "sk-stand-in"
DIMENSIONS = 16
OPENAI_KEYS = {"input", "model", "encoding_format", "dimensions", "user"}
EXTENDED_KEYS = OPENAI_KEYS | {"input_type", "truncation"}
VOYAGE_KEYS = {
    "input",
    "model",
    "encoding_format",
    "output_dimension",
    "output_dtype",
    "input_type",
    "truncation",
}

Answer = tuple[int, dict[str, str], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request as the provider saw it."""

    path: str
    key: str | None
    body: dict[str, Any]
    traceparent: str | None = None


def lines(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers as a client hands over what came."""
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def numbers(
    model: str, item: object, dimensions: int, input_type: str | None = None
) -> list[float]:
    """The vector of an item: numbers of -1 to 1 that float32 holds exactly."""
    seed = json.dumps([model, item, input_type]).encode()
    raw = b"".join(
        hashlib.sha256(seed + block.to_bytes(4, "big")).digest()
        for block in range(dimensions // 16 + 1)
    )
    return [
        (int.from_bytes(raw[2 * at : 2 * at + 2], "big") - 2**15) / 2**15
        for at in range(dimensions)
    ]


def vector(model: str, item: object, dimensions: int = DIMENSIONS, input_type=None) -> bytes:
    """The same as little-endian float32."""
    values = array.array("f", numbers(model, item, dimensions, input_type))
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def tokens(item: str | list[int]) -> int:
    """What an item costs: a word is a token."""
    return len(item.split()) or 1 if isinstance(item, str) else len(item)


class Played(Starts):
    """A server that is asked without a network: `answer` says what it answers, or a `fault`."""

    delay_seconds: float
    fault: object

    def answer(self, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """The subclass's."""
        raise NotImplementedError

    async def send(
        self, request: provider_api.HttpRequest, *, within_seconds: float
    ) -> provider_api.HttpAnswer:
        """As an Upstream, without a network."""
        path = "/" + request.url.split("/", 3)[3]
        status, headers, body = self.answer(path, request.headers, request.body)
        await asyncio.sleep(min(self.delay_seconds, within_seconds))
        if self.delay_seconds > within_seconds:
            raise errors.Unreachable("timeout", billed=True)
        if isinstance(self.fault, errors.Unreachable):
            raise self.fault
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return provider_api.HttpAnswer(status=status, lines=lines(headers), body=raw)


@dataclass
class StandIn(Played):
    """The provider. A fault answers instead of it; each is counted in `calls` all the same.

    Requests of fewer texts than `delay_from_texts` are answered over HTTP without a delay.
    """

    key: str | None = KEY
    fault: Callable[[Answer], Answer] | errors.Unreachable | None = None
    calls: list[Call] = field(default_factory=list)
    log: Path | None = None
    delay_seconds: float = 0.0
    delay_from_texts: int = 1

    def answer(self, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Status, headers and JSON."""
        asked = json.loads(body)
        wire = vendors.of_path(path)
        if wire is not None:
            return self._answer_as(wire, path, headers, asked)
        _, _, key = headers.get("authorization", "").partition(" ")
        if path.startswith("/azure/"):
            key = key or headers.get("api-key", "")
            if "/deployments/" in path:
                asked = {"model": path.partition("/deployments/")[2].split("/")[0], **asked}
        self._record(path, key, headers, asked)
        is_voyage = path.startswith("/voyage/")
        if self.key is not None and key != self.key:
            return _error(401, f"Incorrect API key provided: {key[:3]}***.", is_voyage=is_voyage)
        made = _voyage(asked) if is_voyage else _openai(asked, extended="/extended/" in path)
        return self.fault(made) if callable(self.fault) else made

    def _answer_as(
        self, wire: vendors.Wire, path: str, headers: Mapping[str, str], body: dict[str, Any]
    ) -> Answer:
        """As a vendor with a wire of its own; a fault changes the answer before it is written."""
        try:
            asked = wire.read(path, body)
        except vendors.BadRequestError as refused:
            return wire.error(refused.status, str(refused))
        key = wire.key(headers)
        self._record(path, key, headers, asked)
        if self.key is not None and key != self.key:
            return wire.error(401, f"Incorrect API key provided: {key[:3]}***.")
        if len(asked["input"]) > wire.most:
            return wire.error(400, f"at most {wire.most} texts")
        if "too long" in asked["input"] and not asked["cuts"]:
            return wire.error(400, "the text is too long")
        dimensions = asked.get("dimensions") or DIMENSIONS
        made = vectors(asked, asked["input"], dimensions=dimensions, default="float")
        return vendors.told(wire, asked, self.fault(made) if callable(self.fault) else made)

    def _record(
        self, path: str, key: str, headers: Mapping[str, str], asked: dict[str, Any]
    ) -> None:
        traceparent = headers.get("traceparent")
        self.calls.append(Call(path=path, key=key or None, body=asked, traceparent=traceparent))
        if self.log is not None:
            with self.log.open("a", encoding="utf-8") as log:
                log.write(json.dumps({"path": path, "items": len(asked["input"])}) + "\n")

    async def serve(self, request: Request) -> Response:
        """As an HTTP server."""
        status, headers, body = self.answer(request.url.path, request.headers, await request.body())
        if len(self.calls[-1].body["input"]) >= self.delay_from_texts:
            await asyncio.sleep(self.delay_seconds)
        if isinstance(body, bytes):
            return Response(body, status, headers)
        return JSONResponse(body, status, headers)

    def app(self) -> Starlette:
        """Each type of provider at its path of PATHS."""
        paths = [f"/{path}/embeddings" for path in PATHS.values()]
        paths.append("/azure/openai/deployments/{deployment}/embeddings")
        paths += [f"/{vendor}/{{rest:path}}" for vendor in vendors.WIRES]
        return Starlette(routes=[Route(path, self.serve, methods=["POST"]) for path in paths])


def status(code: int, headers: Mapping[str, str] | None = None) -> Callable[[Answer], Answer]:
    """A fault: this status, in OpenAI's form."""
    return lambda _: (code, dict(headers or {}), _error(code, "no", is_voyage=False)[2])


def raw(body: bytes) -> Callable[[Answer], Answer]:
    """A fault: 200 and this."""
    return lambda _: (200, {}, body)


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[Answer], Answer]:
    """A fault: the right answer, changed."""

    def fault(answer: Answer) -> Answer:
        change(answer[2])
        return answer

    return fault


def _openai(asked: dict[str, Any], *, extended: bool) -> Answer:
    unknown = sorted(asked.keys() - (EXTENDED_KEYS if extended else OPENAI_KEYS))
    if unknown:
        return _error(400, f"Unrecognized argument: {unknown[0]}", param=unknown[0])
    items = asked["input"]
    if not items:
        return _error(400, "'input' must not be empty", param="input")
    if isinstance(items, str) or isinstance(items[0], int):
        items = [items]
    if "too long" in items:
        return _error(400, "maximum context length is 8192 tokens", param="input")
    return vectors(asked, items, dimensions=asked.get("dimensions") or DIMENSIONS, default="float")


def _voyage(asked: dict[str, Any]) -> Answer:
    unknown = sorted(asked.keys() - VOYAGE_KEYS)
    if unknown:
        return _error(400, f"Argument '{unknown[0]}' is not supported by our API", is_voyage=True)
    items = [asked["input"]] if isinstance(asked["input"], str) else asked["input"]
    if not items:
        return _error(400, "Input cannot be an empty list.", is_voyage=True)
    if len(items) > 1000:
        return _error(400, "The batch size limit is 1000.", is_voyage=True)
    if not all(isinstance(item, str) for item in items):
        return _error(400, "Input must be texts.", is_voyage=True)
    if "too long" in items and asked.get("truncation", True) is False:
        return _error(400, "The example is too long.", is_voyage=True)
    dimensions = asked.get("output_dimension") or DIMENSIONS
    status, headers, body = vectors(asked, items, dimensions=dimensions, default=None)
    del body["usage"]["prompt_tokens"]
    return status, headers, body


def vectors(asked: dict[str, Any], items: list, *, dimensions: int, default: str | None) -> Answer:
    def encoded(item: object) -> object:
        made = vector(asked["model"], item, dimensions, asked.get("input_type"))
        if asked.get("encoding_format", default) == "base64":
            return base64.b64encode(made).decode()
        return numbers(asked["model"], item, dimensions, asked.get("input_type"))

    total = sum(tokens(item) for item in items)
    body = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": encoded(item)}
            for index, item in enumerate(items)
        ],
        "model": asked["model"],
        "usage": {"prompt_tokens": total, "total_tokens": total},
    }
    return 200, {}, body


def _error(code: int, message: str, *, param: str | None = None, is_voyage: bool = False) -> Answer:
    if is_voyage:
        return code, {}, {"detail": message}
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": None}
    return code, {}, {"error": error}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--delay-seconds", type=float, default=0.0)
    given = parser.parse_args()
    stand_in = StandIn(log=given.log, delay_seconds=given.delay_seconds)
    uvicorn.run(stand_in.app(), host="127.0.0.1", port=given.port, log_level="warning")


if __name__ == "__main__":
    main()
