"""The scripts by which Redis changes data sets, each in one step. A hash without the fence that is told is another driver's."""

# What nobody drives is driven by who asks first: its number and fence. KEYS: due. ARGV: lease (ms), prefix of the hashes.
TAKE = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 1)) do
  redis.call('ZADD', KEYS[1], now + ARGV[1], id)
  return {id, redis.call('HINCRBY', ARGV[2] .. id, 'fence', 1)}
end
return false
"""
# KEYS: hash, due. ARGV: id, fence, lease (ms). The state, or nothing once the fence is another's.
RENEW = """
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[2] then return false end
local clock = redis.call('TIME')
redis.call('ZADD', KEYS[2], 'XX', clock[1] * 1000 + math.floor(clock[2] / 1000) + ARGV[3], ARGV[1])
return redis.call('HGET', KEYS[1], 'state')
"""
# KEYS: hash, open entries, bytes that the tenant keeps. ARGV: fence, number, entry, bytes, counters...
ENTER = """
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then return 0 end
local first = tonumber(redis.call('HGET', KEYS[1], 'sealed') or 0) * tonumber(ARGV[5])
if tonumber(ARGV[2]) < first or redis.call('HSETNX', KEYS[2], ARGV[2], ARGV[3]) == 0 then return 1 end
for at = 6, #ARGV do redis.call('HINCRBY', KEYS[1], ARGV[at], 1) end
redis.call('HINCRBY', KEYS[1], 'bytes', ARGV[4])
redis.call('INCRBY', KEYS[3], ARGV[4])
return 1
"""
# KEYS: hash, open entries. ARGV: fence, segment, numbers... A segment is in the store: its entries leave Redis.
SEAL = """
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then return 0 end
redis.call('HDEL', KEYS[2], unpack(ARGV, 3))
redis.call('HSET', KEYS[1], 'sealed', ARGV[2] + 1)
return 1
"""
# KEYS: hash, due. ARGV: id, fence or '', due in (ms) or '', old states, fields and values... The state before, if any.
MOVE = """
local before, fence = unpack(redis.call('HMGET', KEYS[1], 'state', 'fence'))
if not before then return false end
if ARGV[2] ~= '' and fence ~= ARGV[2] then return {'lost'} end
if not string.find(ARGV[4], '|' .. before .. '|', 1, true) then return {before} end
redis.call('HSET', KEYS[1], unpack(ARGV, 5))
if ARGV[3] == '' then
  redis.call('ZREM', KEYS[2], ARGV[1])
else
  local clock = redis.call('TIME')
  redis.call('ZADD', KEYS[2], clock[1] * 1000 + math.floor(clock[2] / 1000) + ARGV[3], ARGV[1])
end
return {before, 'moved'}
"""
# KEYS: hash, open entries, events, listing, due, bytes that the tenant keeps. ARGV: id.
FORGET = """
redis.call('DECRBY', KEYS[6], redis.call('HGET', KEYS[1], 'bytes') or 0)
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[1])
"""
