local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local day = math.floor(time[1] / 86400)
local key = KEYS[1] .. ':' .. day

local function pair(at) return {tonumber(ARGV[at]), tonumber(ARGV[at + 1])} end
local lease, sequence, their_day = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local limit, floor, spent, need, want = pair(4), pair(6), pair(8), pair(10), pair(12)
local seen_incarnation, seen_revision, seen = ARGV[14], tonumber(ARGV[15]), pair(16)
-- A claim gets one in `near` of the rest; no figure is above `most`.
local near, kept_seconds = tonumber(ARGV[18]), ARGV[19]
local most, summed = tonumber(ARGV[20]), tonumber(ARGV[21])

if their_day ~= day then
  floor, spent, seen, seen_incarnation = {0, 0}, {0, 0}, {0, 0}, ''
end

-- Others may have written here. What cannot be is named in a reply of its own, nothing is granted
-- and nothing is written: what is right is not known any more.
local function cannot_be(field) return {sequence, field} end
local function figure(word)
  if not word or #word > 13 or not string.find(word, '^%d+$') then return nil end
  local value = tonumber(word)
  return value <= most and value or nil
end
local function lease_of(text)
  local words = {string.match(text, '^(%d+) (%d+) (%d+) (%d+) (%d+)$')}
  local found = {}
  for i = 1, 5 do
    found[i] = figure(words[i])
    if not found[i] then return nil end
  end
  return found
end

local names = {'calls', 'tokens', 'spent_calls', 'spent_tokens', 'revision', 'forgot',
               'incarnation', 'lease:' .. lease}
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
local total, total_spent = {figures[1], figures[2]}, {figures[3], figures[4]}
local revision, forgot = figures[5], figures[6]

local old = {-1, 0, 0, 0, 0}
if read[8] then
  old = lease_of(read[8])
  if not old then return cannot_be(names[8]) end
end
-- All leases together are no more than what is counted, and what they spent is what is spent. A
-- claim is to cost no more the more pods there are, so with many only its own lease is looked at.
local sums = {old[2], old[3], old[4], old[5]}
if fields <= 7 + summed then
  sums = {0, 0, 0, 0}
  local all = redis.call('HGETALL', key)
  for at = 1, #all, 2 do
    if string.sub(all[at], 1, 6) == 'lease:' then
      local other = lease_of(all[at + 1])
      if not other then return cannot_be('a lease') end
      for i = 1, 4 do sums[i] = sums[i] + other[1 + i] end
    end
  end
end
for i = 1, 2 do
  if total[i] < sums[i] then return cannot_be(names[i]) end
  if total_spent[i] < sums[2 + i] or total_spent[i] > total[i] then
    return cannot_be(names[2 + i])
  end
end
local seen_differs = seen_revision == revision and (total[1] ~= seen[1] or total[2] ~= seen[2])

local function short_of(granted)
  for i = 1, 2 do if granted[i] < need[i] then return i end end
  return 0
end

local function reply(held, short)
  return {sequence, day, (day + 1) * 86400000 - now_ms, held[1], held[2], short,
          total[1], total[2], total_spent[1], total_spent[2],
          incarnation, revision, forgot}
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
-- Its own lease gone, or other figures at the revision that it saw: the store has forgotten, too.
if seen_incarnation ~= '' and (seen_incarnation ~= incarnation or seen_revision > revision
                               or seen_differs or not read[8]) then
  for i = 1, 2 do total[i] = math.max(total[i], seen[i]) end
  revision = math.max(revision, seen_revision)
  incarnation, forgot = false, 1
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
  'revision', text(revision), 'incarnation', incarnation, 'forgot', text(forgot),
  'lease:' .. lease, text(sequence) .. ' ' .. text(held[1]) .. ' ' .. text(held[2]) .. ' '
    .. text(spent[1]) .. ' ' .. text(spent[2]))
redis.call('EXPIRE', key, kept_seconds)
return reply(held, short)
