-- Keeps a reading of a job, unless a later one is kept or this one is too old to be believed. The stage outlives the time
-- that the reading may be believed: an older reading that comes late finds it and is turned away.
-- KEYS[1] the job; ARGV[1] its stage, as text that sorts, ARGV[2] until when it may be believed (Redis's clock, milliseconds),
-- ARGV[3] the reading, ARGV[4] for how many milliseconds its stage is remembered.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if now >= tonumber(ARGV[2]) then
  return 0
end
local known = redis.call('HGET', KEYS[1], 'stage')
if known and known > ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'stage', ARGV[1], 'until', ARGV[2], 'job', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
