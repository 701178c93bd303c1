"""Servers that answer as their published references say: tests/exchanges/NAME.yaml, and its player.

A file has the server's exchanges, each with the URL of the reference and the day it was looked up,
and cases: what a caller of the sidecar sends, and what it is told. A request is answered by the
first exchange whose `when` it meets; all conditions of one must hold:

    items_over: 32         more texts than that
    characters_over: 512   a text longer than that
    text: busy             a text that is this
    field: dimensions      a field that is sent, or of a value: {encoding_format: base64}
    without: input_type    a field that is not sent
    other_key: true        another key than the file's
    other_model: true      another model than the file's
    tokens: true           an item that is no text

A file with `azure` is of type AzureOpenAI: its deployment runs the file's model, and is called at
`path` with the key in the header api-key. A file with `type` is of that type, whose wire
tests/fakes/vendors.py plays: conditions are of what it read, and `vectors` names what is left out
of a success as `drop`.

An answer has a `body`, in which $items and $model stand for what was asked (text where it is no
JSON), or `vectors`: the form of a success. `index` is `always`, `never`, `null` or `not 0`;
`encodings` are those that are heeded; `usage` and what else stands beside `data` are as written,
$tokens for their number.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any

import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from embedding_contract import provider_terms
from tests.fakes import provider, vendors

FOLDER = Path(__file__).parents[1] / "exchanges"
DIMENSIONS = 8


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """What a server answers to some requests, after its reference."""

    name: str
    source: str
    seen: str
    status: int
    when: Mapping[str, Any]
    headers: Mapping[str, str]
    body: Any
    vectors: Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class Case:
    """A request to the sidecar, under a policy, and what its caller is told."""

    name: str
    policy: Mapping[str, Any]
    send: Mapping[str, Any]
    told: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Server:
    """A file: `base_url` is the published one, `host` whether it must be called by that name."""

    file: str
    name: str
    version: str
    base_url: str
    by_name: bool
    model: str
    key: str | None
    path: str
    azure: provider_terms.Azure | None
    kind: str | None
    """A type with a wire of its own."""
    exchanges: tuple[Exchange, ...]
    cases: tuple[Case, ...]


def servers() -> list[Server]:
    """All of them, by the name of the file."""
    return [_read(file) for file in sorted(FOLDER.glob("*.yaml"))]


def _read(file: Path) -> Server:
    raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    return Server(
        file=file.stem,
        name=raw["server"],
        version=str(raw["version"]),
        base_url=raw["base_url"],
        by_name=raw.get("by_name", False),
        model=raw["model"],
        key=raw.get("key"),
        path=raw.get("path", "/" + raw["base_url"].split("/", 3)[-1] + "/embeddings"),
        azure=provider_terms.Azure(**raw["azure"]) if "azure" in raw else None,
        kind=raw.get("type"),
        exchanges=tuple(
            Exchange(
                name=it["name"],
                source=it["source"],
                seen=str(it["seen"]),
                status=it["status"],
                when=it.get("when", {}),
                headers=it.get("headers", {}),
                body=it.get("body"),
                vectors=it.get("vectors"),
            )
            for it in raw["exchanges"]
        ),
        cases=tuple(
            Case(
                name=it["name"],
                policy=it.get("policy", {}),
                send=it["send"],
                told=it["told"],
            )
            for it in raw["cases"]
        ),
    )


@dataclass
class Player:
    """A server at a socket; `calls` are the numbers of items of each request, `played` its answers.

    One that is called by its published name takes the place of an HTTP proxy.
    """

    server: Server
    calls: list[int] = field(default_factory=list)
    played: list[str] = field(default_factory=list)

    def app(self) -> Starlette:
        """Answers at the server's path, by the file; elsewhere 404."""
        if self.server.kind is not None:
            routes = [Route("/{rest:path}", self._answer_as_vendor, methods=["POST"])]
            return Starlette(routes=routes)
        return Starlette(routes=[Route(self.server.path, self._answer, methods=["POST"])])

    async def _answer_as_vendor(self, request: Request) -> Response:
        assert self.server.kind is not None
        wire = vendors.WIRES[self.server.kind.lower()]
        asked = wire.read(request.url.path, json.loads(await request.body()))
        key = wire.key(request.headers).partition(":")[0] or None
        self.calls.append(len(asked["input"]))
        wanted = self.server.key and self.server.key.partition(":")[0]
        found = next(
            it
            for it in self.server.exchanges
            if self._meets(it.when, asked, items=asked["input"], key=key, wanted=wanted)
        )
        self.played.append(found.name)
        headers, body = dict(found.headers), found.body
        if found.vectors is not None:
            _, _, plain = provider.vectors(
                # What the file's other players make knows no sides.
                {**asked, "input_type": None},
                asked["input"],
                dimensions=asked.get("dimensions", DIMENSIONS),
                default="float",
            )
            _, own, body = wire.write(asked, plain)
            headers |= own
            for name in found.vectors.get("drop", ()):
                body.pop(name, None)
                headers.pop(name, None)
        filled = _filled(body, items=str(len(asked["input"])), model=str(asked["model"]))
        return Response(json.dumps(filled), found.status, headers, "application/json")

    async def _answer(self, request: Request) -> Response:
        asked = json.loads(await request.body())
        items = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
        key = request.headers.get("authorization", "").removeprefix("Bearer ") or None
        if self.server.azure is not None:
            key = request.headers.get("api-key")
            called = request.path_params.get("deployment") or asked["model"]
            is_there = called == self.server.azure.deployment
            asked["model"] = self.server.model if is_there else called
        self.calls.append(len(items))
        found = next(
            it for it in self.server.exchanges if self._meets(it.when, asked, items=items, key=key)
        )
        self.played.append(found.name)
        if found.vectors is None:
            body = _filled(found.body, items=str(len(items)), model=str(asked["model"]))
        else:
            body = _success(found.vectors, asked, items)
        raw = "" if body is None else body if isinstance(body, str) else json.dumps(body)
        headers = {"content-type": "application/json", **found.headers}
        return Response(raw, found.status, headers)

    def _meets(
        self,
        when: Mapping[str, Any],
        asked: Mapping[str, Any],
        *,
        items: list,
        key: str | None,
        wanted: str | None = None,
    ) -> bool:
        wanted = wanted or self.server.key
        checks = {
            "items_over": lambda most: len(items) > most,
            "characters_over": lambda most: any(len(it) > most for it in items),
            "text": lambda text: text in items,
            "field": lambda wanted: (
                wanted.items() <= asked.items() if isinstance(wanted, dict) else wanted in asked
            ),
            "without": lambda name: name not in asked,
            "other_key": lambda other: (key != wanted) is other,
            "other_model": lambda other: (asked["model"] != self.server.model) is other,
            "tokens": lambda tokens: any(not isinstance(it, str) for it in items) is tokens,
        }
        return all(checks[name](value) for name, value in when.items())


def vector(model: str, item: object, *, dimensions: int = DIMENSIONS) -> str:
    """The vector of an item at every player, in base64."""
    return base64.b64encode(provider.vector(model, item, dimensions)).decode()


def _success(form: Mapping[str, Any], asked: Mapping[str, Any], items: list) -> dict[str, Any]:
    encoding = asked.get("encoding_format", "float")
    dimensions = asked.get("dimensions", DIMENSIONS) if form.get("heeds_dimensions") else DIMENSIONS
    data = []
    for index, item in enumerate(items):
        made: object = provider.numbers(asked["model"], item, dimensions)
        if encoding == "base64" and "base64" in form["encodings"]:
            made = vector(asked["model"], item, dimensions=dimensions)
        entry: dict[str, Any] = {"object": "embedding", "embedding": made}
        if form["index"] == "always" or (form["index"] == "not 0" and index):
            entry["index"] = index
        elif form["index"] == "null":
            entry["index"] = None
        data.append(entry)
    tokens = sum(provider.tokens(it) for it in items)
    beside = {name: value for name, value in form.items() if name not in _OF_THE_FORM}
    return {**_filled(beside, tokens=tokens, model=asked["model"]), "data": data}


_OF_THE_FORM = frozenset({"index", "encodings", "heeds_dimensions"})


def _filled(body: Any, **values: Any) -> Any:
    """A body with what was asked in its places; a value that is only a place keeps its type."""
    if isinstance(body, dict):
        return {name: _filled(it, **values) for name, it in body.items()}
    if isinstance(body, list):
        return [_filled(it, **values) for it in body]
    if isinstance(body, str):
        if body[:1] == "$" and body[1:] in values:
            return values[body[1:]]
        return Template(body).safe_substitute(values)
    return body
