"""The leases of a policy's day or month in Redis: one hash each, one script, which runs alone.

Fields: `calls`, `tokens` (counted), `spent_calls`, `spent_tokens` (reported by the holders),
`revision`, `incarnation`, `forgot`, and for each lease `lease:ID` with its sequence, calls, tokens,
spent calls and spent tokens. Where money is limited, also `cost`, `spent_cost` and for each lease
`cost:ID` with its cost and spent cost, in nano-dollars: beside the others, which older sidecars
check strictly. Days and months are UTC by Redis's own clock; a hash stays for two of them.
"""

import asyncio
from typing import Any, Final

import redis.asyncio
import redis.exceptions

from embedding_contract import class_keys, json_fields, money
from embedding_sidecar import errors
from embedding_sidecar.quota.claim_script import CLAIM
from embedding_sidecar.quota.claims import NOTHING, Amounts, LeaseClaim, LeaseReply
from embedding_sidecar.quota.periods import DAY
from embedding_sidecar.redis_client import scripts

PREFIX: Final = class_keys.QUOTA_PREFIX
_NEEDS: Final = scripts.Rights(f"{PREFIX}*", "+time +hgetall +hmget +hset +hlen +expire")
BUDGET_SECONDS: Final = 1.0
"""Time-out of a claim. Redis answers in a millisecond, but may have to wait for a disk."""
NEAR_THE_LIMIT: Final = 16
"""A claim gets one in so many of the calls that are left, or the number that it needs: the last
calls are granted one by one."""
MAX_FIGURE: Final = json_fields.MAX_COUNT
"""Bound of the counters and limits of calls and tokens, and of revisions."""
MAX_FIGURES: Final = Amounts(MAX_FIGURE, MAX_FIGURE, money.MAX_NANOS)
MAX_SUMMED: Final = 64
"""Leases that a claim adds up, to check the counters against their sum."""
_MAX_INCARNATION: Final = 64

_SHORT: Final = ("", *Amounts._fields)
_ANSWER: Final = [*[int] * 13, bytes, int, int]
"""The types of the script's reply."""
_CANNOT_BE: Final = [int, bytes]
"""Likewise, where a field is not valid."""
_MAX_FIELD: Final = 40
_NEEDED: Final = {"maxmemory-policy": "noeviction", "appendonly": "yes", "appendfsync": "always"}


class RedisStore:
    """Claims, over a client of redis_url.connect."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._script = scripts.of(client, CLAIM, needs=_NEEDS)

    async def claim(self, claim: LeaseClaim) -> LeaseReply:
        """Carry a claim out. On errors.StoreAway that may be done, or be done later."""
        seen, period = claim.seen, claim.period
        # The tag keeps all periods of a policy on one node of a Redis Cluster.
        key = f"{PREFIX}{{{claim.scope}}}" + ("" if period is DAY else f":{period.word}")
        words: list[str | int] = [
            claim.lease,
            claim.sequence,
            claim.number,
            *(-1 if limit is None else limit for limit in claim.limits),
            *claim.floor,
            *claim.spent,
            *claim.need,
            *claim.want,
            *(_seen(seen) if seen else ("", 0, *NOTHING)),
            NEAR_THE_LIMIT,
            2 * period.most_seconds,
            *MAX_FIGURES,
            MAX_SUMMED,
            period.word,
            int(claim.has_cost),
        ]
        try:
            async with asyncio.timeout(BUDGET_SECONDS):
                answer = await self._script.run(key, words)
        except TimeoutError as error:
            raise errors.StoreAway(type(error).__name__) from error
        count = _count(answer, claim=claim)
        if count is None:
            self._script.reset()
            raise errors.StoreAway("the answer does not belong to the command")
        if isinstance(count, str):
            raise errors.StoreCorrupt(f"{count} in {key}")
        return count

    async def durability(self) -> str:
        """The reason why acknowledged writes may get lost, by Redis's own settings."""
        try:
            async with asyncio.timeout(BUDGET_SECONDS):
                settings = await self._client.config_get(*_NEEDED)
                replication = await self._client.info("replication")
        except redis.exceptions.ResponseError:
            return "the user may not read its settings (CONFIG GET, INFO)"
        except (redis.exceptions.RedisError, OSError, TimeoutError) as error:
            raise errors.StoreAway(type(error).__name__) from error
        found = [
            f"{name} is {settings.get(name, 'unknown')}, not {needed}"
            for name, needed in _NEEDED.items()
            if settings.get(name) != needed
        ]
        if int(replication.get("connected_slaves", 0)):
            # Redis acknowledges a write before its replicas have it.
            found.append("a replica that takes over may lack the newest ones")
        return ", ".join(found)

    async def close(self) -> None:
        """End the commands under way, and the connections."""
        await self._script.close()
        await self._client.aclose()


def _seen(seen: LeaseReply) -> tuple[str | int, ...]:
    """The last answer as the script reads it: a cost that it did not tell is -1."""
    counted = seen.counted if seen.has_cost else seen.counted._replace(cost=-1)
    return seen.incarnation, seen.revision, *counted


def _count(answer: Any, *, claim: LeaseClaim) -> LeaseReply | str | None:
    """The script's answer to this claim; None where it answers another one.

    A text names the field that is not valid.
    """
    types = list(map(type, answer)) if isinstance(answer, list) else []
    if types == _CANNOT_BE:
        told, field = answer
        return field.decode(errors="replace")[:_MAX_FIELD] if told == claim.sequence else None
    if types != _ANSWER:
        return None
    told, number, ends_in_ms, *held, short = answer[:7]
    counted, spent, (incarnation, revision, forgot) = answer[7:10], answer[10:13], answer[13:]
    if told != claim.sequence or not 0 <= short < len(_SHORT):
        return None
    count = LeaseReply(
        number=number,
        ends_in_seconds=ends_in_ms / 1000,
        held=Amounts(*held),
        short=_SHORT[short],
        counted=Amounts(*counted),
        spent=Amounts(*spent),
        has_cost=claim.has_cost,
        incarnation=incarnation.decode(errors="replace"),
        revision=revision,
        forgot=bool(forgot),
    )
    return count if _can_be(count, claim) else "an answer"


def _can_be(count: LeaseReply, claim: LeaseClaim) -> bool:
    """True if the answer is possible: a store that lies must not make us spend."""
    floor = claim.floor if count.number == claim.number else NOTHING
    if count.number < claim.number:
        # By the store's clock the period is an earlier one, whose lease stays as it is.
        most = count.counted
    else:
        most = Amounts(*map(_most, floor, claim.want, claim.limits))
    return (
        0 <= count.number <= claim.period.most_number
        and 0 <= count.ends_in_seconds <= claim.period.most_seconds
        and 0 <= count.revision <= MAX_FIGURE
        and len(count.incarnation) <= _MAX_INCARNATION
        and all(
            0 <= held <= min(largest, counted) and 0 <= spent <= counted <= bound
            for held, largest, counted, spent, bound in zip(
                count.held, most, count.counted, count.spent, MAX_FIGURES, strict=True
            )
        )
    )


def _most(floor: int, want: int, limit: int | None) -> int:
    """The largest lease after a claim: no grant goes above the limit."""
    return floor + want if limit is None else max(floor, min(floor + want, limit))
