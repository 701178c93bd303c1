"""A sliding window of a minute, as a value: the rules of the script in `window_script`.

Draws are summed in buckets. Counted are the buckets that touch the time of the window, so a window
never holds more than its limits, and a draw is counted for up to one bucket longer than it need be.
A pod counts in a window of its own while Redis is away.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from embedding_contract import class_keys

PREFIX: Final = class_keys.RATE_PREFIX
BUCKET_MS: Final = 500
FRESH_MS: Final = 1_000
"""A draw may be spent for so long; then it is given back, and drawn again."""
WINDOW_MS: Final = 60_000 + FRESH_MS
"""A minute of what is sent, each at most FRESH_MS after it was drawn."""
_WHOLE: Final = 100


class Need(NamedTuple):
    """One call or several, the most tokens that they may take, and their class."""

    tokens: int
    background: bool = False
    calls: int = 1


class Terms(NamedTuple):
    """Limits of any minute, None for none, and the part of them that background work leaves.

    With `observes`, all is granted and counted.
    """

    calls: int | None = None
    tokens: int | None = None
    reserved_percent: int = 0
    observes: bool = False


class Drawn(NamedTuple):
    """The answer to needs in their order, of which the first `granted` are drawn now.

    `fit_calls` and `fit_tokens` of them are within each limit. After `wait_ms` the next one fits,
    if nobody else draws; 0 where all are granted. `calls` and `tokens` are what is counted.
    """

    now_ms: int
    granted: int
    fit_calls: int
    fit_tokens: int
    wait_ms: int
    calls: int
    tokens: int


Returns = Mapping[int, tuple[int, int]]
"""Calls and tokens to give back, by the bucket that they were drawn in."""


class Message(NamedTuple):
    """The draws of one pod from a window, and the units it returns; `sequence` grows with each."""

    key: str
    pod: str
    sequence: int
    terms: Terms
    needs: Sequence[Need]
    returns: Returns


class Window:
    """The draws of about a minute. Times are in milliseconds, by one clock."""

    def __init__(self, *, bucket_ms: int = BUCKET_MS, window_ms: int = WINDOW_MS) -> None:
        self._bucket_ms = bucket_ms
        self._window_ms = window_ms
        self._buckets: dict[int, tuple[int, int]] = {}
        """Calls and tokens by the number of the bucket, the oldest first."""
        self._calls = self._tokens = 0
        """Their sums."""

    def draw(self, needs: Sequence[Need], terms: Terms, *, now_ms: int) -> Drawn:
        """Draw for these needs, in order, up to the first that does not fit."""
        self._forget(now_ms)
        fit_calls = fit_tokens = granted = 0
        calls, tokens = drawn_calls, drawn_tokens = self._calls, self._tokens
        limits = most(terms, background=False), most(terms, background=True)
        for at, need in enumerate(needs):
            drawn_calls, drawn_tokens = drawn_calls + need.calls, drawn_tokens + need.tokens
            most_calls, most_tokens = limits[need.background]
            if fit_calls == at and (most_calls is None or drawn_calls <= most_calls):
                fit_calls += 1
            if fit_tokens == at and (most_tokens is None or drawn_tokens <= most_tokens):
                fit_tokens += 1
            if at < min(fit_calls, fit_tokens) or terms.observes:
                granted, calls, tokens = at + 1, drawn_calls, drawn_tokens
        if granted:
            self._add(now_ms // self._bucket_ms, calls - self._calls, tokens - self._tokens)
        wait_ms = 0
        if granted < len(needs):
            wait_ms = self._wait_ms(needs[granted], terms, now_ms=now_ms)
        return Drawn(now_ms, granted, fit_calls, fit_tokens, wait_ms, calls, tokens)

    def give_back(self, at_ms: int, *, calls: int, tokens: int) -> None:
        """Take back a part of what was drawn at this time, if that still counts."""
        bucket = at_ms // self._bucket_ms
        if bucket in self._buckets:
            before = self._buckets[bucket]
            self._add(bucket, -min(calls, before[0]), -min(tokens, before[1]))

    def _add(self, bucket: int, calls: int, tokens: int) -> None:
        before = self._buckets.get(bucket, (0, 0))
        self._buckets[bucket] = before[0] + calls, before[1] + tokens
        self._calls += calls
        self._tokens += tokens

    def _forget(self, now_ms: int) -> None:
        """Forget the buckets that are over; later ones, by a clock that went back, are of now."""
        oldest = (now_ms - self._window_ms) // self._bucket_ms
        current = now_ms // self._bucket_ms
        while self._buckets and (bucket := next(iter(self._buckets))) < oldest:
            self._drop(bucket)
        later = []
        while self._buckets and (bucket := next(reversed(self._buckets))) > current:
            later.append(self._drop(bucket))
        for calls, tokens in later:
            self._add(current, calls, tokens)

    def _drop(self, bucket: int) -> tuple[int, int]:
        calls, tokens = self._buckets.pop(bucket)
        self._calls -= calls
        self._tokens -= tokens
        return calls, tokens

    def _wait_ms(self, need: Need, terms: Terms, *, now_ms: int) -> int:
        most_calls, most_tokens = most(terms, background=need.background)
        calls, tokens = self._calls, self._tokens
        for bucket, (its_calls, its_tokens) in self._buckets.items():
            calls -= its_calls
            tokens -= its_tokens
            if (most_calls is None or calls + need.calls <= most_calls) and (
                most_tokens is None or tokens + need.tokens <= most_tokens
            ):
                return (bucket + 1) * self._bucket_ms + self._window_ms - now_ms
        return self._window_ms


def most(terms: Terms, *, background: bool) -> tuple[int | None, int | None]:
    """Calls and tokens of a minute that this class may draw up to."""
    if not background:
        return terms.calls, terms.tokens
    return _unreserved(terms.calls, terms), _unreserved(terms.tokens, terms)


def _unreserved(limit: int | None, terms: Terms) -> int | None:
    # The reserve is rounded up, as that of a day is.
    return None if limit is None else limit * (_WHOLE - terms.reserved_percent) // _WHOLE


def key(holder: str, provider: str) -> str:
    """The window of a provider of a holder: a policy's scope, or a class.

    The tag keeps a holder's windows on nodes of a Redis Cluster by their whole name.
    """
    return f"{PREFIX}{{{holder}/{provider}}}"
