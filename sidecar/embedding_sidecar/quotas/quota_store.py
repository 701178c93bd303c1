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

from embedding_sidecar import errors
from embedding_sidecar.quotas import scripts
from embedding_sidecar.quotas.claims import DAY_SECONDS, Amounts, Claim, Count

PREFIX: Final = "aos:embedding:quota:"
BUDGET_SECONDS: Final = 1.0
"""How long a claim may take. Redis answers in a millisecond, but may have to wait for a disk."""
NEAR_THE_LIMIT: Final = 16
"""A claim gets this part of what is left at most, or what it needs: the last calls one by one."""
KEPT_SECONDS: Final = 2 * DAY_SECONDS

_SHORT: Final = ("", "calls", "tokens")
_ANSWER: Final = [*[int] * 10, bytes, int, int]
"""The types of what the script replies."""
_NEEDED: Final = {"maxmemory-policy": "noeviction", "appendonly": "yes", "appendfsync": "always"}

_CLAIM: Final = """
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local day = math.floor(time[1] / 86400)
local key = KEYS[1] .. ':' .. day

local lease, sequence, their_day = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local limit = {tonumber(ARGV[4]), tonumber(ARGV[5])}
local floor = {tonumber(ARGV[6]), tonumber(ARGV[7])}
local spent = {tonumber(ARGV[8]), tonumber(ARGV[9])}
local need = {tonumber(ARGV[10]), tonumber(ARGV[11])}
local want = {tonumber(ARGV[12]), tonumber(ARGV[13])}
local seen_incarnation, seen_revision = ARGV[14], tonumber(ARGV[15])
local seen = {tonumber(ARGV[16]), tonumber(ARGV[17])}
local near = tonumber(ARGV[18])

if their_day ~= day then
  floor, spent, seen, seen_incarnation = {0, 0}, {0, 0}, {0, 0}, ''
end

local names = {'calls', 'tokens', 'spent_calls', 'spent_tokens', 'revision'}
local read = redis.call('HMGET', key, unpack(names))
local total = {tonumber(read[1] or 0), tonumber(read[2] or 0)}
local total_spent = {tonumber(read[3] or 0), tonumber(read[4] or 0)}
local revision = tonumber(read[5] or 0)
local incarnation = redis.call('HGET', key, 'incarnation')
local forgot = redis.call('HGET', key, 'forgot') or '0'

local old, number = {-1, 0, 0, 0, 0}, 0
for word in string.gmatch(redis.call('HGET', key, 'lease:' .. lease) or '', '%-?%d+') do
  number = number + 1
  old[number] = tonumber(word)
end

local function short_of(granted)
  if granted[1] < need[1] then return 1 end
  if granted[2] < need[2] then return 2 end
  return 0
end

local function reply(held, short)
  return {sequence, day, (day + 1) * 86400000 - now_ms, held[1], held[2], short,
          total[1], total[2], total_spent[1], total_spent[2],
          incarnation, revision, tonumber(forgot)}
end

-- Sent twice, or overtaken by a later one: nothing changes. Nor where the holder is in a later day
-- already, because this clock went back: it has forgotten what it spent of today.
if sequence <= old[1] or (their_day > day and old[1] >= 0) then
  local held = {old[2], old[3]}
  return reply(held, short_of({held[1] - floor[1], held[2] - floor[2]}))
end

-- The lease is first brought to its floor, which the holder may have spent already.
for i = 1, 2 do
  total[i] = total[i] - old[1 + i] + floor[i]
  total_spent[i] = total_spent[i] - old[3 + i] + spent[i]
end
if seen_incarnation ~= '' and (seen_incarnation ~= incarnation or seen_revision > revision) then
  for i = 1, 2 do total[i] = math.max(total[i], seen[i]) end
  revision = math.max(revision, seen_revision)
  incarnation, forgot = false, '1'
end
incarnation = incarnation or (lease .. '.' .. sequence)
revision = revision + 1

local granted = {0, 0}
for i = 1, 2 do
  if limit[i] < 0 then
    granted[i] = want[i]
  else
    local left = limit[i] - total[i]
    if left >= need[i] then
      granted[i] = math.min(want[i], math.max(need[i], math.floor(left / near)))
    end
  end
end
local short = short_of(granted)
if short ~= 0 then granted = {0, 0} end
local held = {floor[1] + granted[1], floor[2] + granted[2]}
for i = 1, 2 do total[i] = total[i] + granted[i] end

local function text(value) return string.format('%.0f', value) end
redis.call('HSET', key,
  'calls', text(total[1]), 'tokens', text(total[2]),
  'spent_calls', text(total_spent[1]), 'spent_tokens', text(total_spent[2]),
  'revision', text(revision), 'incarnation', incarnation, 'forgot', forgot,
  'lease:' .. lease, text(sequence) .. ' ' .. text(held[1]) .. ' ' .. text(held[2]) .. ' '
    .. text(spent[1]) .. ' ' .. text(spent[2]))
redis.call('EXPIRE', key, ARGV[19])
return reply(held, short)
"""


class RedisStore:
    """Claims, over a client of redis_url.connect."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._script = scripts.of(client, _CLAIM)

    async def claim(self, claim: Claim) -> Count:
        """Carry a claim out.

        Raises:
            errors.StoreAway: it may, or may not, be carried out, now or later.
        """
        limits, seen = claim.limits, claim.seen
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
        ]
        try:
            async with asyncio.timeout(BUDGET_SECONDS):
                # The tag keeps all days of a policy on one node of a Redis Cluster.
                answer = await self._script.run(f"{PREFIX}{{{claim.scope}}}", words)
        except TimeoutError as error:
            raise errors.StoreAway(type(error).__name__) from error
        count = _count(answer, sequence=claim.sequence)
        if count is None:
            self._script.mistrust()
            raise errors.StoreAway("an answer to another question")
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


def _count(answer: Any, *, sequence: int) -> Count | None:
    """What the script answered to this claim of a lease; None where it did not."""
    if not isinstance(answer, list) or list(map(type, answer)) != _ANSWER:
        return None
    told, day, ends_in_ms, held_calls, held_tokens, short, *sums, incarnation, revision, forgot = (
        answer
    )
    if told != sequence or not 0 <= short < len(_SHORT):
        return None
    calls, tokens, spent_calls, spent_tokens = sums
    return Count(
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
