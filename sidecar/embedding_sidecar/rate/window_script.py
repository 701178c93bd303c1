"""The script that draws from a window in Redis, in one step: Lua 5.1, of one key.

The key is a hash: each bucket by its number, with calls and tokens, and for each pod `by:ID`, its
last message and what that got. A message that comes again, as its connection was lost, changes
nothing, so nothing is given back twice.

Arguments, in order: ID and sequence of the message; limits of calls and tokens (-1 for none) of
applications, and of background work; 1 if all is granted; milliseconds of a bucket and of the
window; the largest valid figure; the most fields; seconds that the key is kept; the number of
parts that are given back, each as bucket, calls, tokens; the number of draws, each as tokens and 1
for background work. It replies with the eight values that window_store reads, or, where a field is
not valid, with the sequence and a name.
"""

from typing import Final

DRAW: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local key, by, sequence = KEYS[1], 'by:' .. ARGV[1], tonumber(ARGV[2])
local limits = {{tonumber(ARGV[3]), tonumber(ARGV[4])}, {tonumber(ARGV[5]), tonumber(ARGV[6])}}
local grants_all = ARGV[7] == '1'
local bucket_ms, window_ms = tonumber(ARGV[8]), tonumber(ARGV[9])
local most, most_fields, kept_seconds = tonumber(ARGV[10]), tonumber(ARGV[11]), ARGV[12]
local current = math.floor(now / bucket_ms)
local oldest = math.floor((now - window_ms) / bucket_ms)

-- Others may have written here: then nothing is granted and nothing is written.
local function cannot_be(field) return {sequence, field} end
local function figures(text, count)
  local found = {}
  for word in string.gmatch(text, '[^ ]+') do
    if #word > 13 or not string.find(word, '^%d+$') or tonumber(word) > most then return nil end
    found[#found + 1] = tonumber(word)
  end
  if #found ~= count then return nil end
  return found
end
local function text(...)
  local words = {}
  for i, value in ipairs({...}) do words[i] = string.format('%.0f', value) end
  return table.concat(words, ' ')
end

if redis.call('HLEN', key) > most_fields then return cannot_be('too many fields') end
local all = redis.call('HGETALL', key)
local buckets, changed, gone, last = {}, {}, {}, nil
local function add(bucket, calls, tokens)
  local before = buckets[bucket] or {0, 0}
  buckets[bucket] = {before[1] + calls, before[2] + tokens}
end
for at = 1, #all, 2 do
  local name, value = all[at], all[at + 1]
  if string.sub(name, 1, 3) == 'by:' then
    local message = figures(value, 6)
    if not message then return cannot_be('a message') end
    if name == by then last = message
    -- A pod whose last message is out of the window repeats it no more.
    elseif math.floor(message[2] / bucket_ms) < oldest then gone[#gone + 1] = name end
  else
    local bucket, found = figures(name, 1), figures(value, 2)
    if not bucket or not found then return cannot_be('a bucket') end
    bucket = bucket[1]
    if bucket < oldest then
      gone[#gone + 1] = name
    elseif bucket > current then
      -- The clock went back: it counts from now on.
      gone[#gone + 1] = name
      add(current, found[1], found[2])
      changed[current] = true
    else
      add(bucket, found[1], found[2])
    end
  end
end

local given = tonumber(ARGV[13])
local is_new = not last or sequence > last[1]
if is_new then
  for i = 0, given - 1 do
    local bucket = tonumber(ARGV[14 + 3 * i])
    local before = buckets[bucket]
    if before then
      buckets[bucket] = {math.max(0, before[1] - tonumber(ARGV[15 + 3 * i])),
                         math.max(0, before[2] - tonumber(ARGV[16 + 3 * i]))}
      changed[bucket] = true
    end
  end
end
local calls, tokens, order = 0, 0, {}
for bucket, found in pairs(buckets) do
  calls, tokens, order[#order + 1] = calls + found[1], tokens + found[2], bucket
end
if calls > most or tokens > most then return cannot_be('the sum of the buckets') end
if not is_new then
  return {sequence, last[2], last[3], last[4], last[5], last[6], calls, tokens}
end

local first = 14 + 3 * given
local draws = tonumber(ARGV[first])
local function fits(limit, sum) return limit < 0 or sum <= limit end
local fit, granted = {0, 0}, 0
local sum, drawn = {calls, tokens}, {0, 0}
for i = 0, draws - 1 do
  local need = tonumber(ARGV[first + 1 + 2 * i])
  local limit = limits[ARGV[first + 2 + 2 * i] == '1' and 2 or 1]
  sum = {sum[1] + 1, sum[2] + need}
  for unit = 1, 2 do
    if fit[unit] == i and fits(limit[unit], sum[unit]) then fit[unit] = i + 1 end
  end
  if i < math.min(fit[1], fit[2]) or grants_all then
    granted, drawn = i + 1, {drawn[1] + 1, drawn[2] + need}
  end
end
if granted > 0 then
  if not buckets[current] then order[#order + 1] = current end
  add(current, drawn[1], drawn[2])
  changed[current] = true
  calls, tokens = calls + drawn[1], tokens + drawn[2]
end

local wait = 0
if granted < draws then
  local need = tonumber(ARGV[first + 1 + 2 * granted])
  local limit = limits[ARGV[first + 2 + 2 * granted] == '1' and 2 or 1]
  local left = {calls, tokens}
  wait = window_ms
  table.sort(order)
  for _, bucket in ipairs(order) do
    left = {left[1] - buckets[bucket][1], left[2] - buckets[bucket][2]}
    if fits(limit[1], left[1] + 1) and fits(limit[2], left[2] + need) then
      wait = (bucket + 1) * bucket_ms + window_ms - now
      break
    end
  end
end

if #gone > 0 then redis.call('HDEL', key, unpack(gone)) end
local written = {by, text(sequence, now, granted, fit[1], fit[2], wait)}
for bucket, _ in pairs(changed) do
  written[#written + 1] = text(bucket)
  written[#written + 1] = text(buckets[bucket][1], buckets[bucket][2])
end
redis.call('HSET', key, unpack(written))
redis.call('EXPIRE', key, kept_seconds)
return {sequence, now, granted, fit[1], fit[2], wait, calls, tokens}
"""
