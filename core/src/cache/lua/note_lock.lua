-- Notes how a coupon's lock stands, unless a newer version of the coupon is noted: what comes late changes nothing.
-- KEYS[1] the lock, KEYS[2] the index by expiry; ARGV[1] the coupon's version, ARGV[2] the member of the index,
-- ARGV[3] for how many milliseconds the version of a lock that is gone is remembered; then, if there is a lock,
-- ARGV[4] when it runs out (milliseconds since 1970), ARGV[5] its id, ARGV[6] the holder, ARGV[7] when it runs out, in words.
local known = redis.call('HGET', KEYS[1], 'version')
if known and tonumber(known) > tonumber(ARGV[1]) then
  return 0
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'version', ARGV[1])
if not ARGV[4] then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  redis.call('ZREM', KEYS[2], ARGV[2])
  return 1
end
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[2])
redis.call('HSET', KEYS[1], 'lockId', ARGV[5], 'holder', ARGV[6], 'lockedUntil', ARGV[7])
redis.call('PEXPIREAT', KEYS[1], ARGV[4])
return 1
