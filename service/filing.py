"""The script by which Redis admits a job and files it, in one step or not at all."""

SUBMIT = """
local job, events, jobs, queued, lane, mine, counts, idempotency, spent, kept, bytes, deadlines = unpack(KEYS)
local id, kind, record, event, data, life, limit, fingerprint, replayed_for, waits = unpack(ARGV)
local most_queued, most_seconds, most_bytes, deadline = unpack(ARGV, 11)  -- of the tenant, of the job; empty: none
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

if fingerprint ~= '' then
  local seen = redis.call('HMGET', idempotency, 'fingerprint', 'id', 'until', 'job')
  if seen[1] and seen[1] ~= fingerprint then return {'reused', seen[2]} end
  if seen[1] and redis.call('EXISTS', seen[4]) == 1 then
    if tonumber(seen[3]) > now then return {'in-flight', seen[2]} end
    return {'replayed', seen[2]}
  end
end
if record == '' then return {'absent', ''} end
if redis.call('EXISTS', job) == 1 then return {'created', id} end  -- sent again after a connection was lost
if most_queued ~= '' and redis.call('ZCARD', mine) >= tonumber(most_queued) then return {'queued', 0} end
if most_seconds ~= '' and tonumber(redis.call('GET', spent) or 0) >= tonumber(most_seconds) then
  return {'device-seconds', 86400000 - now % 86400000}
end
if most_bytes ~= '' then
  for _, over in ipairs(redis.call('ZRANGEBYSCORE', kept, '-inf', now, 'LIMIT', 0, 1000)) do
    redis.call('ZREM', kept, over)
    redis.call('DECRBY', bytes, string.match(over, ':(%d+)$'))
  end
  if tonumber(redis.call('GET', bytes) or 0) >= tonumber(most_bytes) then
    return {'bytes-kept', math.ceil((redis.call('ZRANGE', kept, 0, 0, 'WITHSCORES')[2] or now) - now)}
  end
end
if redis.call('ZCARD', lane) >= tonumber(limit) then return {'full', ''} end

redis.call('SET', job, record, 'EX', life)
redis.call('XADD', events, '*', 'event', event, 'data', data)
redis.call('EXPIRE', events, life)
redis.call('ZADD', jobs, 0, id)
for _, queue in ipairs({queued, lane, mine}) do redis.call('ZADD', queue, now, id) end
if deadline ~= '' then redis.call('ZADD', deadlines, deadline, id) end
redis.call('HINCRBY', counts, kind .. ':submitted', 1)
if fingerprint ~= '' then
  redis.call('HSET', idempotency, 'fingerprint', fingerprint, 'id', id, 'until', now + waits, 'job', job)
  redis.call('EXPIRE', idempotency, replayed_for)
end
return {'created', id, redis.call('ZCARD', lane) - 1}
"""
