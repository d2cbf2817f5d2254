-- Hands out locks that have run out, earliest first, and puts them off: who takes them and dies leaves them to the next.
-- KEYS[1] the index by expiry, KEYS[2] the index's name; ARGV[1] now, by the database's clock, in milliseconds since 1970,
-- ARGV[2] how many at most, ARGV[3] until when they are put off, ARGV[4] a new name.
-- Answers the name and the members. A name that is new says that all that was noted before is lost.
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
