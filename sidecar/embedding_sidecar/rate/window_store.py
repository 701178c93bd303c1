"""The windows of a Redis: one hash for each provider of a policy, one script, which runs alone."""

import asyncio
from typing import Any, Final

import redis.asyncio

from embedding_contract import json_fields
from embedding_sidecar import errors
from embedding_sidecar.rate.window import (
    BUCKET_MS,
    FRESH_MS,
    PREFIX,
    WINDOW_MS,
    Drawn,
    Message,
    most,
)
from embedding_sidecar.rate.window_script import DRAW
from embedding_sidecar.redis_client import scripts

_NEEDS: Final = scripts.Rights(f"{PREFIX}*", "+time +hlen +hgetall +hmget +hset +hdel +expire")
BUDGET_SECONDS: Final = FRESH_MS / 1000
"""Time-out of a draw; a later answer could not be spent any more."""
_KEPT_SECONDS: Final = 2 * WINDOW_MS // 1000
_MAX_FIELDS: Final = 16_384
"""Buckets of a minute, and pods that drew in it: room for thousands."""
_SWEEP_MS: Final = 15_000
"""All fields are read again after this time: some 3 ms of Redis for 1,000 pods."""
_MAX_NOW_MS: Final = 10**13 - 1
"""In the year 2286; the script takes no longer figure."""
_MAX_FIGURE: Final = max(json_fields.MAX_COUNT, _MAX_NOW_MS)
_MAX_FIELD: Final = 40
_ANSWER: Final = [int] * 8
_CANNOT_BE: Final = [int, bytes]


class RedisWindows:
    """Draws, over a client of redis_url.connect."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._script = scripts.of(client, DRAW, needs=_NEEDS)

    async def draw(self, message: Message) -> Drawn:
        """Carry a message out. On errors.StoreAway that may be done, or be done later."""
        try:
            async with asyncio.timeout(BUDGET_SECONDS):
                answer = await self._script.run(message.key, words(message))
        except TimeoutError as error:
            raise errors.StoreAway(type(error).__name__) from error
        drawn = _drawn(answer, message)
        if drawn is None:
            self._script.reset()
            raise errors.StoreAway("the answer does not belong to the command")
        if isinstance(drawn, str):
            raise errors.StoreCorrupt(f"{drawn} in {message.key}")
        return drawn

    async def close(self) -> None:
        """End the commands under way, and the connections."""
        await self._script.close()
        await self._client.aclose()


def words(message: Message) -> list[str | int]:
    """The script's arguments."""
    terms = message.terms
    limits = (*most(terms, background=False), *most(terms, background=True))
    return [
        message.pod,
        message.sequence,
        *(-1 if limit is None else limit for limit in limits),
        int(terms.observes),
        BUCKET_MS,
        WINDOW_MS,
        _MAX_FIGURE,
        _MAX_FIELDS,
        _KEPT_SECONDS,
        _SWEEP_MS,
        len(message.returns),
        *(it for at, (calls, tokens) in message.returns.items() for it in (at, calls, tokens)),
        len(message.needs),
        *(it for need in message.needs for it in (need.tokens, int(need.background), need.calls)),
    ]


def _drawn(answer: Any, message: Message) -> Drawn | str | None:
    """The script's answer; None where it answers another message, a text where it cannot be."""
    if isinstance(answer, list) and list(map(type, answer)) == _CANNOT_BE:
        told, field = answer
        return field.decode(errors="replace")[:_MAX_FIELD] if told == message.sequence else None
    if not isinstance(answer, list) or list(map(type, answer)) != _ANSWER:
        return None
    told, *figures = answer
    if told != message.sequence:
        return None
    drawn = Drawn(*figures)
    return drawn if _can_be(drawn, message) else "an answer"


def _can_be(drawn: Drawn, message: Message) -> bool:
    """True if the answer is possible: a store that lies must not make us spend."""
    count, granted = len(message.needs), drawn.granted
    fit = min(drawn.fit_calls, drawn.fit_tokens)
    return (
        0 < drawn.now_ms <= _MAX_NOW_MS
        and 0 <= drawn.fit_calls <= count
        and 0 <= drawn.fit_tokens <= count
        and granted == (count if message.terms.observes else fit)
        and (drawn.wait_ms == 0 if granted == count else 0 < drawn.wait_ms <= WINDOW_MS + BUCKET_MS)
        and 0 <= drawn.calls <= _MAX_FIGURE
        and 0 <= drawn.tokens <= _MAX_FIGURE
    )
