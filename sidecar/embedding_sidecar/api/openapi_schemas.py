"""The shapes of requests and answers as JSON Schema (2020-12), for /openapi.json.

Names and bounds are those that `openai_json` and `cache_control` check by; the tests hold both
together.
"""

from typing import Any, Final

from embedding_contract import document as contract
from embedding_contract import index_document
from embedding_sidecar.api import clearing
from embedding_sidecar.openai_format import cache_control, models, openai_json

Schema = dict[str, Any]


def object_of(**properties: Schema) -> Schema:
    """An object that has these properties, and perhaps more."""
    return {"type": "object", "required": list(properties), "properties": properties}


def list_of(items: Schema, **more: Schema) -> Schema:
    """OpenAI's form of a list."""
    return object_of(object={"const": "list"}, data={"type": "array", "items": items}, **more)


def _nullable(kind: str, **more: Any) -> Schema:
    # null means the same as leaving it out.
    return {"type": [kind, "null"], **more}


def _model_name(policy: contract.PolicyDocument | None) -> Schema:
    if policy is None:
        return {"type": "string", "minLength": 1, "maxLength": openai_json.MAX_NAME}
    return {"type": "string", "enum": list(models.owners(policy))}


def _array(items: Schema, most: int) -> Schema:
    return {"type": "array", "items": items, "minItems": 1, "maxItems": most}


_TEXT: Final = {"type": "string", "minLength": 1, "maxLength": openai_json.MAX_ITEM_BYTES}
_TOKEN: Final = {"type": "integer", "minimum": 0, "maximum": openai_json.MAX_TOKEN}
_TOKENS: Final = _array(_TOKEN, openai_json.MAX_TOKENS_PER_ITEM)
_TEXTS: Final = [_TEXT, _array(_TEXT, openai_json.MAX_ITEMS)]
_INPUT: Final = {
    "description": f"A text, texts, a list of tokens or lists of tokens. A text has at most "
    f"{openai_json.MAX_ITEM_BYTES} bytes of UTF-8, unless `truncation` is true.",
    "anyOf": [*_TEXTS, _TOKENS, _array(_TOKENS, openai_json.MAX_ITEMS)],
}
# `model` is left out, though it is read here too: no schema can say "the one of the query, if any".
CLEARING: Final = {
    "description": "The texts to forget, in every form that can be named; without it, all. `model` "
    "may stand here instead of in the query.",
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "input": {
            "anyOf": [
                _TEXT,
                _array(_TEXT, clearing.MAX_ITEMS),
                _TOKENS,
                _array(_TOKENS, clearing.MAX_ITEMS),
            ]
        }
    },
}
_DIMENSIONS: Final = _nullable("integer", minimum=1, maximum=openai_json.MAX_DIMENSIONS)
_SECONDS: Final = _nullable("integer", minimum=0, maximum=cache_control.MAX_SECONDS)
_CACHE: Final = _nullable(
    "object",
    description="As LiteLLM's: not answered from the cache, nothing kept, kept for `ttl` seconds "
    "at most, answered from entries of at most `s-maxage` seconds.",
    additionalProperties=False,
    properties={
        **dict.fromkeys(cache_control.BODY_FLAGS, _nullable("boolean")),
        **dict.fromkeys(cache_control.BODY_TIMES, _SECONDS),
    },
)
_COUNT: Final = {"type": "integer", "minimum": 0}
EMBEDDING_LIST: Final = list_of(
    object_of(
        object={"const": "embedding"},
        index=_COUNT,
        embedding={
            "description": "Numbers, or with base64 the same as little-endian float32.",
            "anyOf": [
                {"type": "array", "items": {"type": "number"}, "minItems": 1},
                {"type": "string", "contentEncoding": "base64"},
            ],
        },
    ),
    model={"type": "string"},
    usage=object_of(prompt_tokens=_COUNT, total_tokens=_COUNT),
)
MODEL: Final = object_of(
    id={"type": "string"},
    object={"const": "model"},
    created=_COUNT,
    owned_by={"type": "string"},
)
REFUSAL: Final = object_of(
    error=object_of(
        message={"type": "string"},
        type={"type": "string"},
        param=_nullable("string"),
        code=_nullable("string"),
    )
)
QUOTA: Final = object_of(
    daily_quota={"type": ["integer", "null"], "minimum": 0},
    current_count=_COUNT,
    remaining={"type": ["integer", "null"], "minimum": 0},
    exceeded={"type": "boolean"},
    reset_at={"type": "string", "format": "date-time"},
    vector_search_enabled={"type": "boolean"},
    fallback_enabled={"type": "boolean"},
)

_SCALAR: Final = {"type": ["string", "number", "boolean", "null"]}
SEARCH_RESULTS: Final = object_of(
    object={"const": "list"},
    index={"type": "string"},
    mode={"enum": ["vector", "text", "hybrid"]},
    space={"type": ["string", "null"]},
    reason={
        "description": "Why vectors were not used, null where they were or were not asked for.",
        "enum": ["quota", "provider", "no_vectors", "space", "timeout", "error", None],
    },
    results={
        "type": "array",
        "items": object_of(
            key={"type": "object"},
            columns={"type": "object"},
            score={"type": ["number", "null"]},
            score_kind={"enum": ["cosine_similarity", "ts_rank_cd", "reciprocal_rank_fusion"]},
        ),
    },
)


def search(policy: contract.PolicyDocument | None) -> Schema:
    """The body of POST search; `index` is one of the policy's, and optional where it has one."""
    named = [] if policy is None else [it.name for it in policy.indexes]
    index = {"enum": [*named, None] if len(named) == 1 else named} if named else {"type": "string"}
    return {
        "type": "object",
        "required": ["query"] if len(named) < 2 else ["query", "index"],  # noqa: PLR2004 - one
        "additionalProperties": False,
        "properties": {
            "query": {"type": "string", "minLength": 1, "maxLength": 32_768},
            "k": _nullable("integer", minimum=1, maximum=1_000, default=10),
            "index": index,
            "mode": {"enum": ["vector", "text", "hybrid", None], "default": "vector"},
            "filter": _nullable(
                "array",
                maxItems=32,
                items={
                    "type": "object",
                    "required": ["column", "operator", "value"],
                    "additionalProperties": False,
                    "properties": {
                        "column": {"type": "string", "minLength": 1},
                        "operator": {"enum": list(index_document.OPERATORS)},
                        "value": {
                            "description": "A list for `in`, two values for `between`.",
                            "anyOf": [
                                _SCALAR,
                                {"type": "array", "items": _SCALAR, "maxItems": 1_000},
                            ],
                        },
                    },
                },
            ),
        },
    }


def request(policy: contract.PolicyDocument | None) -> Schema:
    """The body of POST /v1/embeddings."""
    voyage = [] if policy is None else models.of_voyage(policy)
    schema: Schema = {
        "type": "object",
        "required": ["model", "input"],
        # An unknown field means nothing if it is null (decision 029).
        "additionalProperties": {"type": "null"},
        "properties": {
            "input": _INPUT,
            "model": _model_name(policy),
            "encoding_format": _nullable("string", enum=[*openai_json.ENCODINGS, None]),
            "dimensions": {
                **_DIMENSIONS,
                "description": "Numbers in a vector. Where the policy pins them, another value is "
                "refused.",
            },
            "user": _nullable("string", minLength=1, maxLength=openai_json.MAX_NAME),
            "input_type": _nullable("string", enum=[*openai_json.INPUT_TYPES, None]),
            "truncation": _nullable(
                "boolean",
                description="True: a text that is too long is cut, where the provider can. "
                "Else it is an error.",
            ),
            "cache": _CACHE,
        },
    }
    passed_on: set[str] = set()
    for provider in () if policy is None else policy.providers:
        passed_on |= models.passed_on(provider)
    # Their values are for the provider's server to check.
    schema["properties"] |= {key: {} for key in sorted(passed_on - openai_json.KEYS)}
    if voyage:
        # Voyage's own words, and only where the model is Voyage's.
        only = {"model": {"enum": voyage}}
        schema["properties"] |= {
            "output_dimension": {
                **_DIMENSIONS,
                "description": "Voyage's name of `dimensions`; both together must be equal.",
            },
            "output_dtype": _nullable("string", enum=[*openai_json.DTYPES, None]),
        }
        # No schema can say "equal": it asks for one of the two.
        schema["dependentSchemas"] = {
            "output_dimension": {"properties": {**only, "dimensions": {"type": "null"}}},
            "output_dtype": {"properties": only},
        }
        # Token arrays are of another vocabulary; only a provider to fail over to can take them.
        schema["if"] = {"properties": only}
        schema["then"] = {"properties": {"input": {"anyOf": _TEXTS}}}
    return schema
