"""GET /openapi.json: what the API port answers, in OpenAPI 3.1.

Names, bounds and words are those of the code that reads and writes them; the tests hold the rest
against a running sidecar.
"""

from typing import Final

from embedding_contract import document as contract
from embedding_contract import names
from embedding_sidecar.api import openapi_schemas, response_headers
from embedding_sidecar.api.openapi_schemas import Schema
from embedding_sidecar.openai_format import request_headers

VERSION: Final = "3.1.0"

_REFUSALS: Final = {
    400: "The request is at fault; `param` names the field or the header.",
    401: "The token is missing or another one; of what passes through, the caller's own key.",
    403: "A page in a browser sent it, or its host is another; `param` names the header.",
    404: "There is no such model (`model_not_found`), no index to search (`no_index`), or nothing "
    "of this name.",
    408: "The body did not arrive in time.",
    413: "The body, or a text in it, is too large.",
    415: "The body is not JSON, or compressed; `param` names the header.",
    422: "The provider says that the request is at fault.",
    429: "The policy's day is used up (`insufficient_quota`, with `x-should-retry: false`) or, for "
    "background work, reserved (`quota_reserved_for_applications`, likewise), or every provider "
    "that may answer says to wait (`rate_limit_exceeded`).",
    502: "Nobody could be reached (`all_providers_failed`, `passthrough_unreachable`), or what "
    "answered for an index did not prove itself (`index_not_proved`).",
    503: "A store, a key or the policy is missing (`quota_store_unavailable`, "
    "`provider_key_missing`, `policy_not_loaded`, `cache_store_unavailable`), requests before "
    "this one hold the memory it needs (`memory_exhausted`), an index or its database cannot be "
    "reached (`index_unreachable`, `database_unavailable`), or this sidecar is being shut down "
    "(`shutting_down`).",
}
_RATELIMIT: Final[dict[str, Schema]] = {
    f"x-ratelimit-{word}-{unit}": {"type": "string"}
    for word in ("limit", "remaining", "reset")
    for unit in ("requests", "tokens")
}
_ATTEMPTS: Final[dict[str, Schema]] = {
    response_headers.HEADER_ATTEMPTS: {"type": "integer", "minimum": 0}
}
_OF_AN_ANSWER: Final[dict[str, Schema]] = {
    **_ATTEMPTS,
    **_RATELIMIT,
    response_headers.HEADER_CACHE: {"type": "string", "enum": ["hit", "partial", "miss"]},
    response_headers.HEADER_CACHE_HITS: {"type": "string", "pattern": "^[0-9]+/[0-9]+$"},
    response_headers.HEADER_PROVIDER: {"type": "string"},
    response_headers.HEADER_MODEL: {"type": "string"},
    response_headers.HEADER_SPACE: {"type": "string"},
    response_headers.HEADER_TOKENS_SAVED: {"type": "integer", "minimum": 0},
    response_headers.HEADER_OVERHEAD_MS: {"type": "number", "minimum": 0},
}
_OF_A_REFUSAL: Final[dict[int, Schema]] = {
    429: {
        "retry-after": {"type": "integer", "minimum": 1},
        "x-should-retry": {"type": "string", "enum": ["false"]},
        **_RATELIMIT,
    },
    503: {"retry-after": {"type": "integer", "minimum": 1}},
}
_STRING: Final[Schema] = {"type": "string"}
_IDENTIFIED: Final = {request_headers.REQUEST_ID: {"type": "string", "pattern": "^[!-~]{1,256}$"}}


def document(policy: contract.PolicyDocument | None) -> Schema:
    """The description; with a policy, `model` is one of the names that it allows."""
    return {
        "openapi": VERSION,
        "info": {
            "title": "embedding-sidecar",
            "version": "v1",
            "description": "OpenAI's embeddings API over the providers of a policy, with a cache "
            "per item, a quota and failover. Any other path below /v1/ passes through, unchanged, "
            "to one fixed address with the caller's own key.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            names.PATH_EMBEDDINGS: {"post": _embeddings()},
            names.PATH_MODELS: {
                "get": _get("listModels", "The policy's models and aliases.", "ModelList", 503)
            },
            f"{names.PATH_MODELS}/{{model}}": {
                "parameters": [_parameter("path", "model", {"type": "string", "minLength": 1})],
                "get": _get("retrieveModel", "One of them.", "Model", 404, 503),
                "delete": _passed_through(),
            },
            names.PATH_HEALTH: {"get": _get("health", "Whether it serves.", "Health")},
            names.PATH_QUOTA: {"get": _guarded("quota", "The day of the whole policy.", "Quota")},
            names.PATH_CONFIG: {"get": _guarded("config", "What is in force.", "Config")},
            names.PATH_CACHE_STATS: {
                "get": _guarded("cacheStats", "This sidecar's own hits and misses.", "CacheStats")
            },
            names.PATH_CACHE: {"delete": _clear_cache(policy)},
            names.PATH_SEARCH: {"post": _search()},
            names.PATH_OPENAPI: {
                "get": _get("openapi", "This, with the models of the policy in force.", "OpenAPI")
            },
        },
        "components": {
            "schemas": {
                "EmbeddingRequest": openapi_schemas.request(policy),
                "EmbeddingList": openapi_schemas.EMBEDDING_LIST,
                "Model": openapi_schemas.MODEL,
                "ModelList": openapi_schemas.list_of({"$ref": "#/components/schemas/Model"}),
                "Error": openapi_schemas.REFUSAL,
                "Health": openapi_schemas.object_of(
                    status={"enum": ["ok", "degraded", "unavailable"]}
                ),
                "Quota": openapi_schemas.QUOTA,
                "Config": {"type": "object"},
                "CacheStats": {"type": "object"},
                "SearchRequest": openapi_schemas.search(policy),
                "SearchResults": openapi_schemas.SEARCH_RESULTS,
                "Cleared": openapi_schemas.object_of(cleared={"type": "string"}),
                "OpenAPI": openapi_schemas.object_of(openapi={"const": VERSION}),
            },
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _embeddings() -> Schema:
    return {
        "operationId": "createEmbedding",
        "summary": "Vectors for texts or tokens, in the order they were given.",
        "parameters": [
            _parameter("header", "Cache-Control", _STRING, "no-cache, no-store, max-age"),
            _parameter("header", request_headers.REQUEST_ID, _STRING, "Comes back in the answer."),
            _parameter(
                "header",
                names.HEADER_CLASS,
                {"type": "string", "enum": [names.CLASS_BACKGROUND]},
                "Background work takes of the quota only what is not reserved for applications.",
            ),
        ],
        "requestBody": {"required": True, "content": _content("EmbeddingRequest")},
        "responses": {
            "200": _response("The vectors.", "EmbeddingList", _OF_AN_ANSWER),
            **_refusals(400, 403, 404, 408, 413, 415, 422, 429, 502, 503, headers=_ATTEMPTS),
        },
    }


def _get(identifier: str, summary: str, schema: str, *refusals: int) -> Schema:
    return {
        "operationId": identifier,
        "summary": summary,
        "responses": {"200": _response(summary, schema), **_refusals(403, *refusals)},
    }


def _guarded(identifier: str, summary: str, schema: str) -> Schema:
    return {**_get(identifier, summary, schema, 401, 503), "security": [{"token": []}]}


def _clear_cache(policy: contract.PolicyDocument | None) -> Schema:
    made = [] if policy is None else sorted({provider.model for provider in policy.providers})
    name: Schema = {"type": "string", "enum": made} if made else {"type": "string"}
    schema = _guarded("clearCache", "Every pod forgets all, one model, or these texts.", "Cleared")
    schema["responses"] |= _refusals(400, 408, 413)
    return {
        **schema,
        "parameters": [_parameter("query", "model", name)],
        "requestBody": {"content": {request_headers.JSON: {"schema": openapi_schemas.CLEARING}}},
    }


def _search() -> Schema:
    return {
        "operationId": "search",
        "summary": "The rows of a table nearest to a query, and how they were found.",
        "requestBody": {"required": True, "content": _content("SearchRequest")},
        "responses": {
            "200": _response("The rows, the best first.", "SearchResults"),
            **_refusals(400, 403, 404, 408, 413, 415, 502, 503),
        },
    }


def _passed_through() -> Schema:
    return {
        "operationId": "deleteModel",
        "summary": "Passes through to the policy's one address, as all other paths below /v1/ do.",
        "responses": {
            **_refusals(400, 401, 403, 404, 502, 503),
            "default": {"description": "As it is answered there."},
        },
    }


def _parameter(where: str, name: str, schema: Schema, description: str = "") -> Schema:
    found = {"in": where, "name": name, "required": where == "path", "schema": schema}
    return {**found, "description": description} if description else found


def _response(text: str, schema: str, headers: Schema | None = None) -> Schema:
    return {
        "description": text,
        "headers": {
            name: {"schema": it} for name, it in {**_IDENTIFIED, **(headers or {})}.items()
        },
        "content": _content(schema),
    }


def _content(schema: str) -> Schema:
    return {request_headers.JSON: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _refusals(*statuses: int, headers: Schema | None = None) -> Schema:
    return {
        str(status): _response(
            _REFUSALS[status], "Error", {**(headers or {}), **_OF_A_REFUSAL.get(status, {})}
        )
        for status in statuses
    }
