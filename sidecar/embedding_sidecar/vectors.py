"""Vectors as bytes: little-endian float32, bit for bit what the model made.

Providers say them in one shape: a list of `{"index": i, "embedding": base64 | [float, ...]}`.
Source: OpenAI's OpenAPI description (Embedding); Voyage's reference says the same.

A long answer is read item by item while it comes. Whole, it and the numbers it is made of would be
several times as large as its vectors, and reading it would hold everybody up for seconds.
"""

import array
import binascii
import math
import re
import sys
from enum import Enum, auto
from typing import Any, Final

import orjson
import pybase64

from embedding_sidecar import errors, provider

MAX_NUMBERS: Final = 16_384
"""Of a vector whose size is not known: the widest language models have no more."""
WHOLE_BYTES: Final = 2**18
"""A longer answer is read while it comes; 28 vectors of 1536 numbers in base64 are shorter."""
MAX_ENVELOPE_BYTES: Final = 2**16
"""Of all that stands before the first item, and of all behind the last."""
NUMBER_BYTES: Final = 40
"""A number in JSON with what separates it from the next: a float64 has 24 digits and signs, and who
indents lines adds as many spaces."""
ITEM_BYTES: Final = 4096
"""What else an item says."""
_TRIES: Final = 16
"""Objects or braces within an item, and places that look like the beginning of `data`."""
BYTES_PER_NUMBER: Final = 4
_DATA: Final = re.compile(rb'"data"\s*:\s*\[')
_SPACE: Final = re.compile(rb"[ \t\r\n]*")


def read(answer: provider.HttpAnswer, *, count: int, dimensions: int | None) -> provider.Vectors:
    """Read a 200: `count` vectors of one size, which is `dimensions` where that was asked for.

    Raises:
        errors.Unusable: anything else than one finite vector for each item.
    """
    reader = answer.reader
    if reader is None:
        reader = Reader(count=count, dimensions=dimensions)
        reader.feed(answer.body)
    return reader.vectors()


def bad_answer() -> errors.Unusable:
    """What a 200 of no use means: somebody else may answer, and we may have paid."""
    return errors.Unusable("bad_answer", billed=True)


def numbers(vector: bytes) -> "array.array[float]":
    """The numbers of a vector, in this machine's byte order."""
    values = array.array("f", vector)
    if sys.byteorder == "big":
        values.byteswap()
    return values


class _Part(Enum):
    """Which part of a long answer comes next."""

    DATA = auto()
    ITEM = auto()
    BETWEEN = auto()
    TAIL = auto()


class Reader:
    """Reads one answer; as provider.Body.

    It holds the vectors that are read, and of what is not yet read at most one item, the envelope
    and what came last.
    """

    # Most answers are short, and need none of this.
    is_lost = False
    _part: _Part | None = None
    """None while it is short."""
    _before = b""
    _rest = bytearray()  # replaced, never filled
    _looked_at = 0
    """How far it has been looked for the end of an item."""
    _tries = 0

    def __init__(self, *, count: int, dimensions: int | None) -> None:
        self._count = count
        self._most_bytes = (dimensions or MAX_NUMBERS) * BYTES_PER_NUMBER
        """Of a vector."""
        self._vector_bytes = 0 if dimensions is None else dimensions * BYTES_PER_NUMBER
        """Of each vector; 0 while that is unknown."""
        self._read: dict[int, bytes] = {}
        self._chunks: list[bytes] = []
        self._chunks_bytes = 0

    @property
    def held_bytes(self) -> int:
        """What it holds by now."""
        return self._chunks_bytes + len(self._rest) + len(self._read) * self._vector_bytes

    def feed(self, chunk: bytes) -> None:
        """Take what comes next."""
        if self.is_lost:
            return
        if self._part is None:
            self._chunks.append(chunk)
            self._chunks_bytes += len(chunk)
            if self._chunks_bytes <= WHOLE_BYTES:
                return
            self._part = _Part.DATA
            self._rest = bytearray(b"".join(self._chunks))
            self._chunks, self._chunks_bytes = [], 0
        else:
            self._rest += chunk
        try:
            self._go_on()
        except errors.Unusable:
            self.drop()

    def drop(self) -> None:
        """Let go of all that is held: it is lost."""
        self.is_lost = True
        self._chunks, self._chunks_bytes = [], 0
        self._read = {}
        self._rest = bytearray()

    def vectors(self) -> provider.Vectors:
        """What it said.

        Raises:
            errors.Unusable: it is lost, or says something else than was asked.
        """
        if self.is_lost:
            raise bad_answer()
        if self._part is None:
            raw = _json(b"".join(self._chunks))
            data = raw.get("data") if isinstance(raw, dict) else None
            if not isinstance(data, list):
                raise bad_answer()
            for entry in data:
                self._take(entry)
        elif self._part is _Part.TAIL:
            raw = _json(b"%b]%b" % (self._before, bytes(self._rest)))
            if not isinstance(raw, dict) or raw.get("data") != []:
                raise bad_answer()
        else:
            raise bad_answer()
        if len(self._read) != self._count:
            raise bad_answer()
        read = self._read
        return provider.Vectors(
            tuple(map(read.__getitem__, range(self._count))), _tokens(raw.get("usage"))
        )

    def _go_on(self) -> None:
        """Read as far as it has come. Raises errors.Unusable."""
        if self._part is _Part.DATA:
            self._find_data()
        at = 0
        while self._part is _Part.ITEM or self._part is _Part.BETWEEN:
            start = _SPACE.match(self._rest, at).end()  # type: ignore[union-attr] # matches all
            if start == len(self._rest):
                break
            end = self._between(start) if self._part is _Part.BETWEEN else self._item(start)
            if end is None:
                break
            at = end
        del self._rest[:at]
        self._looked_at = max(self._looked_at - at, 0)
        if self._part is _Part.TAIL:
            if len(self._rest) > MAX_ENVELOPE_BYTES:
                raise bad_answer()
        else:
            numbers = (self._vector_bytes or self._most_bytes) // BYTES_PER_NUMBER
            if len(self._rest) > numbers * NUMBER_BYTES + ITEM_BYTES:
                raise bad_answer()

    def _find_data(self) -> None:
        beginning = bytes(self._rest[:MAX_ENVELOPE_BYTES])
        for found in _DATA.finditer(beginning):
            self._tries += 1
            before = beginning[: found.end()]
            try:
                raw = orjson.loads(before + b"]}")
            except orjson.JSONDecodeError:
                # Within a text, or deeper.
                if self._tries >= _TRIES:
                    break
                continue
            if raw.get("data") == []:
                self._before = before
                self._part, self._tries = _Part.ITEM, 0
                del self._rest[: found.end()]
                return
        raise bad_answer()

    def _between(self, start: int) -> int | None:
        character = self._rest[start : start + 1]
        if character == b",":
            self._part = _Part.ITEM
        elif character == b"]":
            self._part = _Part.TAIL
        else:
            raise bad_answer()
        return start + 1

    def _item(self, start: int) -> int | None:
        """The end of the item that begins there, which is read; None where it has not come."""
        if self._rest[start : start + 1] != b"{":
            raise bad_answer()
        at = max(start, self._looked_at)
        while (end := self._rest.find(b"}", at)) >= 0:
            at = self._looked_at = end + 1
            try:
                entry = orjson.loads(self._rest[start:at])
            except orjson.JSONDecodeError:
                # A brace of an object within it, or within a text.
                self._tries += 1
                if self._tries > _TRIES:
                    raise bad_answer() from None
                continue
            self._take(entry)
            self._part, self._tries = _Part.BETWEEN, 0
            return at
        self._looked_at = len(self._rest)
        return None

    def _take(self, entry: Any) -> None:
        index = entry.get("index") if isinstance(entry, dict) else None
        if type(index) is not int or not 0 <= index < self._count or index in self._read:
            raise bad_answer()
        vector = _vector(entry.get("embedding"))
        self._vector_bytes = self._vector_bytes or len(vector)
        if len(vector) != self._vector_bytes or len(vector) > self._most_bytes:
            raise bad_answer()
        self._read[index] = vector


def _json(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise bad_answer() from None


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
