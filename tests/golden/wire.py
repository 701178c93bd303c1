"""What callers see over HTTP: paths, statuses, headers, error codes, types and params, and OpenAPI.

Messages are for people and are not held.
"""

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tests.golden import documents, flat, held, running, sources, subjects
from tests.parts.sidecar import TOKEN

TOLD = ("description", "summary", "title")
_ALWAYS = frozenset({"content-length", "date", "server", "connection", "transfer-encoding"})
_FIXED = frozenset(
    {
        *("allow", "content-type", "www-authenticate", "x-should-retry", "x-embedding-cache"),
        *("x-embedding-cache-hits", "x-embedding-model", "x-embedding-provider"),
        *("x-embedding-space", "x-embedding-tokens-saved", "x-embedding-usage"),
    }
)
"""Headers whose values are held; of others the name is."""
EMBEDDINGS = "/v1/embeddings"
MANAGEMENT = "/api/v1/embedding"
_TOKEN = {"authorization": f"Bearer {TOKEN}"}


class Asked(NamedTuple):
    """A request, by what it shows."""

    shows: str
    method: str
    path: str
    body: Any = None
    headers: Mapping[str, str] = {}


def _embed(shows: str, *, headers: Mapping[str, str] | None = None, **body: Any) -> Asked:
    asked = {"model": "small", "input": "a", **body}
    found = {key: it for key, it in asked.items() if it is not None}
    return Asked(shows, "POST", EMBEDDINGS, found, headers or {})


OF_THE_APPLICATION = (
    _embed("a miss"),
    _embed("a hit"),
    _embed("a part of it known", input=["a", "b"]),
    _embed("in base64", encoding_format="base64"),
    _embed("by an alias", model="default"),
    _embed("tokens", input=[1, 2]),
    _embed("not to be stored", input="c", headers={"cache-control": "no-store"}),
    _embed("background work", input="d", headers={"x-embedding-class": "background"}),
    _embed("another class", headers={"x-embedding-class": "other"}),
    _embed("a request's own name", headers={"x-request-id": "mine"}),
    _embed("no model", model=None),
    _embed("a model of nobody", model="unknown"),
    _embed("a model that is no text", model=1),
    _embed("no input", input=None),
    _embed("an empty list", input=[]),
    _embed("an empty text", input=""),
    _embed("a list of both", input=["a", 1]),
    _embed("too many items", input=["a"] * 2049),
    _embed("a format of nobody", encoding_format="hex"),
    _embed("no dimensions", dimensions=0),
    _embed("a word of nobody", unknown=1),
    _embed("a cache that is no object", cache=1),
    _embed("a ttl below 0", cache={"ttl": -1}),
    _embed("an input type of nobody", model="voyage-4", input_type="other"),
    _embed("a user that is no text", user=1),
    _embed("a provider without a key", model="voyage-4"),
    _embed("a host of nobody", headers={"host": "example.com"}),
    _embed("a page of another origin", headers={"origin": "https://example.com"}),
    _embed("compressed", headers={"content-encoding": "gzip"}),
    _embed("no JSON by its type", headers={"content-type": "text/plain"}),
    Asked("no JSON", "POST", EMBEDDINGS, b"{", {"content-type": "application/json"}),
    Asked("by GET", "GET", EMBEDDINGS),
    Asked("models", "GET", "/v1/models"),
    Asked("a model", "GET", "/v1/models/small"),
    Asked("a model of nobody by GET", "GET", "/v1/models/unknown"),
    Asked("models by POST", "POST", "/v1/models", {}),
    Asked("what passes through", "GET", "/v1/files"),
    Asked("nearly embeddings", "POST", "/embeddings", {}),
    Asked("nothing", "GET", "/nothing"),
    Asked("health", "GET", f"{MANAGEMENT}/health"),
    Asked("quota", "GET", f"{MANAGEMENT}/quota", headers=_TOKEN),
    Asked("quota without a token", "GET", f"{MANAGEMENT}/quota"),
    Asked("config", "GET", f"{MANAGEMENT}/config", headers=_TOKEN),
    Asked("cache", "GET", f"{MANAGEMENT}/cache/stats", headers=_TOKEN),
    Asked("all cleared", "DELETE", f"{MANAGEMENT}/cache", headers=_TOKEN),
    Asked("texts cleared", "DELETE", f"{MANAGEMENT}/cache", {"input": "a"}, _TOKEN),
    Asked("a model of nobody cleared", "DELETE", f"{MANAGEMENT}/cache?model=no", headers=_TOKEN),
    Asked("a word of nobody cleared", "DELETE", f"{MANAGEMENT}/cache?other=no", headers=_TOKEN),
    Asked("a search", "POST", f"{MANAGEMENT}/search", {"query": "a"}),
    Asked("a search of nobody's", "POST", f"{MANAGEMENT}/search", {"query": "a", "index": "no"}),
    _embed("the text is at fault", input="too long"),
    _embed("the rate is used up", input="slow down"),
    _embed("the provider is broken", input="break"),
    _embed("the key is refused", input="wrong key"),
)
OF_ADMINISTRATION = (
    Asked("started", "GET", "/healthz/started"),
    Asked("live", "GET", "/healthz/live"),
    Asked("metrics", "GET", "/metrics"),
    Asked("health", "GET", f"{MANAGEMENT}/health"),
    Asked("config", "GET", f"{MANAGEMENT}/config", headers=_TOKEN),
    Asked(
        "config by another", "GET", f"{MANAGEMENT}/config", headers={"authorization": "Bearer x"}
    ),
    Asked("nothing", "GET", "/nothing"),
    Asked("embeddings", "POST", EMBEDDINGS, {}),
)
WITHOUT_POLICY = (
    _embed("embeddings"),
    Asked("models", "GET", "/v1/models"),
    Asked("health", "GET", f"{MANAGEMENT}/health"),
    Asked("config", "GET", f"{MANAGEMENT}/config", headers=_TOKEN),
    Asked("a search", "POST", f"{MANAGEMENT}/search", {"query": "a"}),
    Asked("what passes through", "GET", "/v1/files"),
)
OF_AN_INDEX = (
    Asked("started", "GET", "/healthz/started"),
    Asked("live", "GET", "/healthz/live"),
    Asked("metrics", "GET", "/metrics"),
    Asked("the report", "GET", f"{MANAGEMENT}/index", headers=_TOKEN),
    Asked("the report without a token", "GET", f"{MANAGEMENT}/index"),
    Asked("a search without a proof", "POST", f"{MANAGEMENT}/search", {}),
    Asked("a search by GET", "GET", f"{MANAGEMENT}/search"),
    Asked("a search too large", "POST", f"{MANAGEMENT}/search", {"query": "a" * 70_000}),
    Asked("nothing", "GET", "/nothing"),
)


def texts() -> held.Texts:
    """A file of answers and one of OpenAPI."""
    with running.usual() as (sidecar, _):
        described = sidecar.http.get("/openapi.json").json()
        sidecar.admin.headers.pop("authorization")
        answers = [
            *(line for it in OF_THE_APPLICATION for line in _over(sidecar.http, it, "sidecar")),
            *(line for it in OF_ADMINISTRATION for line in _over(sidecar.admin, it, "admin")),
        ]
    with running.usual(quota=_closed(0, 0)) as (sidecar, _):
        answers += _over(sidecar.http, _embed("the day is used up"), "sidecar")
    with running.usual(quota=_closed(9, 9)) as (sidecar, _):
        background = _embed("the rest is reserved", headers={"x-embedding-class": "background"})
        answers += _over(sidecar.http, background, "sidecar")
    with running.without_policy() as sidecar:
        for it in WITHOUT_POLICY:
            answers += _over(sidecar.http, it, "sidecar without a policy")
    document = (documents.GIVEN / "index.json").read_bytes()
    for name, text in (("search", document), ("search without a document", None)):
        app = subjects.search_application(text, token=TOKEN)
        for it in OF_AN_INDEX:
            answers += asyncio.run(_of(app, it, name))
    return {
        "wire.txt": held.lines((*answers, *_codes(), *_signed())),
        "openapi.txt": held.lines(flat.paths(described, left_out=TOLD)),
    }


def _signed() -> Iterator[str]:
    """A pod and an operator of another version prove themselves to each other by these."""
    yield from (f"{what}: {value}" for what, value in subjects.signed().items())


def _closed(requests: int, reserved: int) -> dict[str, Any]:
    reserve = {"requests": reserved, "tokens": 0}
    return {"daily": {"requests": requests}, "reserveForApplications": reserve}


def _over(client: Any, asked: Asked, where: str) -> list[str]:
    sent = {"content": asked.body} if isinstance(asked.body, bytes) else {"json": asked.body}
    answer = client.request(
        asked.method,
        asked.path,
        headers=dict(asked.headers),
        **({} if asked.body is None else sent),
    )
    return list(_lines(asked, where, answer.status_code, dict(answer.headers), answer.content))


async def _of(app: Any, asked: Asked, where: str) -> list[str]:
    """The same of an application in this process."""
    body = b"" if asked.body is None else json.dumps(asked.body).encode()
    said: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    headers = [(key.encode(), it.encode()) for key, it in asked.headers.items()]
    scope = {
        "type": "http",
        "method": asked.method,
        "path": asked.path,
        "raw_path": asked.path.encode(),
        "query_string": b"",
        "headers": headers,
    }
    await app(scope, receive, send)
    heard = {key.decode(): it.decode() for key, it in said[0]["headers"]}
    content = b"".join(it.get("body", b"") for it in said[1:])
    return list(_lines(asked, where, said[0]["status"], heard, content))


def _lines(
    asked: Asked, where: str, status: int, headers: dict[str, str], content: bytes
) -> Iterator[str]:
    at = f"{where}: {asked.shows}"
    yield f"{at}: {asked.method} {asked.path} is answered {status}"
    for name, value in headers.items():
        if name not in _ALWAYS:
            yield f"{at}: header {name}{f': {value}' if name in _FIXED else ''}"
    if "json" not in headers.get("content-type", "") or not content:
        return
    body = json.loads(content)
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, dict):
        said = ", ".join(f"{key} {it}" for key, it in sorted(error.items()) if key != "message")
        yield f"{at}: error with {sorted(error)}: {said}"
    elif asked.path.endswith("/health"):
        # Its words are the contract, but for the fingerprint of a document with other ports.
        yield from (f"{at}: body {line}" for line in flat.paths(body, left_out=("document",)))
    else:
        yield from (f"{at}: body {line}" for line in flat.shape(body))


_CODE = re.compile(r"[a-z]+(_[a-z]+)*")


def _codes() -> Iterator[str]:
    """Every code that the sources give an error, with the status and type said beside it."""
    for call in sources.calls():
        found = {
            word: sources.values(sources.argument(call, word), module=call.module)
            for word in ("code", "status", "kind")
        }
        for code in found["code"]:
            if isinstance(code, str) and _CODE.fullmatch(code):
                more = (
                    f"{word} {' or '.join(sorted(map(str, found[word])))}"
                    for word in ("status", "kind")
                    if found[word]
                )
                yield ", ".join((f"code {code}", *more))
    yield from (f"code {code} (a default)" for code in sources.defaults("code"))
