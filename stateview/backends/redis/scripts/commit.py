"""The script of a commit, and that of a change of the keyring."""

from __future__ import annotations

from ...deltas import FANOUT, MIN_BYTES, SMALL_FANOUT
from .common import FLAGS, KEPT, LOST, PARTS, TEXT, TRIM, WHOLE
from .paged_lists import BEFORE, READ_LISTS, WRITE_LISTS

# fmt: off
_DELTAS = f"local min_bytes, fanout, small_fanout = {MIN_BYTES}, {FANOUT}, {SMALL_FANOUT}"

COMMIT = PARTS + TEXT + """
-- ARGV: options that only some commits have, as JSON, or nothing; the record for the log; the session, and the number
-- of the commit in it; how many revisions to keep; the newest answer that the client knows, or nothing. Then for each
-- write, in byte order of the keys: the key; 'TTL TIME', D to delete, or nothing; the value. Before a write, its key
-- may come with 'PREVISION TIME SIZE', and the delta of that live version, which the write supersedes, relative to the
-- value that is written; empty if it is better kept whole. SIZE is that of the value. Returns as text the head after
-- the commit, and the keys that need packing, each after the number of its newest versions to look at and a space, or 0
-- for the oldest; or a table that says why the commit was refused.
local options = ARGV[1] ~= '' and cjson.decode(ARGV[1]) or {}
local session, number = ARGV[3], tonumber(ARGV[4])
local f = call('HMGET', head, 'revision', 'time', 'floor', 'lineage', 'touch', 'format', 'keyring', 'versions')
local revision, last, floor, lineage = tonumber(f[1] or 0), tonumber(f[2] or 0), tonumber(f[3] or 0), f[4]
if not (revision and last and floor) or not (f[1] and lineage) and call('EXISTS', unpack(KEYS)) > 0 then
  error('DAMAGED: the head is not what was written')
end
if ARGV[6] ~= '' and ARGV[6] ~= (lineage or '') .. ' ' .. (f[1] or '0') .. ' ' .. (f[2] or '0') then
""" + LOST + """
  if is_lost(ARGV[6], lineage, revision, floor) then
    return {'rewound', (lineage or '') .. ' ' .. (f[1] or '0') .. ' ' .. (f[2] or '0')}
  end
end
if lineage and (tonumber(f[6] or '') or 4) < 4 then return {'upgrade'} end
local is_write, keep, size = #ARGV > 6, tonumber(ARGV[5]), call('ZCARD', index)
local token = call('HGET', tokens, session)
local new_session = not token
if new_session then token = call('HGET', older, session) end
if token then
  local done, r = string.match(token, '^(%d+) (%d+)$')
  if not done then error('DAMAGED: a token is not what was written') end
  if tonumber(done) == number then
    call('HSET', new_session and older or tokens, session, token)  -- for WAIT, which waits for writes of the connection
    local time = tonumber(r) < revision and string.match(call('HGET', commits, r) or '0', '^%d+') or int(last)
    return table.concat({r, time, size - call('ZCOUNT', expiry, '-inf', clock()), int(floor), lineage}, ' ')
  end
  if tonumber(done) > number then error('the client has given up this commit and sent later ones') end
end
local keyring = f[7]
if lineage and (keyring or options.of) then  -- before any write: what is sealed is sealed for one place
  if not keyring or options.of ~= lineage or options.keyring or options.ring ~= redis.sha1hex(keyring) then
    return {'rekey'}
  end
  if options.sealed_for and options.sealed_for ~= revision + 1 then return {'reseal', int(revision)} end
end
local due = is_write and revision - floor >= keep + math.floor(keep / 100)  -- trimming 1 % at once costs less
-- A part that this commit meets must hold what it held. The flag of another part is kept as it is.
local touch, flags, tag = string.match(f[5] or '', '^(%S*) ([01]+)@(.*)$')
if not flags or tag ~= f[1] .. ' ' .. (f[3] or '') then touch, flags = string.match(f[5] or '', '^%S*'), nil end
local function had(i) return string.byte(flags, i) == 49 end
local versions, sessions = call('HLEN', history), new_session and call('HLEN', tokens)
if not flags or call('HLEN', live) ~= size or size == 0 and had(1) or versions ~= tonumber(f[8] or versions) or
  versions == 0 and had(4) or call('ZCARD', hindex) == 0 and had(5) or call('ZCARD', writes) == 0 and had(7) or
  call('HLEN', commits) < revision - floor or
  had(3) and call('ZCARD', expiry) == 0 or (options.marks or options.unmarks or due) and
    (call('ZCARD', marks) == 0 and had(9) or call('HLEN', notes) == 0 and had(10)) or
  sessions and (sessions == 0 and had(11) or had(12) and call('HLEN', older) == 0) then
""" + WHOLE + """
  whole(2, 13)
  flags = nil
end
local clock_time = clock()
local since = tonumber(clock_time)  -- of durations; the times of commits rise, even if the clock steps back
local now = math.max(since, last + 1)
local had_expiry = not flags or had(3)
local expired_count = had_expiry and call('ZCOUNT', expiry, '-inf', clock_time) or 0
if options.base or options.expected then
  local function is_at(expected, r, time)  -- a revision alone, or with the time of its commit: others had its number
    if type(expected) ~= 'table' then return r == expected end
    return r == expected[1] and (tonumber(time) == expected[2] or
      string.match(call('HGET', commits, int(r)) or '', '^%d+') == int(expected[2]))
  end
  if options.base and not is_at(options.base, revision, last) then return {'base', int(revision)} end
  for key, expected in pairs(options.expected or {}) do
    local packed = call('HGET', live, key)
    local r, e, t = 0, 0, 0
    if packed then
      local a, b, c = split(packed)
      r, e, t = tonumber(a), tonumber(c), b
    end
    if e ~= 0 and e <= since then r = 0 end
    if not is_at(expected, r, t) then return {'key', key, type(expected) == 'table' and expected[1] or expected, r} end
  end
end
if options.marks then
""" + KEPT + """
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
local stamp = int(now)
-- The writes, in columns: a table for each write would cost more than its commands. A delete has the value false. Of
-- what a write meets: the revision of a live entry, its "TIME EXPIRES ", its expiry and its value, or its delta and the
-- size of its value; or the newest member of a key that is not live, and its version.
local names, values, ttls, moments, count = {}, {}, {}, {}, 0
local revisions, times, ends, olds, deletes, deltas, value_sizes = {}, {}, {}, {}, {}, {}, {}
-- What the writes do: an expiring entry ends, another begins, one ends for good, a version is superseded.
local old_expires, new_expires, drops_expiry, supersedes, deleted = false, false, false, false, 0
local packs, tend = {}, {}  -- by key
""" + _DELTAS + READ_LISTS + BEFORE + WRITE_LISTS + """
if is_write then
  local written = expired_count > 0 and {}
  for i = 7, #ARGV, 3 do
    local key, how = ARGV[i], ARGV[i + 1]
    if string.byte(how) == 80 then packs[key] = {how, ARGV[i + 2]}
    else
      count = count + 1
      names[count], values[count] = key, how ~= 'D' and ARGV[i + 2]
      if how ~= '' and how ~= 'D' then
        local ttl, time = string.match(how, '^(%d+) (%d+)$')
        if ttl ~= '0' then ttls[count], new_expires = tonumber(ttl), true end
        if time ~= '0' then moments[count] = time end
      end
      if written then written[key] = true end
    end
  end
  if written then  -- delete expired entries too
    for _, key in ipairs(call('ZRANGEBYSCORE', expiry, '-inf', clock_time, 'LIMIT', 0, 100)) do
      if not written[key] then
        local i = place_in(names, key)
        count = count + 1
        table.insert(names, i, key)
        table.insert(values, i, false)
        for at = count, i + 1, -1 do ttls[at], moments[at] = ttls[at - 1], moments[at - 1] end
        ttls[i], moments[i] = nil, nil
      end
    end
  end
  local match, sub = string.match, string.sub
  -- A copy of a large value takes longer than all else. So a live value is not read whose delta has come, if this is
  -- still the version that the client knows: no other has superseded it.
  local asked, places = names, nil
  if next(packs) then
    asked, places = {}, {}
    for i, key in ipairs(names) do
      local how, delta = unpack(packs[key] or {'', ''})
      local r, time, value_size = match(how, '^P(%d+) (%d+) (%d+)$')
      local length = r and call('HSTRLEN', live, key)
      if r and delta ~= '' and ARGV[6] ~= '' and tonumber(r) >= floor and values[i] and #values[i] >= min_bytes and
          (length == #r + #time + 4 + value_size or keyring and length > 0) and
          call('HEXISTS', history, key .. '\\0' .. pad(tonumber(r))) == 0 and
          not (had_expiry and call('ZSCORE', expiry, key)) then
        supersedes = true
        revisions[i], times[i], ends[i], deltas[i], value_sizes[i] = r, time .. ' 0 ', '0', delta, value_size
      else
        asked[#asked + 1], places[#places + 1] = key, i
      end
    end
  end
  for first = 1, #asked, 1000 do  -- one command for many keys costs less; Lua passes 1,000 at once
    for i, old in ipairs(call('HMGET', live, unpack(asked, first, math.min(first + 999, #asked)))) do
      i = places and places[first + i - 1] or first + i - 1
      local value = values[i]
      supersedes = supersedes or old or not value
      if old then
        local r, t, e, at = match(old, '^%*?(%d+) (%d+ (%d+) )()')
        if not at then split(old) end
        if e ~= '0' then old_expires, drops_expiry = true, drops_expiry or not ttls[i] end
        if not value then deleted = deleted + 1 end
        revisions[i], times[i], ends[i], olds[i] = r, t, e, sub(old, at)
      elseif versions > 0 then
        local member = before(names[i], revision + 1)
        local packed = member and call('HGET', history, member)
        if member and split(packed) == '0' then deletes[i], olds[i] = member, packed end
      end
    end
  end
end
local full = sessions and sessions >= 10000
-- The flags are as they were, unless a part may become empty or get its first member. Then all parts are looked at.
if flags and (full or due or options.unmarks or options.marks and not (had(9) and had(10)) or not had(11) or
    is_write and (size <= deleted or not (had(7) and had(8)) or supersedes and not had(4) or
      new_expires and not had(3) or drops_expiry or old_expires and (not had(6) or call('ZCARD', hexpiry) == 0))) then
""" + WHOLE + """
  whole(2, 13)
  flags = nil
end
if full then call('RENAME', tokens, older) end  -- the first write: not every user may call it
local r
if is_write then
  r = int(revision + 1)
  call('HSET', commits, r, stamp .. ' ' .. ARGV[2])
end
if not f[4] then
  call('HSET', head, 'lineage', lineage, 'format', '4', 'revision', '0', 'floor', '0')
  call('HSET', touched, 'format', '4')
end
if options.keyring then call('HSET', head, 'keyring', options.keyring, 'format', '5') end
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
    local r = int(mark.revision or mark.after and r or revision)
    local member = mark.name .. '@' .. r
    if call('ZADD', marks, r, member) == 1 then call('HINCRBY', notes, 'name:' .. mark.name, 1) end
    local order = int(call('HINCRBY', notes, 'sequence', 1))
    local record = order .. ' ' .. int(mark.time or since) .. ' ' .. int(mark.kind or 0)
    call('HSET', notes, member, record .. ' ' .. (mark.note or ''))
  end
end
call('HSET', tokens, session, ARGV[4] .. ' ' .. (r or int(revision)))
if not is_write then
  flags = flags or """ + FLAGS + """
  call('HSET', head, 'touch', session .. ARGV[4] .. ' ' .. flags .. '@' .. int(revision) .. ' ' .. int(floor))
  return table.concat({int(revision), int(last), size - expired_count, int(floor), lineage}, ' ')
end
revision = revision + 1
local padded = pad(revision)
local entries, added, pasts, members, rows = {}, {}, {}, {}, {}  -- one command for many keys costs less
local entry_count, added_count, past_count, member_count = 0, 0, 0, 0
local function flush()
  if entry_count > 0 then call('HSET', live, unpack(entries, 1, entry_count)) end
  if added_count > 0 then call('ZADD', index, unpack(added, 1, added_count)) end
  if past_count > 0 then call('HSET', history, unpack(pasts, 1, past_count)) end
  entry_count, added_count, past_count = 0, 0, 0
end
local function supersede(member, version)
  pasts[past_count + 1], pasts[past_count + 2], past_count = member, version, past_count + 2
end
local function note_member(member)
  members[member_count + 1], member_count = member, member_count + 1
end
local plain, endings = r .. ' ' .. stamp .. ' 0 ', {}
for i = 1, count do
  local key, value, old_revision, old = names[i], values[i], revisions[i], olds[i]
  local expired = old_revision and ends[i] ~= '0'
  if old_revision then
    local ending = endings[old_revision]
    if not ending then
      ending = '\\0' .. pad(old_revision)
      endings[old_revision] = ending
    end
    local member, start, kind = key .. ending, r .. ' ', 'V'
    local delta = deltas[i]
    if delta or #old >= min_bytes or keyring then  -- the version before may be relative to this
      local prior = before(key, tonumber(old_revision) - 1)
      prior = prior and call('HGET', history, prior) or ''
      local base, place = string.match(prior, '^%*%d+ %d+ %d+ P%d+ (%d+) (%d+) ')
      local refs = base == old_revision and '1' or '0'
      if delta then
        place = (place or -1) + 1
        if place > 0 and place % fanout == 0 then  -- deltas before it become relative to this, see `deltas`
          local step = fanout
          while step < fanout * fanout and place % (small_fanout * step) == 0 do step = small_fanout * step end
          tend[key] = step + 2 * fanout
        end
        start, kind = '*' .. start, 'P' .. refs .. ' ' .. r .. ' ' .. place .. ' ' .. value_sizes[i] .. ' '
        old = delta
      elseif packs[key] and packs[key][2] == '' or refs == '1' then  -- better kept whole, or a base
        start = '*' .. start
        kind = 'W' .. refs .. ' 0 ' .. (packs[key] and packs[key][2] == '' and '1' or '0') .. ' ' .. #old .. ' '
      else  -- the eighth version before it is whole too
        local former = range_back(hindex, key .. '\\0', member, 8)[8]
        if former and call('HSTRLEN', history, former) > min_bytes and
          string.match(call('HGET', history, former), '^%d+ %d+ %d+ V') then tend[key] = fanout * (fanout + 2) end
      end
    end
    supersede(member, start .. times[i] .. kind .. old)
    note_member(member)
    if expired then call('ZADD', hexpiry, ends[i], member) end
  elseif old then
    supersede(deletes[i], (string.gsub(old, '^(%*?)%d+', '%1' .. r, 1)))
  end
  if value then
    local ttl, entry = ttls[i], nil
    if ttl or moments[i] then
      local expires = ttl and int(since + ttl) or '0'
      entry = r .. ' ' .. (moments[i] or stamp) .. ' ' .. expires .. ' ' .. value
      if ttl then call('ZADD', expiry, expires, key) end
    else
      entry = plain .. value
    end
    entries[entry_count + 1], entries[entry_count + 2], entry_count = key, entry, entry_count + 2
    if not old_revision then
      added[added_count + 1], added[added_count + 2], added_count = '0', key, added_count + 2
      size = size + 1
    elseif expired and not ttl then call('ZREM', expiry, key) end
  else
    local member = key .. '\\0' .. padded
    supersede(member, '0 ' .. stamp .. ' 0 D')
    note_member(member)
    if old_revision then
      call('HDEL', live, key); call('ZREM', index, key)
      size = size - 1
      if expired then call('ZREM', expiry, key) end
    end
  end
  rows[i] = padded .. key
  if i % 500 == 0 or i == count then flush() end
end
enlist(hindex, members)
if count == 1 then call('ZADD', writes, '0', rows[1]) else put_page(writes, nil, table.concat(rows, '\\0')) end
if revision % 16 == 0 then  -- small pages of the last commits, together: to lengthen a page each time would cost more
  local last, group, size = call('ZREVRANGE', writes, 0, 17), {}, 0
  for i = #last, 0, -1 do
    if i == 0 or size + #last[i] >= page_bytes then
      if #group > 1 then
        call('ZREM', writes, unpack(group))
        call('ZADD', writes, '0', table.concat(group, '\\0'))
      end
      group, size = {}, 0
    end
    group[#group + 1], size = last[i], size + #(last[i] or '') + 1
  end
end
if due then
  call('HSET', head, 'revision', r, 'time', stamp)
""" + TRIM + """
  local left
  floor, left = trim(floor, revision - keep, 200)
  for key in pairs(left) do tend[key] = 0 end
end
local keys = {}
for key, newest in pairs(tend) do keys[#keys + 1] = newest .. ' ' .. key end
local low = due and int(floor) or f[3] or '0'
flags = flags or """ + FLAGS + """
call('HSET', head, 'revision', r, 'time', stamp, 'touch', touch .. ' ' .. flags .. '@' .. r .. ' ' .. low, 'versions',
  call('HLEN', history))
-- One commit deletes 100 expired entries. The others are still in the index.
return r .. ' ' .. stamp .. ' ' .. (size - math.max(0, expired_count - 100)) .. ' ' .. low .. ' ' .. lineage .. ' ' ..
  table.concat(keys, '\\0')
"""

UPGRADE = PARTS + WHOLE + """
-- Upgrade a namespace of an earlier format, in which each page of a list has a single member. Returns 1.
local f, kind = call('HMGET', head, 'format', 'keyring'), call('TYPE', touched).ok
local is_earlier = kind == 'zset' or f[1] and (tonumber(f[1]) or 4) < 4
if is_earlier then
  KEYS[8], KEYS[15] = touched, writes
  whole(2, 13)
  if kind == 'zset' and call('EXISTS', writes) == 0 then call('RENAME', touched, writes) end
  if f[1] then call('HSET', head, 'format', f[2] and '5' or '4', 'versions', call('HLEN', history)) end
end
if is_earlier or kind == 'none' and f[1] then call('HSET', touched, 'format', '4') end
return 1
"""

CONTACT = PARTS + """
-- The first contact. Returns the server's clock, how many parts beside the head exist, the head, and the first command
-- of ARGV that this user may not run, as DENIED tells.
local t = call('TIME')
local out = {t[1], t[2], call('EXISTS', unpack(KEYS, 2)), call('HGETALL', head)}
for _, command in ipairs(redis.acl_check_cmd and ARGV or {}) do
  if not redis.acl_check_cmd(command, head, head) then out[5] = command; break end
end
return out
"""

DENIED = """
-- Returns the first command of ARGV that this user may not run on the head, given twice for RENAME. Redis 7 tells.
for _, command in ipairs(redis.acl_check_cmd and ARGV or {}) do
  if not redis.acl_check_cmd(command, KEYS[1], KEYS[1]) then return command end
end
return false
"""

PUT_KEYRING = PARTS + """
-- Store or remove the keyring. ARGV: the document, or nothing; the document that lies there, or nothing. Returns 1; or
-- 0 if there is no namespace, or another document.
local f = call('HMGET', head, 'lineage', 'keyring')
if not f[1] then return 0 end
if (f[2] or '') == ARGV[1] then return 1 end  -- the reply was lost
if (f[2] or '') ~= ARGV[2] then return 0 end
if ARGV[1] ~= '' then call('HSET', head, 'keyring', ARGV[1], 'format', '5')
else call('HDEL', head, 'keyring'); call('HSET', head, 'format', '4') end
return 1
"""
# fmt: on
