"""The Lua scripts of the Redis backend: core commands only, every key declared, one slot.

What lies where, below the prefix `stateview:{NS}:`:

    head      hash     revision, time, floor, lineage, format
    live      hash     key -> "REVISION TIME EXPIRES VALUE"
    index     zset     the live keys, in byte order, for pages without a scan
    expiry    zset     live keys by their time of expiry
    history   hash     key NUL REVISION -> "UNTIL TIME EXPIRES V" + value, or D for a delete; UNTIL 0 is open
    hindex    zset     the fields of history in byte order
    hexpiry   zset     the fields of history by their time of expiry
    touched   zset     REVISION key, in byte order: which keys a revision wrote
    commits   hash     REVISION -> "TIME " + JSON
    marks     zset     NAME@REVISION by revision
    notes     hash     NAME@REVISION -> "SEQUENCE TIME NOTE"
    tokens    zset     the tokens of the last commits by revision, so that a retry is applied once
    damaged   hash     key -> what was there, and was not what this wrote: set aside by `recover`

Revisions inside a member have 16 digits. A key holds no NUL, so NUL divides and sorts first.
"""

NAMES = (
    "head", "live", "index", "expiry", "history", "hindex", "hexpiry", "touched", "commits", "marks", "notes", "tokens",
    "damaged",
)  # fmt: skip

_COMMON = """
local head, live, index, expiry, history, hindex, hexpiry, touched, commits, marks, notes, tokens, damaged =
  unpack(KEYS)
local call = redis.call
local function int(n) return string.format('%.0f', n) end
local function pad(n) return string.format('%016.0f', n) end
local function clock() local t = call('TIME'); return t[1] * 1000000 + t[2] end
local function count() return call('ZCARD', index) - call('ZCOUNT', expiry, '-inf', int(clock())) end
local function less(a, b)  -- in byte order; Lua's own < goes by the locale of the server
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
  end
  return #a < #b
end
local function split(packed)
  local r, t, e, at = string.match(packed or '', '^(%d+) (%d+) (%d+) ()')
  if not at then error('DAMAGED: an entry is not what was written') end
  return tonumber(r), tonumber(t), tonumber(e), string.sub(packed, at)
end
local function kept(revision)
  local f = call('HMGET', head, 'revision', 'floor')
  if revision > tonumber(f[1] or 0) then return false, f[2] or '0' end
  return revision >= tonumber(f[2] or 0) or call('ZCOUNT', marks, int(revision), int(revision)) > 0, f[2] or '0'
end
local function before(key, revision)  -- the last version in the history that is not after a revision
  return call('ZREVRANGEBYLEX', hindex, '[' .. key .. '\\0' .. pad(revision), '[' .. key .. '\\0', 'LIMIT', 0, 1)[1]
end
local function at(key, revision, time)  -- what a state shows of a key: packed as in live
  local packed = call('HGET', live, key)
  if packed then
    local r, _, e = split(packed)
    if r <= revision then
      if e == 0 or e > time then return packed end
      return false
    end
  end
  local member = before(key, revision)
  if not member then return false end
  local u, t, e, rest = split(call('HGET', history, member))
  if (u ~= 0 and u <= revision) or string.sub(rest, 1, 1) == 'D' or (e ~= 0 and e <= time) then return false end
  local r = tonumber(string.sub(member, -16))
  return int(r) .. ' ' .. int(t) .. ' ' .. int(e) .. ' ' .. string.sub(rest, 2)
end
"""

_TRIM = """
local function forget(member)
  call('HDEL', history, member); call('ZREM', hindex, member); call('ZREM', hexpiry, member)
end
local function trim(floor, goal, limit)
  -- The rules are those of sqlite_schema.trim.
  local low, high = '[' .. pad(floor + 1), '(' .. pad(goal + 1)
  local rows = call('ZRANGEBYLEX', touched, low, high, 'LIMIT', 0, limit + 1)
  if #rows > limit then
    goal = math.max(floor + 1, tonumber(string.sub(rows[#rows], 1, 16)) - 1)
    rows = call('ZRANGEBYLEX', touched, low, '(' .. pad(goal + 1))
  end
  local oldest = tonumber(call('ZRANGE', marks, 0, 0, 'WITHSCORES')[2])
  for _, row in ipairs(rows) do
    local r, key = tonumber(string.sub(row, 1, 16)), string.sub(row, 17)
    local member = before(key, r - 1)
    if member then
      local u = tonumber(string.match(call('HGET', history, member) or '', '^%d+'))  -- nil where damaged: left
      local first = tonumber(string.sub(member, -16))
      if u == r and call('ZCOUNT', marks, int(first), '(' .. int(r)) == 0 then
        forget(member)
        call('ZREM', touched, pad(first) .. key)
      end
    end
    if not oldest or oldest >= r then
      call('ZREM', touched, row)
      local own = key .. '\\0' .. pad(r)
      local packed = call('HGET', history, own)
      if packed and string.match(packed, '^%d+ %d+ %d+ D$') then forget(own) end
    end
  end
  for r = floor + 1, goal do call('HDEL', commits, int(r)) end
  call('HSET', head, 'floor', int(goal))
  return goal
end
"""

# fmt: off
# The formatter would wrap every script in parentheses, and indent nothing in it.
COMMIT = _COMMON + _TRIM + """
local h = cjson.decode(ARGV[1])
local f = call('HMGET', head, 'revision', 'time', 'floor', 'lineage')
local revision, last, floor, lineage = tonumber(f[1] or 0), tonumber(f[2] or 0), tonumber(f[3] or 0), f[4]
if not (revision and last and floor) then error('DAMAGED: the head is not what was written') end
local known = call('ZSCORE', tokens, h.token)
if known then return {'ok', known, int(last), count(), int(floor), lineage} end
if h.base and h.base ~= revision then return {'base', int(revision)} end
local now = math.max(clock(), last + 1)
for key, expected in pairs(h.expected or {}) do
  local found = call('HGET', live, key)
  local r, _, e = 0, 0, 0
  if found then r, _, e = split(found) end
  if e ~= 0 and e <= now then r = 0 end
  if r ~= expected then return {'key', key, expected, r} end
end
for _, mark in ipairs(h.marks or {}) do
  if mark.fresh and call('HEXISTS', notes, 'name:' .. mark.name) == 1 then return {'mark', mark.name} end
  if mark.revision then
    local ok, low = kept(mark.revision)
    if not ok then return {'pruned', int(mark.revision), low} end
  end
end
if h.time then now = h.time end
if not lineage then
  if not h.lineage then return {'register'} end
  lineage = h.lineage
end
-- All is read, and checked, before the first write: what a script did before it failed is not undone.
for _, set in ipairs({index, expiry, hindex, hexpiry, touched, marks}) do call('ZCARD', set) end
for _, hash in ipairs({live, history, commits, notes}) do call('HLEN', hash) end
local plan, chosen = {}, {}
local function look(key, value, ttl, time)
  local p = {key = key, value = value, ttl = ttl, time = time}
  local old = call('HGET', live, key)
  if old then
    p.revision, p.t, p.e, p.rest = split(old)
  else
    p.member = before(key, revision + 1)
    if p.member then p.upto, p.t, p.e, p.rest = split(call('HGET', history, p.member)) end
  end
  plan[#plan + 1], chosen[key] = p, true
end
for i = 3, #ARGV, 5 do
  look(ARGV[i], ARGV[i + 1] == '1' and ARGV[i + 2] or nil, tonumber(ARGV[i + 3]), tonumber(ARGV[i + 4]))
end
if h.keys > 0 then
  for _, key in ipairs(call('ZRANGEBYSCORE', expiry, '-inf', int(now), 'LIMIT', 0, 100)) do
    if not chosen[key] then look(key) end
  end
end
if not f[4] then call('HSET', head, 'lineage', lineage, 'format', '1', 'revision', '0', 'floor', '0') end
for _, mark in ipairs(h.unmarks or {}) do
  local member = mark[1] .. '@' .. int(mark[2])
  if call('ZREM', marks, member) == 1 then
    call('HDEL', notes, member)
    if call('HINCRBY', notes, 'name:' .. mark[1], -1) <= 0 then call('HDEL', notes, 'name:' .. mark[1]) end
  end
end
for _, mark in ipairs(h.marks or {}) do
  local r = mark.revision or revision
  local member = mark.name .. '@' .. int(r)
  if call('ZADD', marks, int(r), member) == 1 then call('HINCRBY', notes, 'name:' .. mark.name, 1) end
  local order = int(call('HINCRBY', notes, 'sequence', 1))
  call('HSET', notes, member, order .. ' ' .. int(mark.time or now) .. ' 0 ' .. (mark.note or ''))
end
call('ZADD', tokens, int(revision + (h.keys > 0 and 1 or 0)), h.token)
if h.keys == 0 then
  call('HSET', head, 'touch', h.token)
  return {'ok', int(revision), int(last), count(), int(floor), lineage}
end
revision = revision + 1
local padded, stamp = pad(revision), int(revision) .. ' '
for _, p in ipairs(plan) do
  local key, expired = p.key, 0
  if p.revision then
    local member = key .. '\\0' .. pad(p.revision)
    call('HSET', history, member, stamp .. int(p.t) .. ' ' .. int(p.e) .. ' V' .. p.rest)
    call('ZADD', hindex, 0, member)
    if p.e ~= 0 then call('ZADD', hexpiry, int(p.e), member) end
    expired = p.e
  elseif p.upto == 0 then
    call('HSET', history, p.member, stamp .. int(p.t) .. ' ' .. int(p.e) .. ' ' .. p.rest)
  end
  if p.value then
    local expires = 0
    if p.ttl > 0 then expires = now + p.ttl end
    call('HSET', live, key, stamp .. int(p.time > 0 and p.time or now) .. ' ' .. int(expires) .. ' ' .. p.value)
    if not p.revision then call('ZADD', index, 0, key) end
    if expires > 0 then call('ZADD', expiry, int(expires), key)
    elseif expired ~= 0 then call('ZREM', expiry, key) end
  else
    local member = key .. '\\0' .. padded
    call('HSET', history, member, '0 ' .. int(now) .. ' 0 D')
    call('ZADD', hindex, 0, member)
    if p.revision then
      call('HDEL', live, key); call('ZREM', index, key)
      if expired ~= 0 then call('ZREM', expiry, key) end
    end
  end
  call('ZADD', touched, 0, padded .. key)
end
call('HSET', commits, int(revision), int(now) .. ' ' .. ARGV[2])
call('HSET', head, 'revision', int(revision), 'time', int(now))
if revision % 128 == 0 then call('ZREMRANGEBYSCORE', tokens, '-inf', int(revision - 10000)) end
if revision - floor > h.keep then floor = trim(floor, revision - h.keep, 200) end
return {'ok', int(revision), int(now), count(), int(floor), lineage}
"""

HEAD = _COMMON + """
local f = call('HMGET', head, 'revision', 'time', 'floor', 'lineage', 'format')
return {f[1] or '0', f[2] or '0', count(), f[3] or '0', f[4] or '', f[5] or '0'}
"""

READ = _COMMON + """
local revision, time = tonumber(ARGV[1]), tonumber(ARGV[2])
if revision < 0 then
  revision, time = 2 ^ 53, clock()
else
  local ok, low = kept(revision)
  if not ok then return {'pruned', low} end
end
local out = {'ok'}
for i = 3, #ARGV do
  local packed = at(ARGV[i], revision, time)
  if packed then out[#out + 1] = ARGV[i]; out[#out + 1] = packed end
end
return out
"""

SCAN = _COMMON + """
local prefix, after, limit = ARGV[1], ARGV[2], tonumber(ARGV[3])
local revision, time = tonumber(ARGV[4]), tonumber(ARGV[5])
local past = revision >= 0
if past then
  local ok, low = kept(revision)
  if not ok then return {'pruned', low} end
else
  revision, time = 2 ^ 53, clock()
end
local low = '[' .. prefix
if after ~= '' and not less(after, prefix) then low = '(' .. after end
local high = '(' .. prefix .. '\\255'
local found = call('ZRANGEBYLEX', index, low, high, 'LIMIT', 0, limit)
local last = nil  -- beyond this key, what was fetched is not complete
if #found == limit then last = found[#found] end
local keys, seen = {}, {}
for _, key in ipairs(found) do keys[#keys + 1] = key; seen[key] = true end
if past then
  local from = low
  if string.sub(low, 1, 1) == '(' then from = '(' .. after .. '\\0:' end
  local members = call('ZRANGEBYLEX', hindex, from, high, 'LIMIT', 0, limit)
  for _, member in ipairs(members) do
    local key = string.sub(member, 1, -18)
    if not seen[key] then keys[#keys + 1] = key; seen[key] = true end
  end
  if #members == limit then
    local end_ = string.sub(members[#members], 1, -18)
    if not last or less(end_, last) then last = end_ end
  end
  table.sort(keys, less)
end
local out = {'ok', last or ''}
for _, key in ipairs(keys) do
  if not last or not less(last, key) then
    local packed = at(key, revision, time)
    if packed then out[#out + 1] = key; out[#out + 1] = packed end
  end
end
return out
"""

CHANGED = _COMMON + """
for i = 1, 2 do
  local revision = tonumber(ARGV[i])
  local ok, low = kept(revision)
  if not ok then return {'pruned', int(revision), low} end
end
local from = '[' .. pad(tonumber(ARGV[1]) + 1)
if ARGV[3] ~= '' then from = '(' .. ARGV[3] end
return {'ok', call('ZRANGEBYLEX', touched, from, '(' .. pad(tonumber(ARGV[2]) + 1), 'LIMIT', 0, 10000)}
"""

VERSIONS = _COMMON + """
local key, limit, below = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local out = {}
local packed = call('HGET', live, key)
if packed then
  local r, t, e, v = split(packed)
  if r < below then out[1] = {int(r), int(t), int(e), 'V' .. v} end
end
local low, high = '[' .. key .. '\\0', '(' .. key .. '\\0' .. pad(below)
local members = call('ZREVRANGEBYLEX', hindex, high, low, 'LIMIT', 0, limit)
for _, member in ipairs(members) do
  local u, t, e, rest = split(call('HGET', history, member))
  out[#out + 1] = {int(tonumber(string.sub(member, -16))), int(t), int(e), rest}
end
return out
"""

COMPACT = _COMMON + _TRIM + """
-- A step of forgetting what only deleted checkpoints saw. ARGV: the floor, the last member looked at, how many to take.
local goal = tonumber(ARGV[1])
local from = '-'
if ARGV[2] ~= '' then from = '(' .. ARGV[2] end
local members = call('ZRANGEBYLEX', hindex, from, '+', 'LIMIT', 0, tonumber(ARGV[3]))
local dropped = 0
for _, member in ipairs(members) do
  local u, _, _, rest = split(call('HGET', history, member))
  local first, key = tonumber(string.sub(member, -16)), string.sub(member, 1, -18)
  local unseen = u ~= 0 and u <= goal and call('ZCOUNT', marks, int(first), '(' .. int(u)) == 0
  local bare = rest == 'D' and first <= goal and call('ZCOUNT', marks, '-inf', '(' .. int(first)) == 0
  if unseen or bare then
    forget(member)
    call('ZREM', touched, pad(first) .. key)
    dropped = dropped + 1
  end
end
return {dropped, members[#members] or ''}
"""

TRIM = _COMMON + _TRIM + """
local f = call('HMGET', head, 'revision', 'floor')
local goal, floor = math.min(tonumber(ARGV[1]), tonumber(f[1] or 0)), tonumber(f[2] or 0)
if floor >= goal then return int(floor) end
return int(trim(floor, goal, 2000))
"""

AGREE = _COMMON + """
local bare, unlisted = 0, 0
for _, key in ipairs(ARGV) do
  local listed, held = call('ZSCORE', index, key), call('HEXISTS', live, key) == 1
  if listed and not held then call('ZREM', index, key); bare = bare + 1 end
  if held and not listed then call('ZADD', index, 0, key); unlisted = unlisted + 1 end
end
return {bare, unlisted}
"""

SET_ASIDE = _COMMON + """
if call('HGET', live, ARGV[1]) ~= ARGV[2] then
  return call('HGET', damaged, ARGV[1]) == ARGV[2] and 1 or 0
end
call('HSET', damaged, ARGV[1], ARGV[2])
call('ZREM', index, ARGV[1]); call('ZREM', expiry, ARGV[1])
return call('HDEL', live, ARGV[1])
"""
