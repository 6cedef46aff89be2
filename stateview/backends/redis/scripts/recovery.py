"""The scripts of the recovery of a Redis namespace: each checks the data again, and repairs it in one step."""

from __future__ import annotations

from .common import COMMON
from .paged_lists import WRITE_LISTS

# fmt: off
_PARTS = """
local function is_known(order, name)
  if order == hindex then return is_listed(hindex, name) end
  return tonumber(call('ZSCORE', order, name)) == 0
end
local function add(order, name)
  if order == hindex then enlist(hindex, {name}) else call('ZADD', order, '0', name) end
end
local function remove(order, name)
  return order == hindex and unlist(hindex, {name}) or call('ZREM', order, name)
end
local function count_versions()  -- after a change of the history
  if call('HEXISTS', head, 'versions') == 1 then call('HSET', head, 'versions', call('HLEN', history)) end
end
"""

DISORDER = COMMON + """
-- Count the pages of a list that are out of order: with another score than 0, or with members that are not in byte
-- order, in the page or after the page before. ARGV: the place of the list in KEYS; the page to continue with; how many
-- pages, 2 at least. Returns the count, and the page to continue with; nothing at the end.
local list = KEYS[tonumber(ARGV[1])]
local displaced = call('ZCARD', list) - call('ZCOUNT', list, 0, 0)
if displaced > 0 then return {displaced, ''} end
local pages = call('ZRANGEBYLEX', list, ARGV[2] ~= '' and '[' .. ARGV[2] or '-', '+', 'LIMIT', 0, tonumber(ARGV[3]))
local wrong, last = 0, nil
for _, page in ipairs(pages) do
  local is_wrong = false
  for _, member in ipairs(split_page(list, page)) do
    is_wrong = is_wrong or last ~= nil and not less(last, member)
    last = member
  end
  if is_wrong then wrong = wrong + 1 end
end
return {wrong, #pages == tonumber(ARGV[3]) and pages[#pages] or ''}
"""

REBUILD_PAGES = COMMON + """
-- Give each member of a list a page of its own, in order. O(members). ARGV: the place of the list in KEYS.
local list = KEYS[tonumber(ARGV[1])]
local pages = call('ZRANGE', list, 0, -1)
call('DEL', list)
for _, page in ipairs(pages) do
  for _, member in ipairs(split_page(list, page)) do call('ZADD', list, '0', member) end
end
"""

REPAIR_INDEX = COMMON + WRITE_LISTS + _PARTS + """
-- Make the index and the expiries agree with the hash. ARGV: 'live' or 'history', names. Returns how many did not.
local where, order, times = live, index, expiry
if ARGV[1] == 'history' then where, order, times = history, hindex, hexpiry end
local mended = 0
for i = 2, #ARGV do
  local name = ARGV[i]
  local packed, listed, score = call('HGET', where, name), is_known(order, name), call('ZSCORE', times, name)
  local expires = packed and string.match(packed, '^%*?%d+ %d+ (%d+) ')
  local before = mended
  if not packed then
    if remove(order, name) + call('ZREM', times, name) > 0 then mended = before + 1 end
  elseif expires then
    if not listed then add(order, name); mended = before + 1 end
    if expires == '0' then
      if call('ZREM', times, name) == 1 then mended = before + 1 end
    elseif not score or tonumber(score) ~= tonumber(expires) then
      call('ZADD', times, expires, name)
      mended = before + 1
    end
  end
end
return mended
"""

SET_ASIDE = COMMON + WRITE_LISTS + _PARTS + """
-- Move a value to `damaged`, if it is unchanged. ARGV: 'live' or 'history', a name, the value.
local where, order, times = live, index, expiry
if ARGV[1] == 'history' then where, order, times = history, hindex, hexpiry end
if call('HGET', where, ARGV[2]) ~= ARGV[3] then return call('HGET', damaged, ARGV[2]) == ARGV[3] and 1 or 0 end
call('HSET', damaged, ARGV[2], ARGV[3])
remove(order, ARGV[2]); call('ZREM', times, ARGV[2])
call('HDEL', where, ARGV[2])
count_versions()
return 1
"""

STALE = COMMON + """
-- Return those of some keys whose entry is older than a version in their history. ARGV: keys.
local out = {}
for _, key in ipairs(ARGV) do
  local r = tonumber(string.match(call('HGET', live, key) or '', '^(%d+) '))
  if r and range(hindex, key .. '\\0' .. pad(r), key .. '\\0:', 1)[1] then out[#out + 1] = key end
end
return out
"""

UNNAMED_KEYS = COMMON + """
-- Find records of commits that count more keys than `writes` names. ARGV: revisions with readable records. Such a
-- record is set aside, and its count corrected. Returns each such revision and how many of its keys are unknown.
local out = {}
for _, revision in ipairs(ARGV) do
  local packed = call('HGET', commits, revision)
  local time, told = string.match(packed or '', '^(%d+) (.*)$')
  local r = tonumber(revision)
  local rows = #range(writes, pad(r), pad(r + 1), 2 ^ 53)
  local fields = told and cjson.decode(told)
  if fields and fields[3] > rows then
    out[#out + 1] = r
    out[#out + 1] = fields[3] - rows
    fields[3] = rows
    call('HSET', damaged, '\\0commits\\0' .. revision, packed)
    call('HSET', commits, revision, time .. ' ' .. cjson.encode(fields))
  end
end
return out
"""

TOUCH = COMMON + WRITE_LISTS + """
-- Add versions to `writes`, if they are newer than the floor or the oldest checkpoint. ARGV: 'live' or 'history', then
-- keys or fields of the history. Returns how many were missing.
local floor, added = tonumber(call('HGET', head, 'floor') or 0), 0
floor = math.min(floor, tonumber(call('ZRANGE', marks, 0, 0, 'WITHSCORES')[2]) or floor)
for i = 2, #ARGV do
  local r, key
  if ARGV[1] == 'live' then
    r, key = string.match(call('HGET', live, ARGV[i]) or '', '^(%d+) '), ARGV[i]
  elseif call('HEXISTS', history, ARGV[i]) == 1 then
    r, key = string.sub(ARGV[i], -16), string.sub(ARGV[i], 1, -18)
  end
  r = tonumber(r)
  if r and r > floor and not is_listed(writes, pad(r) .. key) then
    enlist(writes, {pad(r) .. key})
    added = added + 1
  end
end
return added
"""

UNTOUCH = COMMON + WRITE_LISTS + """
-- Remove members of `writes` above the floor that have no version. ARGV: members. Returns how many.
local floor, gone = tonumber(call('HGET', head, 'floor') or 0), 0
for _, row in ipairs(ARGV) do
  local r, key = tonumber(string.sub(row, 1, 16)), string.sub(row, 17)
  if not r then gone = gone + unlist(writes, {row})
  elseif r > floor and call('HEXISTS', history, key .. '\\0' .. string.sub(row, 1, 16)) == 0 and
    tonumber(string.match(call('HGET', live, key) or '', '^(%d+) ')) ~= r then
    gone = gone + unlist(writes, {row})
  end
end
return gone
"""

FILL_RECORDS = COMMON + """
-- Write records for revisions without a readable one. ARGV: the start and the end of a record, between which its number
-- of keys comes; then pairs of a revision and its unreadable record, which may be empty. Returns the revisions.
local floor, last = tonumber(call('HGET', head, 'floor') or 0), tonumber(call('HGET', head, 'revision') or 0)
local out = {}
for i = 3, #ARGV, 2 do
  local r = tonumber(ARGV[i])
  local found = call('HGET', commits, ARGV[i])
  if r > floor and r <= last and (not found or found == '' or (ARGV[i + 1] ~= '' and found == ARGV[i + 1])) then
    local rows = range(writes, pad(r), pad(r + 1), 2 ^ 53)
    local time = '0'
    for _, row in ipairs(rows) do
      local key = string.sub(row, 17)
      local own, t = string.match(call('HGET', live, key) or '', '^(%d+) (%d+) ')
      local past = call('HGET', history, key .. '\\0' .. pad(r))
      if tonumber(own) ~= r then t = string.match(past or '', '^%*?%d+ (%d+) ') end
      if t and tonumber(t) > tonumber(time) then time = t end
    end
    call('HSET', commits, int(r), time .. ' ' .. ARGV[1] .. #rows .. ARGV[2])
    out[#out + 1] = int(r)
  elseif found and found == ARGV[i + 1] then
    call('HDEL', commits, ARGV[i])
  end
end
return out
"""

PUT_DELETES = COMMON + WRITE_LISTS + _PARTS + """
-- Put a delete in the place of each missing version. ARGV: pairs of a key and a revision, the highest revision first.
for i = 1, #ARGV, 2 do
  local key, r = ARGV[i], tonumber(ARGV[i + 1])
  local field = key .. '\\0' .. pad(r)
  local own = tonumber(string.match(call('HGET', live, key) or '', '^(%d+) ') or 0)
  if own ~= r and call('HEXISTS', history, field) == 0 then
    local later = nil
    for _, member in ipairs(range(hindex, field .. '\\0', key .. '\\0:', 2 ^ 53)) do
      if call('HEXISTS', history, member) == 1 then later = member; break end
    end
    local until_ = later and tonumber(string.sub(later, -16)) or (own > r and own) or 0
    local time = string.match(call('HGET', commits, int(r)) or '', '^(%d+) ') or '0'
    call('HSET', history, field, int(until_) .. ' ' .. time .. ' 0 D')
    enlist(hindex, {field})
    call('ZREM', hexpiry, field)
  end
end
count_versions()
"""

VERSIONS_OF = COMMON + """
-- Return all versions of some keys, without their values. ARGV: keys. Each version is five words: key, revision, the
-- revision that superseded it, time, and L for an entry, V or D for a past version.
local out = {}
local function add(key, r, until_, time, kind)
  for _, word in ipairs({key, r, until_, time, kind}) do out[#out + 1] = word end
end
for _, key in ipairs(ARGV) do
  for _, member in ipairs(range(hindex, key .. '\\0', key .. '\\0:', 2 ^ 53)) do
    local until_, time, kind = string.match(call('HGET', history, member) or '', '^%*?(%d+) (%d+) %d+ (.)')
    if until_ then add(key, string.sub(member, -16), until_, time, kind) end
  end
  local r, time = string.match(call('HGET', live, key) or '', '^(%d+) (%d+) ')
  if r then add(key, r, '0', time, 'L') end
end
return out
"""

PLACE_CHECKPOINT = COMMON + """
-- Correct the score of a checkpoint, or remove it if the score is -1. ARGV: its member, its record, the score.
if (call('HGET', notes, ARGV[1]) or '') ~= ARGV[2] then return 0 end
if ARGV[3] ~= '-1' then
  call('ZADD', marks, ARGV[3], ARGV[1])
else
  call('ZREM', marks, ARGV[1])
  call('HDEL', notes, ARGV[1])
end
return 1
"""

COUNT_CHECKPOINTS = COMMON + """
-- Count the checkpoints of each name, and raise the sequence if it is behind. Returns 1 if anything was wrong.
local names, wrong, last = {}, 0, 0
local all = call('HGETALL', notes)
for i = 1, #all, 2 do
  local name = string.match(all[i], '^(.+)@%d+$')
  if name then
    names['name:' .. name] = (names['name:' .. name] or 0) + 1
    last = math.max(last, tonumber(string.match(all[i + 1], '^%d+')) or 0)
  end
end
for i = 1, #all, 2 do
  if string.sub(all[i], 1, 5) == 'name:' and not names[all[i]] and not string.find(all[i], '@') then
    call('HDEL', notes, all[i])
    wrong = 1
  end
end
for name, count in pairs(names) do
  if call('HGET', notes, name) ~= int(count) then
    call('HSET', notes, name, int(count))
    wrong = 1
  end
end
local order = call('HGET', notes, 'sequence') or '0'
if not string.match(order, '^%d+$') or tonumber(order) < last then
  call('HSET', notes, 'sequence', int(last))
  wrong = 1
end
return wrong
"""

SET_END = COMMON + """
-- Replace a version by one with another end, if it is unchanged. ARGV: a field of the history, old and new value.
if call('HGET', history, ARGV[1]) ~= ARGV[2] then return 0 end
call('HSET', history, ARGV[1], ARGV[3])
return 1
"""
# fmt: on
