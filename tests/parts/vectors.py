"""Vectors as bits: as the stand-in provider makes them, and as a client has decoded them."""

import array
import sys
from collections.abc import Iterable

from tests.fakes import provider

MODEL = "text-embedding-3-small"


def made(*items: object, dimensions: int = provider.DIMENSIONS) -> list[bytes]:
    """The bits the provider makes of each item: little-endian float32."""
    return [provider.vector(MODEL, item, dimensions) for item in items]


def bits(numbers: Iterable[float]) -> bytes:
    """Numbers as little-endian float32; each must be one that float32 holds exactly."""
    found = list(numbers)
    values = array.array("f", found)
    assert list(values) == found
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()
