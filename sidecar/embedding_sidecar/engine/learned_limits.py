"""Limits of a request to one provider, learned from its answers by kind, and forgotten again.

Four limits are learned apart: items, bytes, tokens of one item, and the size done in time. A
batch that is refused as too large is halved until its halves pass; then the half's size is the
limit, of bytes after a 413 and of items after a 400 or 422, unless sizes that passed lately show
that it must be the other. An item that is refused alone, and larger than any that passed, may be
too long: items of its size then go alone, so that no batch is halved again to find them. No item is
refused without a call, as its tokens are known by a bound only. After RAISE_SECONDS a limit counts
twice as much, then four times, until it limits no request.
"""

from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from embedding_sidecar.translation import provider_api

RAISE_SECONDS: Final = 600.0
_MOST_RAISES: Final = 32
TOO_LARGE: Final = 413
_LEAST_BODY_BYTES: Final = 65_536
"""No server refuses a smaller body for its bytes (Express, the strictest known, takes 100 kB): it
counts items then, as Hugging Face's text-embeddings-inference does."""
_LEAST_ITEM_TOKENS: Final = 256
"""No known model takes fewer: a shorter item is not refused for its length."""
_MOST_ITEM_TOKENS: Final = 2**20
"""No item has more by its bound (openai_json.MAX_ITEM_BYTES)."""


class Size(NamedTuple):
    """Size of a request: items, and bounds of their bytes as JSON and of the largest's tokens."""

    items: int
    size_bytes: int
    item_tokens: int = 0


_NOTHING: Final = Size(0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Met:
    """A limit, of a half that passed; `refused` is the whole that did not; `at` is in seconds."""

    passed: Size
    refused: Size
    at: float

    def raised(self, value: int, *, now: float) -> int:
        """The limit as raised until now."""
        raises = min(int(max(now - self.at, 0.0) // RAISE_SECONDS), _MOST_RAISES)
        return int(value * 2**raises)


@dataclass(slots=True)
class Learned:
    """The limits learned from one provider's answers."""

    _items: _Met | None = None
    _bytes: _Met | None = None
    _time: _Met | None = None
    _item_tokens: _Met | None = None
    _passed: Size = _NOTHING
    """The largest of each size that has passed since `_passed_at`."""
    _passed_at: float = field(default=0.0)

    @property
    def is_slow(self) -> bool:
        """True if a request ran out of time: its parts then go one after the other."""
        return self._time is not None

    def passed(self, size: Size, *, now: float) -> None:
        """A request of this size was answered."""
        if now - self._passed_at >= RAISE_SECONDS:
            self._passed, self._passed_at = _NOTHING, now
        before = self._passed
        self._passed = Size(*map(max, before, size))
        # A size that had been refused has passed: the limit is of the other kind.
        if self._bytes is not None and size.size_bytes >= self._bytes.refused.size_bytes:
            self._items, self._bytes = self._items or self._bytes, None
        elif self._items is not None and size.items >= self._items.refused.items:
            self._items, self._bytes = None, self._bytes or self._items
        if self._item_tokens and size.item_tokens >= self._item_tokens.refused.item_tokens:
            self._item_tokens = None

    def halved(self, whole: Size, half: Size, *, status: int, now: float) -> None:
        """A request was refused with this status, and both its halves were answered."""
        met = _Met(passed=half, refused=whole, at=now)
        by_bytes = status == TOO_LARGE and whole.size_bytes > _LEAST_BODY_BYTES
        if now - self._passed_at < RAISE_SECONDS:
            if by_bytes and self._passed.size_bytes >= whole.size_bytes:
                by_bytes = False
            elif not by_bytes and self._passed.items >= whole.items:
                by_bytes = True
        if by_bytes:
            self._bytes = met
        else:
            self._items = met

    def refused_alone(self, size: Size, *, now: float) -> None:
        """A request of one item was refused with a status that may be about its length."""
        is_of_late = now - self._passed_at < RAISE_SECONDS
        passed = self._passed.item_tokens if is_of_late else 0
        if size.item_tokens < _LEAST_ITEM_TOKENS or size.item_tokens <= passed:
            return
        met = self._item_tokens
        if met is not None and met.refused.item_tokens < size.item_tokens:
            size = met.refused
        self._item_tokens = _Met(passed=size, refused=size, at=now)

    def timed_out(self, size: Size, *, now: float) -> None:
        """A request of this size was not answered in time."""
        half = Size((size.items + 1) // 2, (size.size_bytes + 1) // 2)
        self._time = _Met(passed=half, refused=size, at=now)

    def within(self, limits: provider_api.Limits, *, now: float) -> provider_api.Limits:
        """These limits with the learned ones, which are forgotten once raised to these."""
        if self._items is not None:
            items = self._items.raised(self._items.passed.items, now=now)
            if items >= limits.items:
                self._items = None
            else:
                limits = replace(limits, items=items)
        if self._item_tokens is not None:
            refused = self._item_tokens.refused.item_tokens
            tokens = self._item_tokens.raised(refused, now=now)
            if tokens > _MOST_ITEM_TOKENS:
                self._item_tokens = None
            else:
                limits = replace(limits, alone_from_tokens=tokens)
        for name in ("_bytes", "_time"):
            met: _Met | None = getattr(self, name)
            if met is None:
                continue
            size_bytes = met.raised(met.passed.size_bytes, now=now)
            is_over = limits.body_bytes is not None and size_bytes >= limits.body_bytes
            if is_over or now - met.at >= RAISE_SECONDS * _MOST_RAISES:
                if name == "_bytes" or now - met.at >= RAISE_SECONDS:
                    setattr(self, name, None)
            else:
                limits = replace(limits, body_bytes=size_bytes)
        return limits
