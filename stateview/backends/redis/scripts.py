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
    notes     hash     NAME@REVISION -> "SEQUENCE TIME KIND NOTE", KIND a place in KINDS
    tokens    hash     LANE -> "NUMBER REVISION", the last commit of each lane, so that a retry is applied once
    older     hash     what was in `tokens` until it held 10,000 lanes
    damaged   hash     key -> what was there, and was not what this wrote: set aside by `recover`

A lane is what one client sends its commits by, one after the other and numbered; where a commit's number is the last of
its lane, or before it, it was applied already, or given up. A token given by the caller is a lane of its own.

Revisions inside a member have 16 digits. A key holds no NUL, so NUL divides and sorts first.
"""

KINDS = ("", "named", "auto", "safety")  # of a checkpoint, by the number that is stored

NAMES = (
    "head", "live", "index", "expiry", "history", "hindex", "hexpiry", "touched", "commits", "marks", "notes", "tokens",
    "older", "damaged",
)  # fmt: skip

# What there is of a namespace as soon as there is a head; by their places in NAMES.
PARTS = (1, 2, 4, 8)


def unreadable_head(head: dict[bytes, bytes]) -> bool:
    """Whether what the hash `head` holds is not what was written; nothing at all is what was."""
    if not head:
        return False
    names = [b"revision", b"floor", *([b"time"] if head.get(b"revision") != b"0" else [])]
    numbers = [*(head.get(name, b"") for name in names), head.get(b"time", b"0"), head.get(b"format", b"0")]
    if not (all(number.isdigit() for number in numbers) and head.get(b"lineage", b"").isalnum()):
        return True
    return int(head[b"floor"]) > int(head[b"revision"])


# fmt: off
# The formatter would wrap every script in parentheses, and indent nothing in it.
_KEYS = """
local head, live, index, expiry, history, hindex, hexpiry, touched, commits, marks, notes, tokens, older, damaged =
  unpack(KEYS)
local call = redis.call
"""

# What a plain commit needs, and no more: to define a function takes time as well.
_TEXT = """
local function int(n) return string.format('%.0f', n) end
local function pad(n) return string.format('%016.0f', n) end
local function clock() local t = call('TIME'); return t[1] .. string.rep('0', 6 - #t[2]) .. t[2] end
local function split(packed)  -- three numbers, as they are written, and where the rest begins
  local r, t, e, at = string.match(packed or '', '^(%d+) (%d+) (%d+) ()')
  if not at then error('DAMAGED: an entry is not what was written') end
  return r, t, e, at
end
"""

_KEPT = """
local function kept(revision)
  local f = call('HMGET', head, 'revision', 'floor')
  if not f[1] and call('EXISTS', head) == 1 then error('DAMAGED: the head is not what was written') end
  if revision > tonumber(f[1] or 0) then return false, f[2] or '0' end
  return revision >= tonumber(f[2] or 0) or call('ZCOUNT', marks, int(revision), int(revision)) > 0, f[2] or '0'
end
"""

_BEFORE = """
local function before(key, revision)  -- the last version in the history that is not after a revision
  return call('ZREVRANGEBYLEX', hindex, '[' .. key .. '\\0' .. pad(revision), '[' .. key .. '\\0', 'LIMIT', 0, 1)[1]
end
"""

_COMMON = _KEYS + """
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
""" + _KEPT + _BEFORE + """
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
local function each(command, name, members)  -- a command on many members at once, as many as Lua hands over
  for i = 1, #members, 1000 do call(command, name, unpack(members, i, math.min(i + 999, #members))) end
end
local function trim(floor, goal, limit)
  -- The rules are those of sqlite_schema.trim. What goes, goes at the end, since one command for many costs less.
  local low, high = '[' .. pad(floor + 1), '(' .. pad(goal + 1)
  local rows = call('ZRANGEBYLEX', touched, low, high, 'LIMIT', 0, limit + 1)
  if #rows > limit then
    goal = math.max(floor + 1, tonumber(string.sub(rows[#rows], 1, 16)) - 1)
    rows = call('ZRANGEBYLEX', touched, low, '(' .. pad(goal + 1))
  end
  local oldest = tonumber(call('ZRANGE', marks, 0, 0, 'WITHSCORES')[2])
  local members, brief, touches, records = {}, {}, {}, {}
  for _, row in ipairs(rows) do
    local r, key = tonumber(string.sub(row, 1, 16)), string.sub(row, 17)
    local member = before(key, r - 1)
    if member then
      local u, e = string.match(call('HGET', history, member) or '', '^(%d+) %d+ (%d+)')  -- nil where damaged: left
      local first = tonumber(string.sub(member, -16))
      if tonumber(u) == r and (not oldest or call('ZCOUNT', marks, int(first), '(' .. int(r)) == 0) then
        members[#members + 1] = member
        touches[#touches + 1] = pad(first) .. key
        if e ~= '0' then brief[#brief + 1] = member end
      end
    end
    if not oldest or oldest >= r then
      touches[#touches + 1] = row
      local own = key .. '\\0' .. pad(r)
      local packed = call('HGET', history, own)
      if packed and string.match(packed, '^%d+ %d+ %d+ D$') then
        local left = call('ZRANGEBYLEX', hindex, '[' .. key .. '\\0', '(' .. own, 'LIMIT', 0, 1001)
        if #left <= 1000 then  -- of more, `compact` takes the delete too
          for _, one in ipairs(left) do
            members[#members + 1], brief[#brief + 1] = one, one
            touches[#touches + 1] = string.sub(one, -16) .. key
          end
          members[#members + 1] = own
        end
      end
    end
  end
  for r = floor + 1, goal do records[#records + 1] = int(r) end
  each('HDEL', history, members)
  each('ZREM', hindex, members)
  each('ZREM', hexpiry, brief)
  each('ZREM', touched, touches)
  each('HDEL', commits, records)
  call('HSET', head, 'floor', int(goal))
  return goal
end
"""

COMMIT = _KEYS + _TEXT + """
-- ARGV: what only some commits ask for, as JSON, or nothing; the record for the log; the lane, and the number of this
-- commit in it; how many revisions to keep. Then for each key: it, 'TTL TIME' or D to delete or nothing, the value.
local h = ARGV[1] ~= '' and cjson.decode(ARGV[1]) or {}
local lane, number = ARGV[3], tonumber(ARGV[4])
local f = call('HMGET', head, 'revision', 'time', 'floor', 'lineage')
local revision, last, floor, lineage = tonumber(f[1] or 0), tonumber(f[2] or 0), tonumber(f[3] or 0), f[4]
if not (revision and last and floor) or
  not (f[1] and lineage) and call('EXISTS', head, live, index, history, commits) > 0 then
  error('DAMAGED: the head is not what was written')
end
local size = call('ZCARD', index)
local known = call('HGET', tokens, lane)
local fresh = not known
if fresh then known = call('HGET', older, lane) end
if known then
  local done, r = string.match(known, '^(%d+) (%d+)$')
  if not done then error('DAMAGED: a token is not what was written') end
  if tonumber(done) == number then
    return table.concat({r, int(last), size - call('ZCOUNT', expiry, '-inf', clock()), int(floor), lineage}, ' ')
  end
  if tonumber(done) > number then error('this commit was given up by its client, which went on to others') end
end
if h.base and h.base ~= revision then return {'base', int(revision)} end
local now = math.max(tonumber(clock()), last + 1)
if h.expected then
  for key, expected in pairs(h.expected) do
    local found = call('HGET', live, key)
    local r, e = 0, 0
    if found then
      local a, _, c = split(found)
      r, e = tonumber(a), tonumber(c)
    end
    if e ~= 0 and e <= now then r = 0 end
    if r ~= expected then return {'key', key, expected, r} end
  end
end
if h.marks then
""" + _KEPT + """
  for _, mark in ipairs(h.marks) do
    if mark.fresh and call('HEXISTS', notes, 'name:' .. mark.name) == 1 then return {'mark', mark.name} end
    if mark.revision then
      local ok, low = kept(mark.revision)
      if not ok then return {'pruned', int(mark.revision), low} end
    end
  end
end
if h.time then now = h.time end
if not lineage then
  if not h.lineage then return {'register'} end
  lineage = h.lineage
end
-- All is read, and checked, before the first write: what a script did before it failed is not undone. To ask for the
-- size of a key is how to find it of a wrong type; what only some commits touch is asked only by those, and `commits`
-- by none, since it is what they write first.
local writes, stamp = #ARGV > 5, int(now)
local gone, keep = call('ZCOUNT', expiry, '-inf', stamp), tonumber(ARGV[5])
local due = writes and revision - floor >= keep + math.floor(keep / 100)  -- to trim a hundred at a time costs less
if h.marks or h.unmarks or due then call('ZCARD', marks); call('HLEN', notes) end
local plan, old_expires = {}, false
if writes then
  call('ZCARD', hindex); call('ZCARD', touched); call('HLEN', history)
  local chosen
  local function look(key, value, ttl, time)
    local old = call('HGET', live, key)
    if old then
      local r, t, e, at = split(old)
      old_expires = old_expires or e ~= '0'
      plan[#plan + 1] = {key = key, value = value, ttl = ttl, time = time, revision = r, e = e,
        old = t .. ' ' .. e .. ' V' .. string.sub(old, at)}
    else
      local member = call('ZREVRANGEBYLEX', hindex, '[' .. key .. '\\0' .. pad(revision + 1), '[' .. key .. '\\0',
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
  if gone > 0 then chosen = {} end
  for i = 6, #ARGV, 3 do
    local key, how, value = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    if how == '' then look(key, value)
    elseif how == 'D' then look(key)
    else
      local ttl, time = string.match(how, '^(%d+) (%d+)$')
      look(key, value, ttl ~= '0' and tonumber(ttl), time ~= '0' and time)
    end
    if chosen then chosen[key] = true end
  end
  if chosen then
    for _, key in ipairs(call('ZRANGEBYSCORE', expiry, '-inf', stamp, 'LIMIT', 0, 100)) do
      if not chosen[key] then look(key) end
    end
  end
end
if old_expires or due then call('ZCARD', hexpiry) end
if fresh and call('HLEN', tokens) >= 10000 then  -- first of all, since not every login may rename
  call('HLEN', commits)
  call('RENAME', tokens, older)
end
local r
if writes then
  r = int(revision + 1)
  call('HSET', commits, r, stamp .. ' ' .. ARGV[2])
end
if not f[4] then call('HSET', head, 'lineage', lineage, 'format', '1', 'revision', '0', 'floor', '0') end
if h.unmarks then
  for _, mark in ipairs(h.unmarks) do
    local member = mark[1] .. '@' .. int(mark[2])
    if call('ZREM', marks, member) == 1 then
      call('HDEL', notes, member)
      if call('HINCRBY', notes, 'name:' .. mark[1], -1) <= 0 then call('HDEL', notes, 'name:' .. mark[1]) end
    end
  end
end
if h.marks then
  for _, mark in ipairs(h.marks) do
    local r = int(mark.revision or revision)
    local member = mark.name .. '@' .. r
    if call('ZADD', marks, r, member) == 1 then call('HINCRBY', notes, 'name:' .. mark.name, 1) end
    local order = int(call('HINCRBY', notes, 'sequence', 1))
    local told = order .. ' ' .. int(mark.time or now) .. ' ' .. int(mark.kind or 0)
    call('HSET', notes, member, told .. ' ' .. (mark.note or ''))
  end
end
if not writes then
  call('HSET', tokens, lane, ARGV[4] .. ' ' .. int(revision))
  call('HSET', head, 'touch', lane .. ARGV[4])
  return table.concat({int(revision), int(last), size - gone, int(floor), lineage}, ' ')
end
call('HSET', tokens, lane, ARGV[4] .. ' ' .. r)
revision = revision + 1
local padded, start = pad(revision), r .. ' '
for _, p in ipairs(plan) do
  local key, expired = p.key, p.revision and p.e ~= '0'
  if p.revision then
    local member = key .. '\\0' .. pad(p.revision)
    call('HSET', history, member, start .. p.old)
    call('ZADD', hindex, '0', member)
    if expired then call('ZADD', hexpiry, p.e, member) end
  elseif p.old then
    call('HSET', history, p.member, start .. p.old)
  end
  if p.value then
    local expires = p.ttl and int(now + p.ttl) or '0'
    call('HSET', live, key, start .. (p.time or stamp) .. ' ' .. expires .. ' ' .. p.value)
    if not p.revision then
      call('ZADD', index, '0', key)
      size = size + 1
    end
    if p.ttl then call('ZADD', expiry, expires, key)
    elseif expired then call('ZREM', expiry, key) end
  else
    local member = key .. '\\0' .. padded
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
call('HSET', head, 'revision', r, 'time', stamp)
if due then
""" + _BEFORE + _TRIM + """
  floor = trim(floor, revision - keep, 200)
end
-- What has expired, and is more than one commit takes away, is still in the index.
return r .. ' ' .. stamp .. ' ' .. (size - math.max(0, gone - 100)) .. ' ' .. int(floor) .. ' ' .. lineage
"""

HEAD = _COMMON + """
local f = call('HMGET', head, 'revision', 'time', 'floor', 'lineage', 'format')
if not (f[1] and f[4]) and call('EXISTS', head, live, index, history, commits) > 0 then
  error('DAMAGED: the head is not what was written')
end
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
  past = revision ~= tonumber(call('HGET', head, 'revision') or 0)  -- what is live is told without the history
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

_PLACE = """
local function place(low, high)  -- the rank of the first key of a range, and that after its last
  local first, last = 0, call('ZCARD', index)
  if low ~= '' then first = call('ZLEXCOUNT', index, '-', '(' .. low) end
  if high ~= '' then last = call('ZLEXCOUNT', index, '-', '(' .. high) end
  return first, last
end
local function state(revision, time)  -- whether it is past, not live; and the time by which expiry is judged
  if revision < 0 then return false, clock() end
  return revision < tonumber(call('HGET', head, 'revision') or 0), time
end
"""

ROWS = _COMMON + _PLACE + """
-- Some of a page. ARGV: from which key on, up to which; 1 for backwards; how many to pass over, how many to return; the
-- state; how much of a value; what is remembered of huge values: which are these, the lineage, and of each its key, its
-- revision and when it was seen last. Returns how many are still to be passed over, the key to go on after (nothing:
-- there are no more), the head, and of each key its size and its entry, cut; no entry where it is as remembered.
local low, high, backwards = ARGV[1], ARGV[2], ARGV[3] == '1'
local skip, limit, revision, start = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[8])
local huge, known = tonumber(ARGV[9]), {}
if revision >= 0 then
  local ok, floor = kept(revision)
  if not ok then return {'pruned', floor} end
end
local past, time = state(revision, tonumber(ARGV[7]))
local f = call('HMGET', head, 'revision', 'floor', 'lineage')
if f[3] == ARGV[10] then
  for i = 11, #ARGV, 3 do  -- of what was seen before the floor, the history does not tell
    if tonumber(ARGV[i + 2]) >= tonumber(f[2]) then known[ARGV[i]] = ARGV[i + 1] end
  end
end
local keys, edge = {}, nil  -- in the order of the walk; where there is an edge, more may come after it

local function look_live()
  local first, last = place(low, high)
  if skip > 0 and call('ZCOUNT', expiry, '-inf', int(time)) == 0 then
    if backwards then last = last - skip else first = first + skip end
    skip = 0
  end
  local size = math.min(1000, skip + limit)
  if first >= last or size == 0 then return end
  if backwards then
    local found = call('ZRANGE', index, math.max(first, last - size), last - 1)
    for i = #found, 1, -1 do keys[#keys + 1] = found[i] end
  else
    keys = call('ZRANGE', index, first, math.min(last, first + size) - 1)
  end
  if last - first > size then edge = keys[#keys] end
end

local function look_past()
  local size = math.min(1000, skip + limit)
  local function find(set, tail)  -- a bound that ends in NUL lies after all that the history holds of that key
    local from, to = '-', '+'
    if low ~= '' then from = '[' .. low .. (string.sub(low, -1) == '\\0' and tail or '') end
    if high ~= '' then to = '(' .. high .. (string.sub(high, -1) == '\\0' and tail or '') end
    if backwards then return call('ZREVRANGEBYLEX', set, to, from, 'LIMIT', 0, size) end
    return call('ZRANGEBYLEX', set, from, to, 'LIMIT', 0, size)
  end
  local function before(a, b)
    if backwards then return less(b, a) end
    return less(a, b)
  end
  local one, other = find(index, ''), find(hindex, ':')
  for i, member in ipairs(other) do other[i] = string.sub(member, 1, -18) end
  if size > 0 then
    edge = one[size]
    if other[size] and (not edge or before(other[size], edge)) then edge = other[size] end
  end
  local i, j = 1, 1
  while one[i] or other[j] do
    local key = one[i]
    if not key or (other[j] and before(other[j], key)) then key = other[j] end
    if edge and before(edge, key) then break end
    keys[#keys + 1] = key
    if one[i] == key then i = i + 1 end
    while other[j] == key do j = j + 1 end
  end
end

if past then look_past() else look_live() end
local function lasts(key)  -- whether it is live at that time, without a look at its entry
  local expires = call('ZSCORE', expiry, key)
  return not expires or tonumber(expires) > time
end
local out, count, read = {'ok', 0, edge or '', f[1] or '0', f[2] or '0', f[3] or ''}, 0, 0
for i, key in ipairs(keys) do
  local seen = tonumber(known[key])
  local same = seen and (not past or seen <= revision) and call('HSTRLEN', live, key) > huge and
    not call('ZSCORE', hindex, key .. '\\0' .. pad(seen))
  if skip > 0 and not past then
    if lasts(key) then skip = skip - 1 end
  elseif same then
    if lasts(key) then
      if skip > 0 then
        skip = skip - 1
      else
        out[#out + 1] = key; out[#out + 1] = 0; out[#out + 1] = ''
        count = count + 1
      end
    end
  else
    local packed
    if past then packed = at(key, revision, time) else packed = call('HGET', live, key) end
    if packed or not past then
      local expires, from = string.match(packed or '', '^%d+ %d+ (%d+) ()')
      if not from then error('DAMAGED: an entry is not what was written') end
      if not past and expires ~= '0' and tonumber(expires) <= time then
        read = read + #packed
      elseif skip > 0 then
        skip = skip - 1
        read = read + #packed
      else
        out[#out + 1] = key
        out[#out + 1] = #packed - from + 1
        out[#out + 1] = string.sub(packed, 1, from - 1 + start)
        count = count + 1
        read = read + #packed
      end
    end
  end
  if count == limit and skip == 0 or read > 8000000 then  -- others are kept waiting by what is long
    if i < #keys then out[3] = key end
    break
  end
end
out[2] = skip
return out
"""

COUNT = _COMMON + _PLACE + """
-- ARGV: from which key on, up to which; the state; where to go on among what has expired. Returns how many keys lie
-- there, how many of those that were looked at have expired, and where to go on (-1: all were).
local low, high, revision, from = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[5])
if revision >= 0 then
  local ok, floor = kept(revision)
  if not ok then return {'pruned', floor} end
end
local past, time = state(revision, tonumber(ARGV[4]))
if past then return {'past'} end
local first, last = place(low, high)
local total = math.max(0, last - first)
local gone = call('ZCOUNT', expiry, '-inf', int(time))
if low == '' and high == '' then return {'ok', total, gone, -1} end
local to, expired = math.min(gone, from + 5000), 0
if from < to then
  for _, key in ipairs(call('ZRANGE', expiry, from, to - 1)) do
    local rank = call('ZRANK', index, key)
    if rank and rank >= first and rank < last then expired = expired + 1 end
  end
end
return {'ok', total, expired, to < gone and to or -1}
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
