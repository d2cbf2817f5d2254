-- Returns expired locks, earliest first, and postpones them, so that they are returned again if the caller
-- dies.
-- KEYS[1] the index by expiry, KEYS[2] the id of the index; ARGV[1] now, by the database's clock, in
-- milliseconds since 1970, ARGV[2] the maximum number of locks, ARGV[3] the postponed expiry, ARGV[4] a new
-- id.
-- Returns the id and the members. A new id means that all earlier notes were lost.
local name = redis.call('GET', KEYS[2])
if not name then
  name = ARGV[4]
  redis.call('SET', KEYS[2], name)
end
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, member in ipairs(due) do
  redis.call('ZADD', KEYS[1], ARGV[3], member)
end
return {name, due}
