-- Takes a token from a bucket, by the generic cell rate algorithm. The stored number is the time at which
-- the bucket will be full.
-- KEYS[1] the bucket; ARGV[1] microseconds for one token, ARGV[2] the size of the bucket.
-- Returns {1, remaining tokens, 0}, or {0, 0, microseconds until the next token}.
local every, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local full = tonumber(redis.call('GET', KEYS[1]) or now)
-- A clock that was set back must not block callers for longer than an empty bucket takes to fill.
full = math.min(math.max(full, now), now + every * most)
local wait = full - every * (most - 1) - now
if wait > 0 then
  return {0, 0, math.ceil(wait)}
end
full = full + every
redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000))
return {1, math.floor((now + every * most - full) / every), 0}
