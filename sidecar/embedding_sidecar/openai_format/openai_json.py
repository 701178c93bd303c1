"""OpenAI's wire form of the embeddings endpoint: JSON in, values out, and back.

Source: OpenAI's OpenAPI description (CreateEmbeddingRequest, CreateEmbeddingResponse, Error).
Accepted beyond it: `input_type` and `truncation`, which some models know; LiteLLM's `cache`; and
Voyage's own names, `output_dimension` and `output_dtype`, which `models.check` keeps to its models.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import orjson
import pybase64

from embedding_sidecar import errors
from embedding_sidecar.openai_format import cache_control, fields
from embedding_sidecar.translation import provider_api
from embedding_sidecar.translation.vector_decoder import numbers

MAX_BODY_BYTES: Final = 16 * 1024 * 1024
MAX_ITEMS: Final = 2048
MAX_TOKENS_PER_ITEM: Final = 32_768
"""The longest context of an embedding model: Voyage's take 32,000 tokens, OpenAI's 8,192, and the
provider refuses an item that is too long for its model."""
MAX_ITEM_BYTES: Final = MAX_TOKENS_PER_ITEM * 16
"""No text of more bytes fits that many tokens: the longest tokens of OpenAI's and Voyage's
vocabularies that occur in running text stay far below 16 bytes on average."""
MAX_DIMENSIONS: Final = 65_536
MAX_TOKEN: Final = 2**31 - 1
MAX_NAME: Final = 256
PIECE_BYTES: Final = 2**18
"""Approximate size of the pieces of a long answer."""
KEYS: Final = frozenset(
    {"input", "model", "encoding_format", "dimensions", "user", "input_type", "truncation", "cache"}
)
_SELDOM: Final = frozenset({"user", "input_type", "truncation"})
VOYAGE_KEYS: Final = ("output_dimension", "output_dtype")
ENCODINGS: Final = ("float", "base64")
INPUT_TYPES: Final = ("query", "document", "passage")
"""`passage` is NVIDIA's word for document; each provider gets its own word."""
MAX_EXTRA: Final = 16
MAX_EXTRA_BYTES: Final = 1024
"""Bound of fields that a policy passes on, names and values together: they are remembered."""
DTYPES: Final = ("float",)

_NAME: Final = fields.text(most=MAX_NAME)
_DIMENSIONS: Final = fields.integer(least=1, most=MAX_DIMENSIONS)
_ENCODING: Final = fields.one_of(*ENCODINGS)
_INPUT_TYPE: Final = fields.one_of(*INPUT_TYPES)
_DTYPE: Final = fields.one_of(*DTYPES)


class Request(NamedTuple):
    """A parsed request. `voyage_keys` are the names in it that only Voyage's models know."""

    ask: provider_api.Ask
    base64: bool
    control: cache_control.CacheControl = cache_control.DEFAULT
    voyage_keys: tuple[str, ...] = ()


def parse(body: bytes, *, header: str | None = None) -> Request:
    """Read a request: its body, and its Cache-Control header where it has one.

    Raises:
        errors.Rejected: 400, with `param` naming the field.
    """
    raw = fields.of(body)
    voyage_keys, extra = ((), ()) if raw.keys() <= KEYS else _beyond(raw)
    for required in ("model", "input"):
        if raw.get(required) is None:
            raise errors.Rejected(f"You must provide {required!r}.", param=required)
    dimensions = fields.optional(raw, "dimensions", _DIMENSIONS)
    if voyage_keys:
        dimensions = _dimensions_of_voyage(raw, dimensions)
    encoding = fields.optional(raw, "encoding_format", _ENCODING)
    control = cache_control.DEFAULT if header is None else cache_control.from_header(header)
    if raw.get("cache") is not None:
        control = control.and_also(cache_control.from_body(raw["cache"]))
    truncation = input_type = user = None
    if not _SELDOM.isdisjoint(raw):
        truncation = fields.optional(raw, "truncation", fields.boolean)
        input_type = fields.optional(raw, "input_type", _INPUT_TYPE)
        user = fields.optional(raw, "user", _NAME)
    ask = provider_api.Ask(
        model=_NAME(raw["model"], "model"),
        # With truncation the provider cuts a text of any length.
        items=_items(raw["input"], max_bytes=MAX_BODY_BYTES if truncation else MAX_ITEM_BYTES),
        dimensions=dimensions,
        input_type=input_type,
        truncation=truncation,
        user=user,
        extra=extra,
    )
    return Request(ask, encoding == "base64", control, voyage_keys)


def _beyond(raw: dict[str, Any]) -> tuple[tuple[str, ...], tuple[tuple[str, bytes], ...]]:
    """The names that only Voyage's models know; and other fields, which a policy may list."""
    beyond = raw.keys() - KEYS
    voyage_keys = tuple(key for key in VOYAGE_KEYS if key in beyond)
    names = sorted(it for it in beyond.difference(voyage_keys) if raw[it] is not None)
    if len(names) > MAX_EXTRA:
        raise unrecognized(names[0])
    extra = tuple((name, orjson.dumps(raw[name], option=orjson.OPT_SORT_KEYS)) for name in names)
    if sum(len(name) + len(value) for name, value in extra) > MAX_EXTRA_BYTES:
        raise errors.Rejected(
            f"'{names[0][:MAX_NAME]}' and other fields that OpenAI does not have are longer than "
            f"{MAX_EXTRA_BYTES} bytes.",
            param=names[0][:MAX_NAME],
        )
    return voyage_keys, extra


def unrecognized(key: str) -> errors.Rejected:
    """The refusal of an unknown field, in OpenAI's words."""
    shown = key[:MAX_NAME]
    return errors.Rejected(f"Unrecognized request argument supplied: {shown}", param=shown)


def too_large(most: int = MAX_BODY_BYTES) -> errors.Rejected:
    """The refusal of a body that is too long."""
    return errors.Rejected(f"The body is larger than {most} bytes.", status=413)


def render(*, vectors: tuple[bytes, ...], model: str, tokens: int, as_base64: bool) -> bytes:
    """The response body; `vectors` are little-endian float32.

    Bytes are joined, because base64 needs no escape and a list of vectors is long.
    """
    encode, start, end = _BASE64 if as_base64 else _FLOATS
    parts = [_START]
    for index, vector in enumerate(vectors):
        parts += (start % index, encode(vector), end)
    parts[-1] = _end(end, model=model, tokens=tokens)
    return b"".join(parts)


def row_bytes(vector_bytes: int, *, as_base64: bool) -> int:
    """Approximate size of a vector in an answer."""
    return vector_bytes * 4 // 3 if as_base64 else vector_bytes * 5


def chunks(
    *, vectors: tuple[bytes, ...], model: str, tokens: int, as_base64: bool
) -> Iterator[bytes]:
    """The body of `render` in pieces, each made on demand."""
    encode, start, end = _BASE64 if as_base64 else _FLOATS
    parts, size = [_START], 0
    for index, vector in enumerate(vectors):
        if size > PIECE_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
        row = encode(vector)
        parts += (start % index, row, end)
        size += len(row)
    parts[-1] = _end(end, model=model, tokens=tokens)
    yield b"".join(parts)


def render_models(owners: Mapping[str, str]) -> bytes:
    """The body of GET /v1/models; `owners` maps a model's name to its owner."""
    data = [_model(name, owner) for name, owner in owners.items()]
    return orjson.dumps({"object": "list", "data": data})


def render_model(name: str, owner: str) -> bytes:
    """The body of GET /v1/models/{model}."""
    return orjson.dumps(_model(name, owner))


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


def _model(name: str, owner: str) -> dict[str, Any]:
    # The time of creation is unknown, and OpenAI's form requires a number.
    return {"id": name, "object": "model", "created": 0, "owned_by": owner}


def _end(end: bytes, *, model: str, tokens: int) -> bytes:
    return b'%b],"model":%b,"usage":{"prompt_tokens":%d,"total_tokens":%d}}' % (
        end[:-1],
        orjson.dumps(model),
        tokens,
        tokens,
    )


def _floats(vector: bytes) -> bytes:
    # A float32 is exact as a double, and orjson writes the shortest text that reads as this
    # double: a client that reads it and rounds to float32 has this very number.
    return orjson.dumps(numbers(vector).tolist())


_START: Final = b'{"object":"list","data":['
_FLOATS: Final = (_floats, b'{"object":"embedding","index":%d,"embedding":', b"},")
_BASE64: Final = (
    pybase64.b64encode,
    b'{"object":"embedding","index":%d,"embedding":"',
    b'"},',
)


def _items(raw: Any, *, max_bytes: int) -> tuple[provider_api.Item, ...]:
    if isinstance(raw, str):
        return (_item(raw, "input", max_bytes),)
    if not isinstance(raw, list):
        raise errors.Rejected(
            "'input' must be a string, a list of strings, a list of tokens "
            "or a list of lists of tokens.",
            param="input",
        )
    if not raw:
        raise errors.Rejected("'input' cannot be an empty list.", param="input")
    if fields.whole(raw[0]) is not None:
        return (_tokens(raw, "input"),)
    if len(raw) > MAX_ITEMS:
        raise errors.Rejected(
            f"'input' has {len(raw)} items; at most {MAX_ITEMS} are allowed.", param="input"
        )
    if isinstance(raw[0], list):
        return tuple(_tokens(item, f"input[{index}]") for index, item in enumerate(raw))
    return tuple(_item(item, f"input[{index}]", max_bytes) for index, item in enumerate(raw))


def _item(raw: Any, path: str, max_bytes: int) -> str:
    if not isinstance(raw, str):
        raise errors.Rejected(
            f"'{path}' is not a string; all items must be strings, or all lists of tokens.",
            param="input",
        )
    if not raw:
        raise errors.Rejected(f"'{path}' cannot be an empty string.", param="input")
    # orjson refuses half a surrogate pair, so every text can be encoded.
    size = len(raw.encode())
    if size > max_bytes:
        raise errors.Rejected(
            f"'{path}' has {size} bytes; at most {max_bytes} are allowed, which is more than the "
            f"{MAX_TOKENS_PER_ITEM} tokens of the longest model.",
            param="input",
        )
    return raw


def _tokens(raw: Any, path: str) -> tuple[int, ...]:
    if not isinstance(raw, list):
        raise errors.Rejected(
            f"'{path}' is not a list of tokens; all items must be strings, or all lists of tokens.",
            param="input",
        )
    if not 0 < len(raw) <= MAX_TOKENS_PER_ITEM:
        raise errors.Rejected(
            f"'{path}' has {len(raw)} tokens; 1 to {MAX_TOKENS_PER_ITEM} are allowed.",
            param="input",
        )
    whole = map(fields.whole, raw)
    tokens = tuple(it for it in whole if it is not None and 0 <= it <= MAX_TOKEN)
    if len(tokens) < len(raw):
        raise errors.Rejected(
            f"'{path}' must hold only tokens, which are integers from 0 to {MAX_TOKEN}.",
            param="input",
        )
    return tokens


def _dimensions_of_voyage(raw: dict[str, Any], dimensions: int | None) -> int | None:
    fields.optional(raw, "output_dtype", _DTYPE)
    written = fields.optional(raw, "output_dimension", _DIMENSIONS)
    if None not in (written, dimensions) and written != dimensions:
        raise errors.Rejected(
            "'output_dimension' and 'dimensions' have the same meaning and must be equal.",
            param="output_dimension",
        )
    return dimensions if written is None else written
