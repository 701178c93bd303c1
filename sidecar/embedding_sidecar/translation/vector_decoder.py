"""Vectors as bytes: little-endian float32, bit for bit what the model made.

Most providers send them in OpenAI's shape: a list of `{"index": i, "embedding": base64 | [float,
...]}`. Source: OpenAI's OpenAPI description (Embedding); Voyage's reference has the same. A `Form`
says where another vendor has list, vectors and tokens.

A long answer is read item by item while it comes: read at once, it would take several times the
memory of its vectors, and stop the event loop for seconds.
"""

import array
import binascii
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from enum import Enum, auto
from typing import Any, Final, NamedTuple

import orjson
import pybase64

from embedding_sidecar import errors
from embedding_sidecar.translation import error_words

MAX_NUMBERS: Final = 16_384
"""Bound of a vector whose size is unknown: the widest language models have no more."""
MAX_TOKENS: Final = 10**9
"""Bound of one answer's tokens, more than any request holds."""
WHOLE_BYTES: Final = 2**18
"""A longer answer is read while it comes; 28 vectors of 1536 numbers in base64 are shorter."""
MAX_ENVELOPE_BYTES: Final = 2**16
"""Bound of the JSON before the first item, and of that behind the last."""
NUMBER_BYTES: Final = 40
"""Bound of a number in JSON with its separator: a float64 has 24 characters, and indented JSON adds
as many spaces."""
ITEM_BYTES: Final = 4096
"""Bound of the rest of an item."""
_TRIES: Final = 16
"""Bound of braces within an item, and of places that look like the beginning of `data`."""
BYTES_PER_NUMBER: Final = 4
_SPACE: Final = re.compile(rb"[ \t\r\n]*")


class Vectors(NamedTuple):
    """One vector for each item, in order, as little-endian float32; `tokens` were billed.

    A translation gives None where the provider states none; a call puts the upper bound of the
    request in its place, and sets `is_estimated`.
    """

    vectors: tuple[bytes, ...]
    tokens: int | None
    is_estimated: bool = False


def count(found: object, *names: str) -> int | None:
    """The first of these fields that is a count of tokens, rounded up; None where none is."""
    if not isinstance(found, dict):
        return None
    for name in names:
        tokens = found.get(name)
        if type(tokens) is not int:
            if type(tokens) is not float or not math.isfinite(tokens):
                continue
            tokens = math.ceil(tokens)
        if 0 <= tokens <= MAX_TOKENS:
            return tokens
    return None


def _openai_tokens(answer: Mapping[str, Any]) -> int | None:
    # Without output tokens both names mean the same.
    return count(answer.get("usage"), "total_tokens", "prompt_tokens")


@dataclass(frozen=True, slots=True)
class Form:
    """The places in a vendor's 2xx.

    `items` names a list at the top, whose entries are objects with `index`, where they have one,
    and the vector as `vector`. It is read item by item. A vendor without such a list says by
    `entries` what it would hold, given the whole answer; None says that there are no vectors.
    `tokens` is what the answer says was billed, None where it says nothing.
    """

    items: str = "data"
    vector: str = "embedding"
    _: KW_ONLY
    tokens: Callable[[Mapping[str, Any]], int | None] = _openai_tokens
    entries: Callable[[Mapping[str, Any]], list[Any] | None] | None = None
    beginning: re.Pattern[bytes] = field(init=False, repr=False)
    """The pattern finds the beginning of the list."""

    def __post_init__(self) -> None:
        """Compile the pattern."""
        pattern = rb'"%b"\s*:\s*\[' % re.escape(self.items).encode()
        object.__setattr__(self, "beginning", re.compile(pattern))

    def list_of(self, answer: Mapping[str, Any]) -> object:
        """The list of a whole answer, or whatever stands in its place."""
        return answer.get(self.items) if self.entries is None else self.entries(answer)


OPENAI: Final = Form()


def bad_answer() -> errors.Unusable:
    """The error of an unusable 2xx: another provider may answer, and this one may be paid."""
    return errors.Unusable("bad_answer", billed=True)


def numbers(vector: bytes) -> "array.array[float]":
    """The numbers of a vector, in this machine's byte order."""
    values = array.array("f", vector)
    if sys.byteorder == "big":
        values.byteswap()
    return values


class _Part(Enum):
    """The next part of a long answer."""

    DATA = auto()
    ITEM = auto()
    BETWEEN = auto()
    TAIL = auto()


class Reader:
    """Reads the body of a 2xx as it comes, so that no more is held than was asked for.

    It holds the vectors that are read, and at most one item, the envelope and the last chunk
    unread. Once `is_lost`, it can be no answer any more, whatever follows.
    """

    # Most answers are short and need none of these.
    is_lost = False
    _part: _Part | None = None
    """None for a short answer."""
    _before = b""
    _rest = bytearray()  # replaced, never filled
    _looked_at = 0
    """The end of the bytes that were searched for the end of an item."""
    _tries = 0
    _failure: errors.Unusable | None = None
    _in_place = True
    """True while each item's index, where it has one, is its place."""

    def __init__(
        self,
        *,
        count: int,
        dimensions: int | None,
        form: Form = OPENAI,
        echo_bytes: int = 0,
    ) -> None:
        """`echo_bytes`: so much of the request a vendor without a list may repeat."""
        self._count = count
        self._form = form
        self._most_bytes = (dimensions or MAX_NUMBERS) * BYTES_PER_NUMBER
        """Bound of a vector."""
        self._asked = dimensions
        self._vector_bytes = 0 if dimensions is None else dimensions * BYTES_PER_NUMBER
        """Size of each vector; 0 while that is unknown."""
        self._read: list[tuple[int | None, bytes]] = []
        """Vectors in order, each with its index if it has one."""
        self._chunks: list[bytes] = []
        self._chunks_bytes = 0
        self._whole_bytes = WHOLE_BYTES
        """A longer answer is read item by item, or lost where it has no list."""
        if form.entries is not None:
            item_bytes = (dimensions or MAX_NUMBERS) * NUMBER_BYTES + ITEM_BYTES
            self._whole_bytes += count * item_bytes + echo_bytes

    @property
    def held_bytes(self) -> int:
        """Bytes that it holds now."""
        return self._chunks_bytes + len(self._rest) + len(self._read) * self._vector_bytes

    def feed(self, chunk: bytes) -> None:
        """Take the next chunk."""
        if self.is_lost:
            return
        if self._part is None:
            self._chunks.append(chunk)
            self._chunks_bytes += len(chunk)
            if self._chunks_bytes <= self._whole_bytes:
                return
            if self._form.entries is not None:
                self.drop()
                return
            self._part = _Part.DATA
            self._rest = bytearray(b"".join(self._chunks).removeprefix(error_words.BOM))
            self._chunks, self._chunks_bytes = [], 0
        else:
            self._rest += chunk
        try:
            self._go_on()
        except errors.Unusable as failure:
            self.drop()
            self._failure = failure.as_value()

    def drop(self) -> None:
        """Give the answer up, and free the memory."""
        self.is_lost = True
        self._chunks, self._chunks_bytes, self._read = [], 0, []
        self._rest = bytearray()

    def vectors(self) -> Vectors:
        """The vectors of the whole answer.

        Raises:
            errors.Unusable: it was given up, or does not answer the request.
        """
        if self.is_lost:
            raise self._failure or bad_answer()
        is_short = self._part is None
        if not (is_short or self._part is _Part.TAIL):
            raise bad_answer()
        # Only the envelope of a long one is left.
        body = b"".join(self._chunks) if is_short else b"%b]%b" % (self._before, bytes(self._rest))
        try:
            raw = orjson.loads(body.removeprefix(error_words.BOM))
        except orjson.JSONDecodeError:
            raw = None
        data = self._form.list_of(raw) if isinstance(raw, dict) else None
        if not isinstance(data, list) or (data and not is_short):
            failure = bad_answer()
            if is_short:
                # An error or a page with status 200: LM Studio and portals send them.
                failure.words = error_words.said(body)
            raise failure
        for entry in data:
            self._take(entry)
        if len(self._read) != self._count:
            raise bad_answer()
        found = tuple([vector for _, vector in self._read] if self._in_place else self._by_index())
        return Vectors(found, self._form.tokens(raw))

    def _go_on(self) -> None:
        """Read the items that have come. Raises errors.Unusable."""
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
                if self._asked and self._part is _Part.ITEM and not self._read:
                    # Its first vector is longer than the one that was asked for.
                    raise errors.WrongSize(0)
                raise bad_answer()

    def _find_data(self) -> None:
        beginning = bytes(self._rest[:MAX_ENVELOPE_BYTES])
        for found in self._form.beginning.finditer(beginning):
            self._tries += 1
            before = beginning[: found.end()]
            try:
                raw = orjson.loads(before + b"]}")
            except orjson.JSONDecodeError:
                # In a text, or in an object within.
                if self._tries >= _TRIES:
                    break
                continue
            if raw.get(self._form.items) == []:
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
        """Read the item that begins there; its end, or None if that has not come."""
        if self._rest[start : start + 1] != b"{":
            raise bad_answer()
        at = max(start, self._looked_at)
        while (end := self._rest.find(b"}", at)) >= 0:
            at = self._looked_at = end + 1
            try:
                entry = orjson.loads(self._rest[start:at])
            except orjson.JSONDecodeError:
                # A brace in an object within, or in a text.
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
        if not isinstance(entry, dict):
            raise bad_answer()
        index = entry.get("index")
        if type(index) is float and index.is_integer():
            index = int(index)
        place = len(self._read)
        if place == self._count or not (
            index is None or (type(index) is int and 0 <= index < self._count)
        ):
            raise bad_answer()
        vector = _vector(entry.get(self._form.vector))
        if len(vector) != self._vector_bytes:
            self._take_size(len(vector))
        if index is not None and index != place:
            self._in_place = False
        self._read.append((index, vector))

    def _take_size(self, vector_bytes: int) -> None:
        """Take the size of the first vector for that of all, unless another one is known."""
        if self._asked and not self._read:
            raise errors.WrongSize(vector_bytes // BYTES_PER_NUMBER)
        if self._vector_bytes or vector_bytes > self._most_bytes:
            raise bad_answer()
        self._vector_bytes = vector_bytes

    def _by_index(self) -> Iterator[bytes]:
        """All vectors by index. One may have none, and is the first.

        protobuf's JSON leaves 0 out, so Gemini does.
        """
        by_index = {index or 0: vector for index, vector in self._read}
        if len(by_index) < self._count:
            raise bad_answer()
        return map(by_index.__getitem__, range(self._count))


def is_finite(vector: bytes) -> bool:
    """True if all numbers of a vector are finite."""
    # Infinities and NaN have a high byte of 0x7f or 0xff, and so have numbers from 2^127 on, which
    # no model makes: all numbers need rarely be read.
    high = vector[3::4]
    if b"\x7f" not in high and b"\xff" not in high:
        return True
    # A sum is finite unless a part of it is not, or it overflows a double, which float32 cannot.
    return math.isfinite(sum(numbers(vector)))


def _vector(raw: Any) -> bytes:
    if isinstance(raw, str):
        try:
            vector = pybase64.b64decode(raw, validate=True)
        except (binascii.Error, ValueError):
            raise bad_answer() from None
    elif isinstance(raw, list):
        vector = _from_floats(raw)
    else:
        raise bad_answer()
    if not vector or len(vector) % BYTES_PER_NUMBER or not is_finite(vector):
        raise bad_answer()
    return vector


def _from_floats(raw: list[Any]) -> bytes:
    if not all(type(number) in (float, int) for number in raw):
        raise bad_answer()
    # A number too large for float32 becomes infinite here, and is found as such.
    values = array.array("f", raw)
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()
