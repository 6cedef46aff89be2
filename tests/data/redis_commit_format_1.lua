
local head, live, index, expiry, history, hindex, hexpiry, touched, commits, marks, notes, tokens, older, damaged =
  unpack(KEYS)
local call = redis.call

local function int(n) return string.format('%.0f', n) end
local function pad(n) return string.format('%016.0f', n) end
local function clock() local t = call('TIME'); return t[1] .. string.rep('0', 6 - #t[2]) .. t[2] end
local function split(packed)  -- three numbers as text, and the position of the rest
  local r, t, e, at = string.match(packed or '', '^(%d+) (%d+) (%d+) ()')
  if not at then error('DAMAGED: an entry is not what was written') end
  return r, t, e, at
end

-- ARGV: options that only some commits have, as JSON, or nothing; the record for the log; the session, and the number
-- of the commit in it; how many revisions to keep. Then for each write: the key; 'TTL TIME', D to delete, or nothing;
-- the value. Returns the head after the commit as text, or a table that says why it was refused.
local options = ARGV[1] ~= '' and cjson.decode(ARGV[1]) or {}
local session, number = ARGV[3], tonumber(ARGV[4])
local f = call('HMGET', head, 'revision', 'time', 'floor', 'lineage', 'touch')
local revision, last, floor, lineage = tonumber(f[1] or 0), tonumber(f[2] or 0), tonumber(f[3] or 0), f[4]
if not (revision and last and floor) or not (f[1] and lineage) and call('EXISTS', unpack(KEYS)) > 0 then
  error('DAMAGED: the head is not what was written')
end
local writes, keep, size = #ARGV > 5, tonumber(ARGV[5]), call('ZCARD', index)
local token = call('HGET', tokens, session)
local new_session = not token
if new_session then token = call('HGET', older, session) end
if token then
  local done, r = string.match(token, '^(%d+) (%d+)$')
  if not done then error('DAMAGED: a token is not what was written') end
  if tonumber(done) == number then
    return table.concat({r, int(last), size - call('ZCOUNT', expiry, '-inf', clock()), int(floor), lineage}, ' ')
  end
  if tonumber(done) > number then error('the client has given up this commit and sent later ones') end
end
local due = writes and revision - floor >= keep + math.floor(keep / 100)  -- trimming 1 % at once costs less
-- A part that this commit meets must hold what it held. The flag of another part is kept as it is.
local touch, flags, tag = string.match(f[5] or '', '^(%S*) ([01]+)@(.*)$')
if not flags or tag ~= f[1] .. ' ' .. (f[3] or '') then touch, flags = string.match(f[5] or '', '^%S*'), nil end
local function had(i) return string.byte(flags, i) == 49 end
local versions, sessions = call('HLEN', history), new_session and call('HLEN', tokens)
if not flags or call('HLEN', live) ~= size or size == 0 and had(1) or call('ZCARD', hindex) ~= versions or
  versions == 0 and had(4) or call('ZCARD', touched) == 0 and had(7) or call('HLEN', commits) < revision - floor or
  had(3) and call('ZCARD', expiry) == 0 or (options.marks or options.unmarks or due) and
    (call('ZCARD', marks) == 0 and had(9) or call('HLEN', notes) == 0 and had(10)) or
  sessions and (sessions == 0 and had(11) or had(12) and call('HLEN', older) == 0) then

local function lost(name) error('MISSING ' .. name) end
local function missing(first, last)
  -- The places of the parts that are gone or lack members, of those from one place in KEYS to another. See above.
  local f = call('HMGET', head, 'revision', 'floor', 'touch')
  if not f[1] then
    if call('EXISTS', unpack(KEYS)) > 0 then error('DAMAGED: the head is not what was written') end
    return {}
  end
  local flags, tag = string.match(f[3] or '', '^%S* ([01]+)@(.*)$')
  if tag ~= f[1] .. ' ' .. (f[2] or '') then flags = nil end
  local n, out, hash = {}, {}, {[2] = 1, [5] = 1, [9] = 1, [11] = 1, [12] = 1, [13] = 1}
  for i = first, last do
    n[i] = call(hash[i] and 'HLEN' or 'ZCARD', KEYS[i])
    if n[i] == 0 and flags and string.byte(flags, i - 1) == 49 then out[#out + 1] = i end
  end
  local function compare(a, b)
    if n[a] and n[b] and n[a] ~= n[b] then out[#out + 1] = n[a] < n[b] and a or b end
  end
  compare(2, 3)
  compare(5, 6)
  local revisions = tonumber(f[1]) - tonumber(f[2] or 0)
  if n[8] == 0 and not flags and revisions > 0 then out[#out + 1] = 8 end
  if n[9] and n[9] < revisions then out[#out + 1] = 9 end
  if n[10] and n[11] then  -- a record for each mark, a count for each name, and the sequence
    if n[10] == 0 and n[11] > 1 then out[#out + 1] = 10 end
    if n[10] > 0 and n[11] < n[10] + 2 then out[#out + 1] = 11 end
  end
  return out
end
local function whole(first, last)
  local place = missing(first, last)[1]
  if place then lost(string.match(KEYS[place], '[^:]+$')) end
end

  whole(2, 13)
  flags = nil
end
if options.base and options.base ~= revision then return {'base', int(revision)} end
local clock_time = clock()
local since = tonumber(clock_time)  -- of durations; the times of commits rise, even if the clock steps back
local now = math.max(since, last + 1)
local expired_count = (not flags or had(3)) and call('ZCOUNT', expiry, '-inf', clock_time) or 0
if options.expected then
  for key, expected in pairs(options.expected) do
    local packed = call('HGET', live, key)
    local r, e = 0, 0
    if packed then
      local a, _, c = split(packed)
      r, e = tonumber(a), tonumber(c)
    end
    if e ~= 0 and e <= since then r = 0 end
    if r ~= expected then return {'key', key, expected, r} end
  end
end
if options.marks then

local function kept(revision)
  local f = call('HMGET', head, 'revision', 'floor')
  if not f[1] and call('EXISTS', unpack(KEYS)) > 0 then error('DAMAGED: the head is not what was written') end
  if revision > tonumber(f[1] or 0) then return false, f[2] or '0' end
  return revision >= tonumber(f[2] or 0) or call('ZCOUNT', marks, int(revision), int(revision)) > 0, f[2] or '0'
end

  for _, mark in ipairs(options.marks) do
    if mark.fresh and call('HEXISTS', notes, 'name:' .. mark.name) == 1 then return {'mark', mark.name} end
    if mark.revision then
      local ok, low = kept(mark.revision)
      if not ok then return {'pruned', int(mark.revision), low} end
    end
  end
end
if options.time then now, since = options.time, options.time end
if not lineage then
  if not options.lineage then return {'register'} end
  lineage = options.lineage
end
-- All reads and checks come before the first write, because Redis does not undo the writes of a script that fails. The
-- size of each key that is written was read, so that a key of a wrong type fails before.
local stamp, plan = int(now), {}
-- What the writes do: an expiring entry ends, another begins, one ends for good, a version is superseded.
local old_expires, new_expires, drops_expiry, supersedes, deleted = false, false, false, false, 0
if writes then
  local written
  local function add(key, value, ttl, time)
    local old = call('HGET', live, key)
    supersedes, new_expires = supersedes or old or not value, new_expires or ttl
    if old then
      local r, t, e, at = split(old)
      old_expires, drops_expiry = old_expires or e ~= '0', drops_expiry or e ~= '0' and not ttl
      if not value then deleted = deleted + 1 end
      plan[#plan + 1] = {key = key, value = value, ttl = ttl, time = time, revision = r, e = e,
        old = t .. ' ' .. e .. ' V' .. string.sub(old, at)}
    else
      local member = call('ZREVRANGEBYLEX', hindex, '[' .. key .. '\0' .. pad(revision + 1), '[' .. key .. '\0',
        'LIMIT', 0, 1)[1]
      local open = false
      if member then
        local packed = call('HGET', history, member)
        local u, t, e, at = split(packed)
        if u == '0' then open = t .. ' ' .. e .. ' ' .. string.sub(packed, at) end
      end
      plan[#plan + 1] = {key = key, value = value, ttl = ttl, time = time, member = member, old = open}
    end
  end
  if expired_count > 0 then written = {} end
  for i = 6, #ARGV, 3 do
    local key, how, value = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    if how == '' then add(key, value)
    elseif how == 'D' then add(key)
    else
      local ttl, time = string.match(how, '^(%d+) (%d+)$')
      add(key, value, ttl ~= '0' and tonumber(ttl), time ~= '0' and time)
    end
    if written then written[key] = true end
  end
  if written then  -- delete expired entries too
    for _, key in ipairs(call('ZRANGEBYSCORE', expiry, '-inf', clock_time, 'LIMIT', 0, 100)) do
      if not written[key] then add(key) end
    end
  end
end
local full = sessions and sessions >= 10000
-- The flags are as they were, unless a part may become empty or get its first member. Then all parts are looked at.
if flags and (full or due or options.unmarks or options.marks and not (had(9) and had(10)) or not had(11) or
    writes and (size <= deleted or not (had(7) and had(8)) or supersedes and not had(4) or new_expires and not had(3) or
      drops_expiry or old_expires and (not had(6) or call('ZCARD', hexpiry) == 0))) then

local function lost(name) error('MISSING ' .. name) end
local function missing(first, last)
  -- The places of the parts that are gone or lack members, of those from one place in KEYS to another. See above.
  local f = call('HMGET', head, 'revision', 'floor', 'touch')
  if not f[1] then
    if call('EXISTS', unpack(KEYS)) > 0 then error('DAMAGED: the head is not what was written') end
    return {}
  end
  local flags, tag = string.match(f[3] or '', '^%S* ([01]+)@(.*)$')
  if tag ~= f[1] .. ' ' .. (f[2] or '') then flags = nil end
  local n, out, hash = {}, {}, {[2] = 1, [5] = 1, [9] = 1, [11] = 1, [12] = 1, [13] = 1}
  for i = first, last do
    n[i] = call(hash[i] and 'HLEN' or 'ZCARD', KEYS[i])
    if n[i] == 0 and flags and string.byte(flags, i - 1) == 49 then out[#out + 1] = i end
  end
  local function compare(a, b)
    if n[a] and n[b] and n[a] ~= n[b] then out[#out + 1] = n[a] < n[b] and a or b end
  end
  compare(2, 3)
  compare(5, 6)
  local revisions = tonumber(f[1]) - tonumber(f[2] or 0)
  if n[8] == 0 and not flags and revisions > 0 then out[#out + 1] = 8 end
  if n[9] and n[9] < revisions then out[#out + 1] = 9 end
  if n[10] and n[11] then  -- a record for each mark, a count for each name, and the sequence
    if n[10] == 0 and n[11] > 1 then out[#out + 1] = 10 end
    if n[10] > 0 and n[11] < n[10] + 2 then out[#out + 1] = 11 end
  end
  return out
end
local function whole(first, last)
  local place = missing(first, last)[1]
  if place then lost(string.match(KEYS[place], '[^:]+$')) end
end

  whole(2, 13)
  flags = nil
end
if full then call('RENAME', tokens, older) end  -- the first write: not every user may call it
local r
if writes then
  r = int(revision + 1)
  call('HSET', commits, r, stamp .. ' ' .. ARGV[2])
end
if not f[4] then call('HSET', head, 'lineage', lineage, 'format', '1', 'revision', '0', 'floor', '0') end
if options.unmarks then
  for _, mark in ipairs(options.unmarks) do
    local member = mark[1] .. '@' .. int(mark[2])
    if call('ZREM', marks, member) == 1 then
      call('HDEL', notes, member)
      if call('HINCRBY', notes, 'name:' .. mark[1], -1) <= 0 then call('HDEL', notes, 'name:' .. mark[1]) end
    end
  end
end
if options.marks then
  for _, mark in ipairs(options.marks) do
    local r = int(mark.revision or revision)
    local member = mark.name .. '@' .. r
    if call('ZADD', marks, r, member) == 1 then call('HINCRBY', notes, 'name:' .. mark.name, 1) end
    local order = int(call('HINCRBY', notes, 'sequence', 1))
    local record = order .. ' ' .. int(mark.time or since) .. ' ' .. int(mark.kind or 0)
    call('HSET', notes, member, record .. ' ' .. (mark.note or ''))
  end
end
call('HSET', tokens, session, ARGV[4] .. ' ' .. (r or int(revision)))
if not writes then
  flags = flags or (call('HLEN', live) > 0 and '1' or '0') .. (call('ZCARD', index) > 0 and '1' or '0') .. (call('ZCARD', expiry) > 0 and '1' or '0') .. (call('HLEN', history) > 0 and '1' or '0') .. (call('ZCARD', hindex) > 0 and '1' or '0') .. (call('ZCARD', hexpiry) > 0 and '1' or '0') .. (call('ZCARD', touched) > 0 and '1' or '0') .. (call('HLEN', commits) > 0 and '1' or '0') .. (call('ZCARD', marks) > 0 and '1' or '0') .. (call('HLEN', notes) > 0 and '1' or '0') .. (call('HLEN', tokens) > 0 and '1' or '0') .. (call('HLEN', older) > 0 and '1' or '0')
  call('HSET', head, 'touch', session .. ARGV[4] .. ' ' .. flags .. '@' .. int(revision) .. ' ' .. int(floor))
  return table.concat({int(revision), int(last), size - expired_count, int(floor), lineage}, ' ')
end
revision = revision + 1
local padded, start = pad(revision), r .. ' '
for _, p in ipairs(plan) do
  local key, expired = p.key, p.revision and p.e ~= '0'
  if p.revision then
    local member = key .. '\0' .. pad(p.revision)
    call('HSET', history, member, start .. p.old)
    call('ZADD', hindex, '0', member)
    if expired then call('ZADD', hexpiry, p.e, member) end
  elseif p.old then
    call('HSET', history, p.member, start .. p.old)
  end
  if p.value then
    local expires = p.ttl and int(since + p.ttl) or '0'
    call('HSET', live, key, start .. (p.time or stamp) .. ' ' .. expires .. ' ' .. p.value)
    if not p.revision then
      call('ZADD', index, '0', key)
      size = size + 1
    end
    if p.ttl then call('ZADD', expiry, expires, key)
    elseif expired then call('ZREM', expiry, key) end
  else
    local member = key .. '\0' .. padded
    call('HSET', history, member, '0 ' .. stamp .. ' 0 D')
    call('ZADD', hindex, '0', member)
    if p.revision then
      call('HDEL', live, key); call('ZREM', index, key)
      size = size - 1
      if expired then call('ZREM', expiry, key) end
    end
  end
  call('ZADD', touched, '0', padded .. key)
end
if due then
  call('HSET', head, 'revision', r, 'time', stamp)

local function before(key, revision)  -- the last version of a key in the history, up to a revision
  return call('ZREVRANGEBYLEX', hindex, '[' .. key .. '\0' .. pad(revision), '[' .. key .. '\0', 'LIMIT', 0, 1)[1]
end

local function each(command, name, members)  -- call a command on many members; Lua passes 1,000 at once
  for i = 1, #members, 1000 do call(command, name, unpack(members, i, math.min(i + 999, #members))) end
end
local function trim(floor, goal, limit)
  -- The rules are those of sqlite/schema.py. Members are removed at the end: one command for many members costs less.
  local low, high = '[' .. pad(floor + 1), '(' .. pad(goal + 1)
  local rows = call('ZRANGEBYLEX', touched, low, high, 'LIMIT', 0, limit + 1)
  if #rows > limit then
    goal = math.max(floor + 1, tonumber(string.sub(rows[#rows], 1, 16)) - 1)
    rows = call('ZRANGEBYLEX', touched, low, '(' .. pad(goal + 1))
  end
  local oldest = tonumber(call('ZRANGE', marks, 0, 0, 'WITHSCORES')[2])
  local members, expiring, touches, records = {}, {}, {}, {}
  for _, row in ipairs(rows) do
    local r, key = tonumber(string.sub(row, 1, 16)), string.sub(row, 17)
    local member = before(key, r - 1)
    if member then
      local u, e = string.match(call('HGET', history, member) or '', '^(%d+) %d+ (%d+)')  -- nil if damaged: kept
      local first = tonumber(string.sub(member, -16))
      if tonumber(u) == r and (not oldest or call('ZCOUNT', marks, int(first), '(' .. int(r)) == 0) then
        members[#members + 1] = member
        touches[#touches + 1] = pad(first) .. key
        if e ~= '0' then expiring[#expiring + 1] = member end
      end
    end
    if not oldest or oldest >= r then
      touches[#touches + 1] = row
      local field = key .. '\0' .. pad(r)
      local packed = call('HGET', history, field)
      if packed and string.match(packed, '^%d+ %d+ %d+ D$') then
        local rest = call('ZRANGEBYLEX', hindex, '[' .. key .. '\0', '(' .. field, 'LIMIT', 0, 1001)
        if #rest <= 1000 then  -- of more versions, `compact` removes them and the delete
          for _, version in ipairs(rest) do
            members[#members + 1], expiring[#expiring + 1] = version, version
            touches[#touches + 1] = string.sub(version, -16) .. key
          end
          members[#members + 1] = field
        end
      end
    end
  end
  for r = floor + 1, goal do records[#records + 1] = int(r) end
  each('HDEL', history, members)
  each('ZREM', hindex, members)
  each('ZREM', hexpiry, expiring)
  each('ZREM', touched, touches)
  each('HDEL', commits, records)
  call('HSET', head, 'floor', int(goal))
  return goal
end

  floor = trim(floor, revision - keep, 200)
end
local low = due and int(floor) or f[3] or '0'
flags = flags or (call('HLEN', live) > 0 and '1' or '0') .. (call('ZCARD', index) > 0 and '1' or '0') .. (call('ZCARD', expiry) > 0 and '1' or '0') .. (call('HLEN', history) > 0 and '1' or '0') .. (call('ZCARD', hindex) > 0 and '1' or '0') .. (call('ZCARD', hexpiry) > 0 and '1' or '0') .. (call('ZCARD', touched) > 0 and '1' or '0') .. (call('HLEN', commits) > 0 and '1' or '0') .. (call('ZCARD', marks) > 0 and '1' or '0') .. (call('HLEN', notes) > 0 and '1' or '0') .. (call('HLEN', tokens) > 0 and '1' or '0') .. (call('HLEN', older) > 0 and '1' or '0')
call('HSET', head, 'revision', r, 'time', stamp, 'touch', touch .. ' ' .. flags .. '@' .. r .. ' ' .. low)
-- One commit deletes 100 expired entries. The others are still in the index.
return r .. ' ' .. stamp .. ' ' .. (size - math.max(0, expired_count - 100)) .. ' ' .. low .. ' ' .. lineage
