"""The scripts that read a namespace."""

from __future__ import annotations

from .common import COMMON, PARTS, WHOLE

# fmt: off
HEAD = COMMON + """
local f = call('HMGET', head, 'revision', 'time', 'floor', 'lineage', 'format', 'touch')
if not (f[1] and f[4]) and call('EXISTS', unpack(KEYS)) > 0 then error('DAMAGED: the head is not what was written') end
local expires = string.match(f[6] or '', '^%S* ..1')
if call('HLEN', live) == 0 or call('HLEN', live) ~= call('ZCARD', index) or expires and call('ZCARD', expiry) == 0 then
  whole(2, 4)
end
return {f[1] or '0', f[2] or '0', count(), f[3] or '0', f[4] or '', f[5] or '0'}
"""

NUMBERS = PARTS + """
-- The numbers of a namespace: revision, how many keys, and how many names of checkpoints. Returns nothing if it has no
-- key, or if anything is not as it should be: HEAD then tells. It defines no function, since it runs 10,000 times.
local f = call('HMGET', head, 'revision', 'lineage', 'format', 'touch')
local keys, expiring = call('HLEN', live), call('ZCARD', expiry)
local named, records = call('ZCARD', marks), call('HLEN', notes)
if not (f[1] and f[2]) or tonumber(f[3] or 0) > 5 or keys == 0 or keys ~= call('ZCARD', index) or
    (named == 0 and records > 1) or (named > 0 and records < named + 2) or
    (expiring == 0 and string.match(f[4] or '', '^%S* ..1')) then
  return false
end
if expiring > 0 then
  local t = call('TIME')
  keys = keys - call('ZCOUNT', expiry, '-inf', t[1] .. string.rep('0', 6 - #t[2]) .. t[2])
end
return {f[1], keys, named > 0 and records - named - 1 or 0}
"""

GET = """
-- The entry of a key in the live state, or nothing. ARGV: the key.
local entry = redis.call('HGET', KEYS[2], ARGV[1])
if entry then return entry end
""" + PARTS + WHOLE + """
whole(2, 3)
return false
"""

READ = COMMON + """
-- The entries of some keys. ARGV: the state; keys, each with a NUL and 16 digits if the client knows the value that
-- this revision wrote. Returns the pieces of linked versions without what is known, then keys and entries of those that
-- the state shows.
local revision, time = tonumber(ARGV[1]), tonumber(ARGV[2])
if revision < 0 then
  revision, time = 2 ^ 53, clock()
else
  local ok, low = kept(revision)
  if not ok then return {'pruned', low} end
  whole(2, 7)
end
local out = {'ok', pieces}
for i = 3, #ARGV do
  local key = string.match(ARGV[i], '^[^%z]*')
  sent[ARGV[i]] = key ~= ARGV[i]
  local packed, member = at(key, revision, time)
  if packed then out[#out + 1] = key; out[#out + 1] = packed end
  if member then collect(member) end
end
if #out < 2 * #ARGV - 2 then whole(2, 4) end
return out
"""

SCAN = COMMON + """
-- A page of entries. ARGV: prefix; the key to continue after; how many keys to examine; the state. Returns the key to
-- continue after (nothing at the end), the pieces of linked versions, then keys and entries.
local prefix, after, limit = ARGV[1], ARGV[2], tonumber(ARGV[3])
local revision, time = tonumber(ARGV[4]), tonumber(ARGV[5])
local past = revision >= 0
if past then
  local ok, low = kept(revision)
  if not ok then return {'pruned', low} end
  past = revision ~= tonumber(call('HGET', head, 'revision') or 0)  -- the live state needs no history
else
  revision, time = 2 ^ 53, clock()
end
whole(2, past and 7 or 4)
local low = '[' .. prefix
if after ~= '' and not less(after, prefix) then low = '(' .. after end
local high = '(' .. prefix .. '\\255'
local live_keys = call('ZRANGEBYLEX', index, low, high, 'LIMIT', 0, limit)
local last = nil  -- the keys after this one are not complete
if #live_keys == limit then last = live_keys[#live_keys] end
local keys, seen = {}, {}
for _, key in ipairs(live_keys) do keys[#keys + 1] = key; seen[key] = true end
if past then
  local members = range(hindex, low == '[' .. prefix and prefix or after .. '\\0:', prefix .. '\\255', limit)
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
local out = {'ok', last or '', pieces}
for _, key in ipairs(keys) do
  if not last or not less(last, key) then
    local packed, member = at(key, revision, time)
    if packed then out[#out + 1] = key; out[#out + 1] = packed end
    if member then collect(member) end
  end
end
return out
"""

_PLACE = """
local function ranks(low, high)  -- the rank of the first key of a range, and the rank after the last
  local first, last = 0, call('ZCARD', index)
  if low ~= '' then first = call('ZLEXCOUNT', index, '-', '(' .. low) end
  if high ~= '' then last = call('ZLEXCOUNT', index, '-', '(' .. high) end
  return first, last
end
local function state(revision, time)  -- whether a state is past, not live; and the time that expiry is judged by
  if revision < 0 then return false, clock() end
  return revision < tonumber(call('HGET', head, 'revision') or 0), time
end
"""

ROWS = COMMON + _PLACE + """
-- Rows of a page. ARGV: the first key; the key that ends the range; 1 for backwards; how many keys to pass over; how
-- many rows to return; the state; how many bytes of a value; then what the client has cached of large values: the bytes
-- of a large value, the lineage, and for each row its key, its revision and the revision at which it was last seen.
-- Returns how many keys are still to be passed over, the key to continue after (nothing at the end), the head, the
-- pieces of linked versions, and for each row its key, the size of the stored value and the entry, cut; nothing for the
-- entry if the cached row is valid.
local low, high, backwards = ARGV[1], ARGV[2], ARGV[3] == '1'
local skip, limit, revision, start = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[8])
local large, cached = tonumber(ARGV[9]), {}
if revision >= 0 then
  local ok, floor = kept(revision)
  if not ok then return {'pruned', floor} end
end
local past, time = state(revision, tonumber(ARGV[7]))
whole(2, past and 7 or 4)
local f = call('HMGET', head, 'revision', 'floor', 'lineage')
if f[3] == ARGV[10] then
  for i = 11, #ARGV, 3 do  -- below the floor, the history may not hold the version that superseded a cached one
    if tonumber(ARGV[i + 2]) >= tonumber(f[2]) then cached[ARGV[i]] = ARGV[i + 1] end
  end
end
local keys, edge = {}, nil  -- in the order of the walk; more keys may come after the edge, if it is set

local function find_live()
  local first, last = ranks(low, high)
  if skip > 0 and call('ZCOUNT', expiry, '-inf', int(time)) == 0 then
    if backwards then last = last - skip else first = first + skip end
    skip = 0
  end
  local size = math.min(1000, skip + limit)
  if first >= last or size == 0 then return end
  if backwards then
    local page = call('ZRANGE', index, math.max(first, last - size), last - 1)
    for i = #page, 1, -1 do keys[#keys + 1] = page[i] end
  else
    keys = call('ZRANGE', index, first, math.min(last, first + size) - 1)
  end
  if last - first > size then edge = keys[#keys] end
end

local function find_past()
  local size = math.min(1000, skip + limit)
  local function find_current()
    local from, to = low ~= '' and '[' .. low or '-', high ~= '' and '(' .. high or '+'
    if backwards then return call('ZREVRANGEBYLEX', index, to, from, 'LIMIT', 0, size) end
    return call('ZRANGEBYLEX', index, from, to, 'LIMIT', 0, size)
  end
  local function find_former()
    local function bound(text) return string.sub(text, -1) == '\\0' and text .. ':' or text end  -- after all versions
    return (backwards and range_back or range)(hindex, bound(low), high ~= '' and bound(high) or nil, size)
  end
  local function before(a, b)
    if backwards then return less(b, a) end
    return less(a, b)
  end
  local current, former = find_current(), find_former()
  for i, member in ipairs(former) do former[i] = string.sub(member, 1, -18) end
  if size > 0 then
    edge = current[size]
    if former[size] and (not edge or before(former[size], edge)) then edge = former[size] end
  end
  local i, j = 1, 1
  while current[i] or former[j] do
    local key = current[i]
    if not key or (former[j] and before(former[j], key)) then key = former[j] end
    if edge and before(edge, key) then break end
    keys[#keys + 1] = key
    if current[i] == key then i = i + 1 end
    while former[j] == key do j = j + 1 end
  end
end

if past then find_past() else find_live() end
local function is_unexpired(key)  -- by the index: the entry is not read
  local expires = call('ZSCORE', expiry, key)
  return not expires or tonumber(expires) > time
end
local out, count, read = {'ok', 0, edge or '', f[1] or '0', f[2] or '0', f[3] or '', pieces}, 0, 0
for i, key in ipairs(keys) do
  local r = tonumber(cached[key])
  local is_valid = r and (not past or r <= revision) and call('HSTRLEN', live, key) > large and
    call('HEXISTS', history, key .. '\\0' .. pad(r)) == 0
  if skip > 0 and not past then
    if is_unexpired(key) then skip = skip - 1 end
  elseif is_valid then
    if is_unexpired(key) then
      if skip > 0 then
        skip = skip - 1
      else
        out[#out + 1] = key; out[#out + 1] = 0; out[#out + 1] = ''
        count = count + 1
      end
    end
  else
    local packed, member
    if past then packed, member = at(key, revision, time) else packed = call('HGET', live, key) end
    if packed or not past then
      local expires, from = string.match(packed or '', '^%*?%d+ %d+ (%d+) ()')
      if not from then error('DAMAGED: an entry is not what was written') end
      if not past and expires ~= '0' and tonumber(expires) <= time then
        read = read + #packed
      elseif skip > 0 then
        skip = skip - 1
        read = read + #packed
      else
        out[#out + 1] = key
        out[#out + 1] = member and tonumber(string.sub(packed, from)) or #packed - from + 1
        out[#out + 1] = string.sub(packed, 1, from - 1 + start)
        if member then collect(member) end
        count = count + 1
        read = read + #packed
      end
    end
  end
  if count == limit and skip == 0 or read + piece_bytes > 8000000 then  -- a long script keeps other clients waiting
    if i < #keys then out[3] = key end
    break
  end
end
out[2] = skip
return out
"""

COUNT = COMMON + _PLACE + """
-- Count the live keys of a range. ARGV: the first key; the key that ends the range; the state; the position among the
-- expired entries to continue at. Returns how many keys are indexed, how many of the examined expired entries are among
-- them, and the position to continue at (-1 at the end); or 'past' for a past state.
local low, high, revision, from = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[5])
if revision >= 0 then
  local ok, floor = kept(revision)
  if not ok then return {'pruned', floor} end
end
local past, time = state(revision, tonumber(ARGV[4]))
if past then return {'past'} end
whole(2, 4)
local first, last = ranks(low, high)
local total = math.max(0, last - first)
local all_expired = call('ZCOUNT', expiry, '-inf', int(time))
if low == '' and high == '' then return {'ok', total, all_expired, -1} end
local to, expired = math.min(all_expired, from + 5000), 0
if from < to then
  for _, key in ipairs(call('ZRANGE', expiry, from, to - 1)) do
    local rank = call('ZRANK', index, key)
    if rank and rank >= first and rank < last then expired = expired + 1 end
  end
end
return {'ok', total, expired, to < all_expired and to or -1}
"""

CHANGED = COMMON + """
-- The writes between two states. ARGV: the revision and the time of the earlier and of the later state; the member of
-- writes to continue after, or nothing; how many keys to read at most. Returns the members of writes; the keys, and
-- the members of history, that expired between the two times, after the last page; the pieces of linked versions; then,
-- if all keys are few, each key with its entries in both states, in order, as far as their sizes allow.
local low, low_time, high, high_time = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
for _, revision in ipairs({low, high}) do
  local ok, floor = kept(revision)
  if not ok then return {'pruned', int(revision), floor} end
end
whole(2, 8)
local rows = range(writes, ARGV[5] ~= '' and ARGV[5] .. '\\0' or pad(low + 1), pad(high + 1), 10000)
local out = {'ok', rows, {}, {}, pieces}
if #rows == 10000 then return out end
if low_time ~= high_time then
  local first, last = '(' .. int(math.min(low_time, high_time)), int(math.max(low_time, high_time))
  out[3], out[4] = call('ZRANGEBYSCORE', expiry, first, last), call('ZRANGEBYSCORE', hexpiry, first, last)
end
local most = tonumber(ARGV[6])
if ARGV[5] ~= '' or #rows + #out[3] + #out[4] > 10 * most then return out end
local keys, listed, read = {}, {}, 0
local function list(key)
  if not listed[key] then listed[key], keys[#keys + 1] = true, key end
end
for _, member in ipairs(rows) do list(string.sub(member, 17)) end
for _, key in ipairs(out[3]) do list(key) end
for _, member in ipairs(out[4]) do list(string.sub(member, 1, -18)) end
if #keys > most then return out end
table.sort(keys, less)
for _, key in ipairs(keys) do
  local old, old_member = at(key, low, low_time)
  local new, new_member = at(key, high, high_time)
  if old_member then collect(old_member) end
  if new_member then collect(new_member) end
  out[#out + 1] = key; out[#out + 1] = old; out[#out + 1] = new
  read = read + #(old or '') + #(new or '')
  if read + piece_bytes > 1000000 then break end
end
return out
"""

VERSIONS = COMMON + """
-- The versions of a key, newest first. ARGV: the key; how many; only revisions below this one. Returns the pieces of
-- linked versions, then the versions.
local key, limit, below = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local out = {pieces}
whole(2, 7)
local packed = call('HGET', live, key)
if packed then
  local r, t, e, v = split(packed)
  if r < below then out[2] = {int(r), int(t), int(e), 'V' .. v} end
end
for _, member in ipairs(range_back(hindex, key .. '\\0', key .. '\\0' .. pad(below), limit)) do
  local u, t, e, rest = split(call('HGET', history, member))
  if size_of(rest) then
    collect(member)
    rest = '*'
  end
  out[#out + 1] = {int(tonumber(string.sub(member, -16))), int(t), int(e), rest}
end
return out
"""

LOG = COMMON + """
-- The records of commits, newest first. ARGV: how many, 1,000 at most; only revisions below this one. Returns
-- revisions and records.
local f = call('HMGET', head, 'revision', 'floor')
whole(9, 9)
local revision, out = tonumber(f[1] or 0), {}
local top = math.min(revision, tonumber(ARGV[2]) - 1)
local names = {}
for r = top, math.max(tonumber(f[2] or 0) + 1, top - tonumber(ARGV[1]) + 1), -1 do names[#names + 1] = int(r) end
if #names == 0 then return out end
for i, record in ipairs(call('HMGET', commits, unpack(names))) do
  if record then
    out[#out + 1] = names[i]; out[#out + 1] = record
  else
    lost('commits')
  end
end
return out
"""

MARKS = COMMON + """
-- The checkpoints: names with revisions, and records; nothing for a record that is gone.
whole(10, 11)
local members, records = call('ZRANGE', marks, 0, -1), {}
for first = 1, #members, 1000 do
  for _, record in ipairs(call('HMGET', notes, unpack(members, first, math.min(first + 999, #members)))) do
    records[#records + 1] = record
  end
end
return {members, records}
"""

MARKS_AND_NOTES = COMMON + """
-- All that the two parts of checkpoints hold, with the scores, for `doctor`.
whole(10, 11)
return {call('ZRANGE', marks, 0, -1, 'WITHSCORES'), call('HGETALL', notes)}
"""

MARKS_OF = COMMON + """
-- The checkpoints of one name, as records; a name holds no '@'.
whole(10, 11)
local out = {}
if call('HEXISTS', notes, 'name:' .. ARGV[1]) == 1 then
  local start = ARGV[1] .. '@'
  for _, member in ipairs(call('ZRANGE', marks, 0, -1)) do
    if member:sub(1, #start) == start then
      out[#out + 1] = member
      out[#out + 1] = call('HGET', notes, member)
    end
  end
end
return out
"""

MISSING = COMMON + """
-- The places in KEYS of all parts that lack members.
return missing(2, 13)
"""
# fmt: on
