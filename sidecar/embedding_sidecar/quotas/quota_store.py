"""The leases of a policy's day in Redis: one hash a day, one script, which runs alone.

Fields: `calls`, `tokens` (counted), `spent_calls`, `spent_tokens` (as their holders said),
`revision`, `incarnation`, `forgot`, and for each lease `lease:ID` with its sequence, calls, tokens,
spent calls and spent tokens. The day is UTC by Redis's own clock; its hash stays for two days.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import redis.asyncio
import redis.exceptions

from embedding_contract import json_fields
from embedding_sidecar import errors
from embedding_sidecar.quotas import scripts
from embedding_sidecar.quotas.claim_script import CLAIM
from embedding_sidecar.quotas.claims import DAY_SECONDS, NOTHING, Amounts, Claim, Count

PREFIX: Final = "aos:embedding:quota:"
BUDGET_SECONDS: Final = 1.0
"""How long a claim may take. Redis answers in a millisecond, but may have to wait for a disk."""
NEAR_THE_LIMIT: Final = 16
"""A claim gets this part of what is left at most, or what it needs: the last calls one by one."""
KEPT_SECONDS: Final = 2 * DAY_SECONDS
MAX_FIGURE: Final = json_fields.MAX_COUNT
"""No counter of a day is larger; no limit is either."""
MAX_SUMMED: Final = 64
"""Leases that are added up for each claim, to see that no counter is below them."""
_MAX_DAY: Final = 2_900_000
"""Days since 1970, in the year 9909: later ones are no dates to Python."""
_MAX_INCARNATION: Final = 64

_SHORT: Final = ("", "calls", "tokens")
_ANSWER: Final = [*[int] * 10, bytes, int, int]
"""The types of what the script replies."""
_CANNOT_BE: Final = [int, bytes]
"""Likewise, where the day holds what cannot be."""
_MAX_FIELD: Final = 40
_NEEDED: Final = {"maxmemory-policy": "noeviction", "appendonly": "yes", "appendfsync": "always"}


class RedisStore:
    """Claims, over a client of redis_url.connect."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._script = scripts.of(client, CLAIM)

    async def claim(self, claim: Claim) -> Count:
        """Carry a claim out.

        Raises:
            errors.StoreAway: it may, or may not, be carried out, now or later.
        """
        limits, seen = claim.limits, claim.seen
        # The tag keeps all days of a policy on one node of a Redis Cluster.
        key = f"{PREFIX}{{{claim.scope}}}"
        words: list[str | int] = [
            claim.lease,
            claim.sequence,
            claim.day,
            *(-1 if limit is None else limit for limit in (limits.calls, limits.tokens)),
            *(
                number
                for amounts in (claim.floor, claim.spent, claim.need, claim.want)
                for number in (amounts.calls, amounts.tokens)
            ),
            seen.incarnation,
            seen.revision,
            seen.counted.calls,
            seen.counted.tokens,
            NEAR_THE_LIMIT,
            KEPT_SECONDS,
            MAX_FIGURE,
            MAX_SUMMED,
        ]
        try:
            async with asyncio.timeout(BUDGET_SECONDS):
                answer = await self._script.run(key, words)
        except TimeoutError as error:
            raise errors.StoreAway(type(error).__name__) from error
        count = _count(answer, claim=claim)
        if count is None:
            self._script.mistrust()
            raise errors.StoreAway("an answer to another question")
        if isinstance(count, str):
            raise errors.StoreCorrupt(f"{count} in {key}")
        return count

    async def durability(self) -> str:
        """Why acknowledged writes may get lost, by what the Redis that answers says of itself.

        Raises:
            errors.StoreAway: it does not answer.
        """
        try:
            async with asyncio.timeout(BUDGET_SECONDS):
                settings = await self._client.config_get(*_NEEDED)
                replication = await self._client.info("replication")
        except redis.exceptions.ResponseError:
            return "it does not let its settings be read (CONFIG GET, INFO)"
        except (redis.exceptions.RedisError, OSError, TimeoutError) as error:
            raise errors.StoreAway(type(error).__name__) from error
        return ", ".join([*_lacking(settings), *_behind(replication)])

    async def close(self) -> None:
        """End what is under way, and the connections."""
        await self._script.close()
        await self._client.aclose()


def _count(answer: Any, *, claim: Claim) -> Count | str | None:
    """What the script answered to this claim of a lease; None where it did not.

    A text names what cannot be: in the store, or in what it answered.
    """
    if isinstance(answer, list) and list(map(type, answer)) == _CANNOT_BE:
        told, field = answer
        return field.decode(errors="replace")[:_MAX_FIELD] if told == claim.sequence else None
    if not isinstance(answer, list) or list(map(type, answer)) != _ANSWER:
        return None
    told, day, ends_in_ms, held_calls, held_tokens, short, *sums, incarnation, revision, forgot = (
        answer
    )
    if told != claim.sequence or not 0 <= short < len(_SHORT):
        return None
    calls, tokens, spent_calls, spent_tokens = sums
    count = Count(
        day=day,
        day_ends_in_seconds=ends_in_ms / 1000,
        held=Amounts(held_calls, held_tokens),
        short=_SHORT[short],
        counted=Amounts(calls, tokens),
        spent=Amounts(spent_calls, spent_tokens),
        incarnation=incarnation.decode(errors="replace"),
        revision=revision,
        forgot=bool(forgot),
    )
    return count if _can_be(count, claim) else "an answer"


def _can_be(count: Count, claim: Claim) -> bool:
    """Whether a store that counts truly may answer this; one that lies is not spent from."""
    floor = claim.floor if count.day == claim.day else NOTHING
    if count.day < claim.day:
        # The lease of a day that is over here stays as it is; the store's clock says so, no key.
        calls, tokens = count.counted.calls, count.counted.tokens
    else:
        calls = _most(floor.calls, claim.want.calls, claim.limits.calls)
        tokens = _most(floor.tokens, claim.want.tokens, claim.limits.tokens)
    return (
        0 <= count.day <= _MAX_DAY
        and 0 <= count.day_ends_in_seconds <= DAY_SECONDS
        and 0 <= count.revision <= MAX_FIGURE
        and 0 <= count.held.calls <= min(calls, count.counted.calls)
        and 0 <= count.held.tokens <= min(tokens, count.counted.tokens)
        and 0 <= count.spent.calls <= count.counted.calls <= MAX_FIGURE
        and 0 <= count.spent.tokens <= count.counted.tokens <= MAX_FIGURE
        and len(count.incarnation) <= _MAX_INCARNATION
    )


def _most(floor: int, want: int, limit: int | None) -> int:
    """The most that a lease can be after a claim: no grant goes above the limit."""
    return floor + want if limit is None else max(floor, min(floor + want, limit))


def _lacking(found: Mapping[Any, Any]) -> list[str]:
    settings = {_text(name): _text(value) for name, value in found.items()}
    return [
        f"{name} is {settings.get(name, 'unknown')}, not {needed}"
        for name, needed in _NEEDED.items()
        if settings.get(name) != needed
    ]


def _behind(replication: Mapping[Any, Any]) -> list[str]:
    """Replicas are told after the caller is: whichever takes over may lack the newest writes."""
    if not int(replication.get("connected_slaves", 0)):
        return []
    return ["a replica that takes over may lack the newest of them"]


def _text(raw: bytes | str) -> str:
    return raw.decode() if isinstance(raw, bytes) else raw
