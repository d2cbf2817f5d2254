-- Returns the stored reading of a job if it is still valid. KEYS[1] the job.
local known = redis.call('HMGET', KEYS[1], 'until', 'job')
if not known[1] then
  return false
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if now >= tonumber(known[1]) then
  return false
end
return known[2]
