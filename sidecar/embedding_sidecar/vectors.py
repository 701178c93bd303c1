"""Vectors as bytes: little-endian float32, bit for bit what the model made.

Providers say them in one shape: a list of `{"index": i, "embedding": base64 | [float, ...]}`.
Source: OpenAI's OpenAPI description (Embedding); Voyage's reference says the same.
"""

import array
import binascii
import math
import sys
from typing import Any

import orjson
import pybase64

from embedding_sidecar import errors, provider

BYTES_PER_NUMBER = 4


def read(answer: provider.HttpAnswer, *, count: int, dimensions: int | None) -> provider.Vectors:
    """Read a 200: `count` vectors of one size, which is `dimensions` where that was asked for.

    Raises:
        errors.Unusable: anything else than one finite vector for each item.
    """
    try:
        raw = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        raise bad_answer() from None
    data = raw.get("data") if isinstance(raw, dict) else None
    if not isinstance(data, list) or len(data) != count:
        raise bad_answer()
    placed = [b""] * count
    size = None if dimensions is None else dimensions * BYTES_PER_NUMBER
    for entry in data:
        index = entry.get("index") if isinstance(entry, dict) else None
        if type(index) is not int or not 0 <= index < count or placed[index]:
            raise bad_answer()
        placed[index] = vector = _vector(entry.get("embedding"))
        size = size or len(vector)
        if len(vector) != size:
            raise bad_answer()
    return provider.Vectors(tuple(placed), _tokens(raw.get("usage")))


def bad_answer() -> errors.Unusable:
    """What a 200 of no use means: somebody else may answer, and we may have paid."""
    return errors.Unusable("bad_answer", billed=True)


def numbers(vector: bytes) -> "array.array[float]":
    """The numbers of a vector, in this machine's byte order."""
    values = array.array("f", vector)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def is_finite(vector: bytes) -> bool:
    """Whether all numbers of a vector are finite."""
    # Infinities and NaN have a high byte of 0x7f or 0xff, and so have numbers from 2^127 on, which
    # no model makes: seldom need all numbers be read.
    high = vector[3::4]
    if b"\x7f" not in high and b"\xff" not in high:
        return True
    # A sum is finite unless a part of it is not, or it overflows a double, which float32 cannot.
    return math.isfinite(sum(numbers(vector)))


def _vector(raw: Any) -> bytes:
    if isinstance(raw, str):
        vector = _from_base64(raw)
    elif isinstance(raw, list):
        vector = _from_floats(raw)
    else:
        raise bad_answer()
    if not vector or not is_finite(vector):
        raise bad_answer()
    return vector


def _from_base64(raw: str) -> bytes:
    try:
        vector = pybase64.b64decode(raw, validate=True)
    except (binascii.Error, ValueError):
        raise bad_answer() from None
    if len(vector) % BYTES_PER_NUMBER:
        raise bad_answer()
    return vector


def _from_floats(raw: list[Any]) -> bytes:
    if not all(type(number) in (float, int) for number in raw):
        raise bad_answer()
    # What is too large for float32 becomes infinite here, and is found as such.
    values = array.array("f", raw)
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def _tokens(usage: Any) -> int:
    tokens = usage.get("total_tokens") if isinstance(usage, dict) else None
    if type(tokens) is not int or tokens < 0:
        raise bad_answer()
    return tokens
