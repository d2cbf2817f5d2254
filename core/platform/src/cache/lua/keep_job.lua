-- Stores a reading of a job, unless a later stage is stored or the reading is no longer valid. The stage is
-- stored longer than the reading is valid, so that an older reading that arrives late is rejected.
-- KEYS[1] the job; ARGV[1] its stage, as sortable text, ARGV[2] until when the reading is valid (Redis's
-- clock, milliseconds), ARGV[3] the reading, ARGV[4] how long the stage is stored, in milliseconds.
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
