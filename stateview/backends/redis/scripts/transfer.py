"""The scripts that copy a Redis namespace: read all its versions, and build and finish a staged import."""

from __future__ import annotations

from .common import COMMON, NOTE_PARTS
from .paged_lists import WRITE_LISTS

# fmt: off
DUMP = COMMON + """
-- A page of all versions. ARGV: the key and the revision to continue after; how many versions; how many bytes; then
-- keys, for versions of these keys only. Returns keys with entries, and fields of the history with versions, as
-- MessagePack, which the client reads faster; and the pieces of linked versions, of which the first part has the sizes.
local key, revision, limit, room = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
whole(2, 7)
local out, count, read = {}, 0, 0
local function add(name, packed)  -- whether the page is full
  if not packed then error('DAMAGED: an entry is not what was written') end
  local start, size = string.match(packed, '^(%*%d+ %d+ %d+ )[PW]%d+ %d+ %d+ (%d+) ')
  if start then
    collect(name)
    packed, read = start .. size, read + size
  end
  out[#out + 1] = name
  out[#out + 1] = packed
  count, read = count + 1, read + #packed
  return count >= limit or read >= room
end
local function add_live(name)
  local packed = call('HGET', live, name)
  if name == key and packed then
    local r = split(packed)
    if r <= tonumber(revision) then return false end
  end
  return add(name, packed)
end

local function less_from(a, b, skip)  -- as less, for texts whose first bytes are equal
  for i = skip + 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
  end
  return #a < #b
end

local function owner_of(member) return member and string.sub(member, 1, -18) end

local function same_start(list)  -- the length of the common prefix of a list in byte order
  local a, b, n = list[1], list[#list], 0
  while n < #a and string.byte(a, n + 1) == string.byte(b, n + 1) do n = n + 1 end
  return n
end

local function of_all()
  local names, top
  if key == '' then
    names = call('ZRANGEBYLEX', index, '-', '+', 'LIMIT', 0, limit)
    top = names[limit]
  else  -- one more: the first may belong to the page before
    names = call('ZRANGEBYLEX', index, '[' .. key, '+', 'LIMIT', 0, limit + 1)
    top = names[limit + 1]
  end
  local low = key == '' and '' or key .. '\\0' .. revision .. '\\0'
  local members = range(hindex, low, top and top .. '\\0:', limit)  -- versions of later keys belong to another page
  local skip = 0  -- of long keys with a common prefix, only the rest is compared
  if names[1] and members[1] then
    local first, last = owner_of(members[1]), owner_of(members[#members])
    skip = same_start({names[1], names[#names]})
    while skip > 0 and (string.sub(first, 1, skip) ~= string.sub(names[1], 1, skip)
                        or string.sub(last, 1, skip) ~= string.sub(names[1], 1, skip)) do skip = skip - 1 end
  end
  local i, j, full, owner = 1, 1, false, owner_of(members[1])
  while not full and (names[i] or members[j]) do
    local name, member = names[i], members[j]
    if member and (not name or owner == name or less_from(owner, name, skip)) then
      full = add(member, call('HGET', history, member))
      j = j + 1
      owner = owner_of(members[j])
    else
      full = add_live(name)
      i = i + 1
    end
  end
end

local function of_some()
  for i = 5, #ARGV do
    local wanted = ARGV[i]
    local from = wanted .. '\\0' .. (wanted == key and revision .. '\\0' or '')
    for _, member in ipairs(range(hindex, from, wanted .. '\\0:', limit)) do
      if add(member, call('HGET', history, member)) then return end
    end
    if call('HEXISTS', live, wanted) == 1 and add_live(wanted) then return end
  end
end

if #ARGV > 4 then of_some() else of_all() end
return {cmsgpack.pack(out), pieces}
"""

COPY = COMMON + """
-- All that a copy of a small namespace needs. ARGV: how many records at most, and how many bytes in each part. Returns
-- nothing for a namespace that is larger, lacks a part, or is not there. Else the sizes of five hashes, each with the
-- number of its words and their lengths; and all words, as one text, which the client reads faster.
if call('HLEN', live) + call('HLEN', history) + call('HLEN', commits) > tonumber(ARGV[1]) then return false end
for _, part in ipairs({live, history, commits}) do
  local size = redis.pcall('MEMORY', 'USAGE', part)
  if type(size) == 'table' or (size or 0) > tonumber(ARGV[2]) then return false end
end
if call('EXISTS', head) == 0 or next(missing(2, 13)) then return false end
local sizes, words, n, m = {}, {}, 0, 0
for _, part in ipairs({head, live, history, commits, notes}) do
  local found = call('HGETALL', part)
  n = n + 1
  sizes[n] = #found
  for i = 1, #found do
    sizes[n + i], words[m + i] = #found[i], found[i]
  end
  n, m = n + #found, m + #found
end
return {table.concat(sizes, ' '), table.concat(words)}
"""

FORGET = COMMON + WRITE_LISTS + """
-- Remove all versions of some keys. ARGV: keys.
for _, key in ipairs(ARGV) do
  local packed = call('HGET', live, key)
  if packed then
    local r = split(packed)
    call('HDEL', live, key); call('ZREM', index, key); call('ZREM', expiry, key)
    unlist(writes, {pad(r) .. key})
  end
  local members = range(hindex, key .. '\\0', key .. '\\0:', 2 ^ 53)
  for _, member in ipairs(members) do
    call('HDEL', history, member); call('ZREM', hexpiry, member)
    unlist(writes, {string.sub(member, -16) .. key})
  end
  unlist(hindex, members)
end
return 1
"""

RECORD = COMMON + NOTE_PARTS + """
-- Count the members of the parts anew.
record()
"""

ACQUIRE = """
-- Acquire the lock. ARGV: the token; the lease in seconds; the token of an import whose process ended, or nothing.
-- Returns nothing, or the token that holds the lock and the seconds until its lease ends.
local holder = redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[1] and holder ~= ARGV[3] then return {holder, redis.call('TTL', KEYS[2])} end
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[2])
redis.call('HSET', KEYS[1], 'owner', ARGV[1])
return {}
"""

RELEASE = """
-- Release the lock. ARGV: the token; 1 to remove the staged data.
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return 0 end
redis.call('UNLINK', KEYS[2])
if ARGV[2] == '1' then redis.call('UNLINK', unpack(KEYS))
elseif redis.call('HEXISTS', KEYS[1], 'note') == 0 then redis.call('UNLINK', KEYS[1]) end
return 1
"""

FINISH = """
-- Rename the staged keys to those of the namespace. KEYS: receiver, lock; the keys of the stage, of the namespace, and
-- of the place where the former namespace is kept; the registry, if it is on the same server. ARGV: the token; 1 to
-- replace an existing namespace; the namespace.
local call, token = redis.call, ARGV[1]
local count = math.floor((#KEYS - 2) / 3)
local target, registry = 2 + count, KEYS[2 + 3 * count + 1]
if call('HGET', KEYS[1], 'owner') ~= token then
  local touch = call('HGET', KEYS[target + 1], 'touch') or ''
  if string.match(touch, '^%S*') ~= token then return {'lost'} end
  call('HSET', KEYS[target + 1], 'touch', touch)  -- the reply was lost; WAIT waits for writes of the connection
  return {'ok', ''}
end
local former = call('EXISTS', unpack(KEYS, target + 1, target + count)) > 0
if former and ARGV[2] ~= '1' then return {'taken', call('HGET', KEYS[target + 1], 'revision') or '0'} end
if registry then call('SADD', registry, ARGV[3]) end  -- first: it fails if the registry has another type
for i = 1, count do
  if call('EXISTS', KEYS[target + i]) == 1 then call('RENAME', KEYS[target + i], KEYS[target + count + i]) end
end
for i = 1, count do
  if call('EXISTS', KEYS[2 + i]) == 1 then call('RENAME', KEYS[2 + i], KEYS[target + i]) end
end
call('UNLINK', KEYS[1], KEYS[2])
return {'ok', former and '1' or ''}
"""
# fmt: on
