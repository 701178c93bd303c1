"""The script that carries a claim out in Redis, in one step: Lua 5.1, of one key.

Triples are of calls, tokens and nano-dollars; a limit of -1 is none. Costs are read and written
only where the policy counts them, in fields that sidecars before them do not know: `cost`,
`spent_cost`, and `cost:ID` with the cost and spent cost of a lease. It replies with the sixteen
values that quota_store reads, or, where a field is not valid, with the sequence and the field's
name.

A month's number and end are by Howard Hinnant's `days_from_civil` and `civil_from_days`
(https://howardhinnant.github.io/date_algorithms.html), whose years begin in March: so the leap day
is the last one of a year.
"""

from typing import Final

CLAIM: Final = """
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)

local function triple(at)
  return {tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])}
end
local lease, sequence, their_number = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local limit, floor, spent, need, want = triple(4), triple(7), triple(10), triple(13), triple(16)
local seen_incarnation, seen_revision, seen = ARGV[19], tonumber(ARGV[20]), triple(21)
-- A claim gets one in `near` of the rest; no figure is above `most`.
local near, kept_seconds = tonumber(ARGV[24]), ARGV[25]
local most, summed = triple(26), tonumber(ARGV[29])
local period, has_cost = ARGV[30], ARGV[31] == '1'

local number = math.floor(time[1] / 86400)
local next_day = number + 1
if period == 'month' then
  local days = number + 719468
  local of_era = days % 146097
  local year_of_era = math.floor((of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524)
                                  - math.floor(of_era / 146096)) / 365)
  local of_year = of_era - 365 * year_of_era - math.floor(year_of_era / 4)
                  + math.floor(year_of_era / 100)
  local since_march = math.floor((5 * of_year + 2) / 153) + 1
  local months = (math.floor(days / 146097) * 400 + year_of_era) * 12 + since_march
  local year = math.floor(months / 12)
  next_day = 365 * year + math.floor(year / 4) - math.floor(year / 100) + math.floor(year / 400)
             + math.floor((153 * (months % 12) + 2) / 5) - 719468
  number = months + 1 - 1970 * 12
end
local key = KEYS[1] .. ':' .. number

if their_number ~= number then
  floor, spent, seen, seen_incarnation = {0, 0, 0}, {0, 0, 0}, {0, 0, 0}, ''
end
if not has_cost then
  for _, it in ipairs({floor, spent, seen, need, want}) do it[3] = 0 end
  limit[3] = -1
end

-- Others may have written here. A field that cannot be is named in a reply of its own. Nothing is
-- granted or written then, as the right figures are not known any more.
local function cannot_be(field) return {sequence, field} end
local function figure(word, unit)
  local bound = most[unit or 1]
  if not word or #word > 16 or not string.find(word, '^%d+$') then return nil end
  local value = tonumber(word)
  return value <= bound and value or nil
end
local function lease_of(text)
  local words = {string.match(text, '^(%d+) (%d+) (%d+) (%d+) (%d+)$')}
  local found = {}
  for i = 1, 5 do
    found[i] = figure(words[i])
    if not found[i] then return nil end
  end
  return {sequence = found[1], held = {found[2], found[3], 0}, spent = {found[4], found[5], 0}}
end
local function cost_of(text, into)
  local held, used = string.match(text, '^(%d+) (%d+)$')
  into.held[3], into.spent[3] = figure(held, 3), figure(used, 3)
  return into.held[3] and into.spent[3]
end

local names = {'calls', 'tokens', 'spent_calls', 'spent_tokens', 'revision', 'forgot',
               'incarnation', 'lease:' .. lease}
if has_cost then
  names[9], names[10], names[11] = 'cost', 'spent_cost', 'cost:' .. lease
end
local read = redis.call('HMGET', key, unpack(names))
local fields = redis.call('HLEN', key)
local figures = {0, 0, 0, 0, 0, 0}
local incarnation = false
if fields > 0 then
  for i = 1, 6 do
    figures[i] = figure(read[i])
    if not figures[i] then return cannot_be(names[i]) end
  end
  incarnation = read[7]
  if not incarnation or #incarnation > 64 or not string.find(incarnation, '^%w+%.%d+$') then
    return cannot_be('incarnation')
  end
end
local total, total_spent = {figures[1], figures[2], 0}, {figures[3], figures[4], 0}
local revision, forgot = figures[5], figures[6]
-- Costs are counted from the first claim that has them.
if has_cost and (read[9] or read[10]) then
  total[3], total_spent[3] = figure(read[9], 3), figure(read[10], 3)
  if not total[3] then return cannot_be('cost') end
  if not total_spent[3] then return cannot_be('spent_cost') end
end

local old = {sequence = -1, held = {0, 0, 0}, spent = {0, 0, 0}}
if read[8] then
  old = lease_of(read[8])
  if not old then return cannot_be(names[8]) end
end
if has_cost and read[11] and not cost_of(read[11], old) then return cannot_be(names[11]) end
-- All leases together are no more than what is counted, and what they spent is what is spent. A
-- claim is to cost no more the more pods there are, so with many only its own lease is looked at.
local sums, sums_spent = {unpack(old.held)}, {unpack(old.spent)}
if fields <= (has_cost and 9 + 2 * summed or 7 + summed) then
  sums, sums_spent = {0, 0, 0}, {0, 0, 0}
  local all = redis.call('HGETALL', key)
  for at = 1, #all, 2 do
    local other = false
    if string.sub(all[at], 1, 6) == 'lease:' then
      other = lease_of(all[at + 1])
      if not other then return cannot_be('a lease') end
    elseif has_cost and string.sub(all[at], 1, 5) == 'cost:' then
      other = {held = {0, 0, 0}, spent = {0, 0, 0}}
      if not cost_of(all[at + 1], other) then return cannot_be('a cost') end
    end
    for i = 1, other and 3 or 0 do
      sums[i], sums_spent[i] = sums[i] + other.held[i], sums_spent[i] + other.spent[i]
    end
  end
end
local fields_of = {'calls', 'tokens', 'cost'}
for i = 1, 3 do
  if total[i] < sums[i] then return cannot_be(fields_of[i]) end
  if total_spent[i] < sums_spent[i] or total_spent[i] > total[i] then
    return cannot_be('spent_' .. fields_of[i])
  end
end
-- The last answer may have been one without costs.
if seen[3] < 0 then seen[3] = total[3] end
local seen_differs = false
for i = 1, 3 do seen_differs = seen_differs or total[i] ~= seen[i] end
seen_differs = seen_differs and seen_revision == revision

local function short_of(granted)
  for i = 1, 3 do if granted[i] < need[i] then return i end end
  return 0
end

local function reply(held, short)
  return {sequence, number, next_day * 86400000 - now_ms, held[1], held[2], held[3], short,
          total[1], total[2], total[3], total_spent[1], total_spent[2], total_spent[3],
          incarnation, revision, forgot}
end

-- Sent twice, or overtaken by a later one: nothing changes. Nor where the holder is in a later
-- period already, because this clock went back: it has forgotten what it spent of this one.
if sequence <= old.sequence or (their_number > number and old.sequence >= 0) then
  local held, more = old.held, {}
  for i = 1, 3 do more[i] = held[i] - floor[i] end
  return reply(held, short_of(more))
end

-- The lease is first brought to its floor, which the holder may have spent already.
for i = 1, 3 do
  total[i] = total[i] - old.held[i] + floor[i]
  total_spent[i] = total_spent[i] - old.spent[i] + spent[i]
end
-- Its own lease gone, or other figures at the revision that it saw: the store has forgotten, too.
if seen_incarnation ~= '' and (seen_incarnation ~= incarnation or seen_revision > revision
                               or seen_differs or not read[8]) then
  for i = 1, 3 do total[i] = math.max(total[i], seen[i]) end
  revision = math.max(revision, seen_revision)
  incarnation, forgot = false, 1
end
incarnation = incarnation or (lease .. '.' .. sequence)
revision = revision + 1

local granted = {0, 0, 0}
for i = 1, 3 do
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
if short ~= 0 then granted = {0, 0, 0} end
local held = {}
for i = 1, 3 do
  held[i] = floor[i] + granted[i]
  total[i] = total[i] + granted[i]
end

local function text(value) return string.format('%.0f', value) end
redis.call('HSET', key,
  'calls', text(total[1]), 'tokens', text(total[2]),
  'spent_calls', text(total_spent[1]), 'spent_tokens', text(total_spent[2]),
  'revision', text(revision), 'incarnation', incarnation, 'forgot', text(forgot),
  'lease:' .. lease, text(sequence) .. ' ' .. text(held[1]) .. ' ' .. text(held[2]) .. ' '
    .. text(spent[1]) .. ' ' .. text(spent[2]))
if has_cost then
  redis.call('HSET', key, 'cost', text(total[3]), 'spent_cost', text(total_spent[3]),
    'cost:' .. lease, text(held[3]) .. ' ' .. text(spent[3]))
end
redis.call('EXPIRE', key, kept_seconds)
return reply(held, short)
"""
