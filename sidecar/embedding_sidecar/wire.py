"""OpenAI's wire form of the embeddings endpoint: JSON in, values out, and back.

Source: OpenAI's OpenAPI description (CreateEmbeddingRequest, CreateEmbeddingResponse, Error).
Accepted beyond it: `input_type` and `truncation`, which some models know.
"""

import array
import base64
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeVar

import orjson

from embedding_sidecar import errors, provider

T = TypeVar("T")

MAX_BODY_BYTES: Final = 16 * 1024 * 1024
MAX_ITEMS: Final = 2048
MAX_TOKENS_PER_ITEM: Final = 8192
MAX_ITEM_BYTES: Final = MAX_TOKENS_PER_ITEM * 16
"""No text of more bytes fits 8192 tokens: the longest tokens of OpenAI's and Voyage's vocabularies
that occur in running text stay far below 16 bytes on average. Shorter ones the provider judges."""
MAX_DIMENSIONS: Final = 65_536
MAX_TOKEN: Final = 2**31 - 1
MAX_NAME: Final = 256
KEYS: Final = frozenset(
    {"input", "model", "encoding_format", "dimensions", "user", "input_type", "truncation"}
)


class Request(NamedTuple):
    """A parsed request: what is asked, and whether the vectors go out as base64."""

    ask: provider.Ask
    base64: bool


def parse(body: bytes) -> Request:
    """Read a request body.

    Raises:
        errors.Rejected: 400, with `param` naming the field.
    """
    try:
        raw = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise errors.Rejected(f"The body is not valid JSON: {error}") from None
    if not isinstance(raw, dict):
        raise errors.Rejected("The body must be a JSON object.")
    unknown = sorted(raw.keys() - KEYS)
    if unknown:
        raise errors.Rejected(
            f"Unrecognized request argument supplied: {unknown[0][:MAX_NAME]}", param=unknown[0]
        )
    for required in ("model", "input"):
        if raw.get(required) is None:
            raise errors.Rejected(f"You must provide {required!r}.", param=required)
    encoding = _optional(raw, "encoding_format", _one_of("float", "base64"))
    ask = provider.Ask(
        model=_text(raw["model"], "model"),
        items=_items(raw["input"]),
        dimensions=_optional(raw, "dimensions", _dimensions),
        input_type=_optional(raw, "input_type", _one_of("query", "document")),
        truncation=_optional(raw, "truncation", _boolean),
        user=_optional(raw, "user", _text),
    )
    return Request(ask, encoding == "base64")


def render(*, vectors: tuple[bytes, ...], model: str, tokens: int, as_base64: bool) -> bytes:
    """The response body; `vectors` are little-endian float32."""
    encode = _base64 if as_base64 else _floats
    body = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": encode(vector)}
            for index, vector in enumerate(vectors)
        ],
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    return orjson.dumps(body)


def render_models(models: Mapping[str, str]) -> bytes:
    """The body of GET /v1/models; `models` maps a name to who owns it."""
    data = [
        {"id": name, "object": "model", "created": 0, "owned_by": owner}
        for name, owner in models.items()
    ]
    return orjson.dumps({"object": "list", "data": data})


def render_error(error: errors.Refused) -> bytes:
    """The body of a refusal; all four keys are required."""
    return orjson.dumps(
        {
            "error": {
                "message": error.message,
                "type": error.kind,
                "param": error.param,
                "code": error.code,
            }
        }
    )


def _base64(vector: bytes) -> str:
    return base64.b64encode(vector).decode()


def _floats(vector: bytes) -> list[float]:
    numbers = array.array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    # A float32 is exact as a double, and orjson writes the shortest text that gives the double
    # back: what a client reads and rounds to float32 is this very number.
    return numbers.tolist()


def _items(raw: Any) -> tuple[provider.Item, ...]:
    if isinstance(raw, str):
        return (_item(raw, "input"),)
    if not isinstance(raw, list):
        raise errors.Rejected(
            "'input' must be a string, a list of strings, a list of tokens "
            "or a list of lists of tokens.",
            param="input",
        )
    if not raw:
        raise errors.Rejected("'input' cannot be an empty list.", param="input")
    if isinstance(raw[0], int) and not isinstance(raw[0], bool):
        return (_tokens(raw, "input"),)
    if len(raw) > MAX_ITEMS:
        raise errors.Rejected(
            f"'input' has {len(raw)} items; at most {MAX_ITEMS} are allowed.", param="input"
        )
    return tuple(_item(item, f"input[{index}]") for index, item in enumerate(raw))


def _item(raw: Any, path: str) -> provider.Item:
    if isinstance(raw, list):
        return _tokens(raw, path)
    if not isinstance(raw, str):
        raise errors.Rejected(f"'{path}' must be a string or a list of tokens.", param="input")
    if not raw:
        raise errors.Rejected(f"'{path}' cannot be an empty string.", param="input")
    try:
        size = len(raw.encode())
    except UnicodeEncodeError:
        raise errors.Rejected(f"'{path}' is not valid Unicode.", param="input") from None
    if size > MAX_ITEM_BYTES:
        raise errors.Rejected(
            f"'{path}' has {size} bytes, which no model takes: at most {MAX_TOKENS_PER_ITEM} tokens"
            f" are allowed, and {MAX_ITEM_BYTES} bytes hold more.",
            param="input",
        )
    return raw


def _tokens(raw: list[Any], path: str) -> tuple[int, ...]:
    if not 0 < len(raw) <= MAX_TOKENS_PER_ITEM:
        raise errors.Rejected(
            f"'{path}' has {len(raw)} tokens; 1 to {MAX_TOKENS_PER_ITEM} are allowed.",
            param="input",
        )
    for token in raw:
        if not isinstance(token, int) or isinstance(token, bool) or not 0 <= token <= MAX_TOKEN:
            raise errors.Rejected(f"'{path}' holds what is no token.", param="input")
    return tuple(raw)


def _optional(raw: dict[str, Any], key: str, read: Callable[[Any, str], T]) -> T | None:
    value = raw.get(key)
    return None if value is None else read(value, key)


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME:
        raise errors.Rejected(f"'{key}' must be a string of 1 to {MAX_NAME} characters.", param=key)
    return value


def _boolean(value: Any, key: str) -> bool:
    if not isinstance(value, bool):
        raise errors.Rejected(f"'{key}' must be true or false.", param=key)
    return value


def _dimensions(value: Any, key: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_DIMENSIONS:
        raise errors.Rejected(
            f"'{key}' must be an integer between 1 and {MAX_DIMENSIONS}.", param=key
        )
    return value


def _one_of(*allowed: str) -> Callable[[Any, str], str]:
    def read(value: Any, key: str) -> str:
        if value not in allowed:
            choices = " or ".join(f"'{word}'" for word in allowed)
            raise errors.Rejected(f"'{key}' must be {choices}.", param=key)
        return str(value)

    return read
