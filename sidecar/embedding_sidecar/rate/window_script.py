"""The script that draws from a window in Redis, in one step: Lua 5.1, of one key.

The key is a hash: each bucket by its number, with calls and tokens; for each pod `by:ID`, its last
message and what that got; and `sum`, with the oldest bucket and the newest, calls and tokens of
all, and when all fields were read last. A message that comes again, as its connection was lost,
changes nothing, so nothing is given back twice.

A draw keeps the sum up to date and reads few fields, so that it costs the same with one pod and
with thousands. Each 15 s, and where the clock went back, one reads all: it makes the sum anew and
forgets pods that have ended.

Arguments, in order: ID and sequence of the message; limits of calls and tokens (-1 for none) of
applications, and of background work; 1 if all is granted; milliseconds of a bucket and of the
window; the largest valid figure; the most fields; seconds that the key is kept; milliseconds until
all is read again; the number of parts that are given back, each as bucket, calls, tokens; the
number of draws, each as tokens, 1 for background work, and calls. It replies with the eight values
that window_store reads, or, where a field is not valid, with the sequence and a name.
"""

from typing import Final

DRAW: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local key, by, sequence = KEYS[1], 'by:' .. ARGV[1], tonumber(ARGV[2])
local limits = {{tonumber(ARGV[3]), tonumber(ARGV[4])}, {tonumber(ARGV[5]), tonumber(ARGV[6])}}
local grants_all = ARGV[7] == '1'
local bucket_ms, window_ms = tonumber(ARGV[8]), tonumber(ARGV[9])
local most, most_fields = tonumber(ARGV[10]), tonumber(ARGV[11])
local kept_seconds, sweep_ms = ARGV[12], tonumber(ARGV[13])
local current = math.floor(now / bucket_ms)
local oldest = math.floor((now - window_ms) / bucket_ms)

-- Others may have written here: a field that is not valid grants and writes nothing.
local function cannot_be(field) return {sequence, field} end
local function figures(text, count)
  if #text > 14 * count then return nil end
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

local buckets, changed, gone = {}, {}, {}
local oldest_kept, calls, tokens, swept = current, 0, 0, now
local function add(bucket, more_calls, more_tokens)
  local before = buckets[bucket] or {0, 0}
  buckets[bucket] = {before[1] + more_calls, before[2] + more_tokens}
end
-- These read fields, and tell the name of one that is not valid.
local function read(from, to)
  local numbers, names = {}, {}
  for bucket = from, to do
    if not buckets[bucket] then
      numbers[#numbers + 1], names[#names + 1] = bucket, text(bucket)
    end
  end
  if #names == 0 then return nil end
  for at, value in ipairs(redis.call('HMGET', key, unpack(names))) do
    local found = {0, 0}
    if value then found = figures(value, 2) end
    if not found then return 'a bucket' end
    buckets[numbers[at]] = found
  end
end
local function read_all()
  local all = redis.call('HGETALL', key)
  for at = 1, #all, 2 do
    local name, value = all[at], all[at + 1]
    if string.sub(name, 1, 3) == 'by:' then
      local message = figures(value, 6)
      if not message then return 'a message' end
      -- A pod whose last message is out of the window repeats it no more.
      if name ~= by and math.floor(message[2] / bucket_ms) < oldest then gone[#gone + 1] = name end
    elseif name ~= 'sum' then
      local number, found = figures(name, 1), figures(value, 2)
      if not number or not found then return 'a bucket' end
      local bucket = number[1]
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
  for bucket, found in pairs(buckets) do
    oldest_kept = math.min(oldest_kept, bucket)
    calls, tokens = calls + found[1], tokens + found[2]
  end
end
local function read_few(sum)
  -- One that somebody else has written could lead through all of time.
  if sum[1] < oldest - sweep_ms / bucket_ms - 1 then return 'the sum' end
  calls, tokens, swept = sum[3], sum[4], sum[5]
  oldest_kept = math.max(sum[1], oldest)
  local wrong = read(sum[1], oldest - 1)
  if wrong then return wrong end
  for bucket = sum[1], oldest - 1 do
    calls, tokens = calls - buckets[bucket][1], tokens - buckets[bucket][2]
    buckets[bucket], gone[#gone + 1] = nil, text(bucket)
  end
  if calls < 0 or tokens < 0 then return 'the sum' end
end

if redis.call('HLEN', key) > most_fields then return cannot_be('too many fields') end
local known = redis.call('HMGET', key, 'sum', by)
local sum, last, wrong = nil, nil, nil
if known[1] then
  sum = figures(known[1], 5)
  if not sum then return cannot_be('the sum') end
end
if known[2] then
  last = figures(known[2], 6)
  if not last then return cannot_be('a message') end
end
if sum and sum[2] <= current and sum[5] <= now and now - sum[5] < sweep_ms then
  wrong = read_few(sum)
else
  wrong = read_all()
end
if wrong then return cannot_be(wrong) end

local given = tonumber(ARGV[14])
local is_new = not last or sequence > last[1]
if is_new then
  for i = 0, given - 1 do
    local bucket = tonumber(ARGV[15 + 3 * i])
    if bucket >= oldest_kept and bucket <= current then
      wrong = read(bucket, bucket)
      if wrong then return cannot_be(wrong) end
      local before = buckets[bucket]
      local back = {math.min(before[1], tonumber(ARGV[16 + 3 * i])),
                    math.min(before[2], tonumber(ARGV[17 + 3 * i]))}
      if back[1] + back[2] > 0 then
        add(bucket, -back[1], -back[2])
        calls, tokens = calls - back[1], tokens - back[2]
        changed[bucket] = true
      end
    end
  end
end
if calls < 0 or tokens < 0 or calls > most or tokens > most then
  return cannot_be('the sum of the buckets')
end
if not is_new then
  return {sequence, last[2], last[3], last[4], last[5], last[6], calls, tokens}
end

local first = 15 + 3 * given
local draws = tonumber(ARGV[first])
local function fits(limit, sum) return limit < 0 or sum <= limit end
local fit, granted = {0, 0}, 0
local upto, drawn = {calls, tokens}, {0, 0}
for i = 0, draws - 1 do
  local at = first + 1 + 3 * i
  local limit = limits[ARGV[at + 1] == '1' and 2 or 1]
  local need = {tonumber(ARGV[at + 2]), tonumber(ARGV[at])}
  upto = {upto[1] + need[1], upto[2] + need[2]}
  for unit = 1, 2 do
    if fit[unit] == i and fits(limit[unit], upto[unit]) then fit[unit] = i + 1 end
  end
  if i < math.min(fit[1], fit[2]) or grants_all then
    granted, drawn = i + 1, {drawn[1] + need[1], drawn[2] + need[2]}
  end
end
if granted > 0 then
  wrong = read(current, current)
  if wrong then return cannot_be(wrong) end
  add(current, drawn[1], drawn[2])
  changed[current] = true
  calls, tokens = calls + drawn[1], tokens + drawn[2]
end

local wait = 0
if granted < draws then
  local at = first + 1 + 3 * granted
  local limit = limits[ARGV[at + 1] == '1' and 2 or 1]
  local left = {calls, tokens}
  wait = window_ms
  wrong = read(oldest_kept, current)
  if wrong then return cannot_be(wrong) end
  for bucket = oldest_kept, current do
    left = {left[1] - buckets[bucket][1], left[2] - buckets[bucket][2]}
    if fits(limit[1], left[1] + tonumber(ARGV[at + 2]))
       and fits(limit[2], left[2] + tonumber(ARGV[at])) then
      wait = (bucket + 1) * bucket_ms + window_ms - now
      break
    end
  end
end

-- Lua passes some thousand arguments at most.
for at = 1, #gone, 1000 do
  redis.call('HDEL', key, unpack(gone, at, math.min(at + 999, #gone)))
end
local written = {by, text(sequence, now, granted, fit[1], fit[2], wait),
                 'sum', text(oldest_kept, current, calls, tokens, swept)}
for bucket, _ in pairs(changed) do
  written[#written + 1] = text(bucket)
  written[#written + 1] = text(buckets[bucket][1], buckets[bucket][2])
end
redis.call('HSET', key, unpack(written))
redis.call('EXPIRE', key, kept_seconds)
return {sequence, now, granted, fit[1], fit[2], wait, calls, tokens}
"""
