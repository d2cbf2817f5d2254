-- Stores the state of a coupon's lock, unless a newer version of the coupon is stored.
-- KEYS[1] the lock, KEYS[2] the index by expiry; ARGV[1] the coupon's version, ARGV[2] the member of the
-- index, ARGV[3] how long the version of a released lock is stored, in milliseconds; then, if the coupon is
-- locked, ARGV[4] the expiry (milliseconds since 1970), ARGV[5] the lock's id, ARGV[6] the holder, ARGV[7]
-- the expiry as text.
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
