"""The keys of a namespace, the Lua functions that all scripts share, and the script of a commit.

The scripts use core commands only. They declare every key, and all keys of a namespace lie in one slot. Values are in
their stored form, see `stored_values`: no script looks into a value.

The keys, below the prefix `stateview:{NS}:`:

    head      hash     revision, time, floor, lineage, format, touch; keyring of a sealed namespace
    live      hash     key -> "REVISION TIME EXPIRES VALUE"
    index     zset     the live keys, in byte order, for pages without a scan
    expiry    zset     the live keys with an expiry, by expiry
    history   hash     key NUL REVISION -> "UNTIL TIME EXPIRES V" + value, or D for a delete; UNTIL 0: no later version;
                       or a linked version, see below
    hindex    zset     the fields of history, in byte order
    hexpiry   zset     the fields of history with an expiry, by expiry
    touched   zset     REVISION key, in byte order: the writes of each revision
    commits   hash     REVISION -> "TIME " + JSON
    marks     zset     NAME@REVISION, by revision
    notes     hash     NAME@REVISION -> "SEQUENCE TIME KIND NOTE", KIND a place in KINDS
    tokens    hash     SESSION -> "NUMBER REVISION", the last commit of each session, so that a retry is applied once
    older     hash     the former content of `tokens`, from when that held 10,000 sessions
    damaged   hash     key -> an unreadable entry or version that `recover` set aside

A client sends commits in a session, one after the other, and numbers them. A commit with the number of the session's
last commit was applied already. With a lower number, the client has given it up. A token of the caller is a session of
its own.

The head's `touch` is "TOKEN FLAGS@REVISION FLOOR": the last commit without writes, and for each part from `live` to
`older` whether it has members. A part that had members and has none was evicted, or deleted by another program. An
earlier release writes no flags, so they hold only at that revision and floor. In any case the parts must agree: `live`
with `index`, `history` with `hindex`, `marks` with `notes`, and `commits` with the revisions above the floor.

A linked version is "*UNTIL TIME EXPIRES P" + "REFS BASE PLACE SIZE " + a delta, see `deltas`. Or W and the whole value
stand in place of P and a delta, with the place 1 if the value is better kept whole. REFS counts the versions that are
relative to it. With the first linked version the head's `format` becomes 2.

With a keyring the head's `format` is 3. Values, deltas and texts are sealed for their revision then, so a client says
for which revision it has sealed a commit. The SIZE of a delta is that of the encoded value, the SIZE of a whole value
that of its stored form.

The keyring of a namespace that has data can be made, changed and removed while others go on. A client sends with each
commit the digest of the keyring that it knows, and a client that knows none sends nothing. If another keyring lies
there, COMMIT refuses before it writes anything, the client learns the keyring, and sends the commit in the form that
this one asks for. So all that is stored in another form was there before the keyring was changed. It only ever moves
from `live` to the history. A pass over `live`, `history`, `commits` and `notes`, in this order, meets all of it, see
`resealing`. In between, sealed and plain values lie side by side. A reader that meets what it cannot open, or what
looks sealed, learns the keyring and reads again.

A client of an earlier release that opens a namespace of format 3 is told to upgrade. One that was open before looks at
the format no more: it reads sealed forms as values, and commits plain values. So it must be closed before a namespace
is sealed. What it commits before the pass is complete may be sealed by it; what it commits later is `Damaged` for
others.

The base of a delta lies in the history, never in `live`: an earlier release, which may commit beside this one, moves
entries from `live` to the history and trims them. It neither reads nor removes a version that begins with `*`. No
version goes while others are relative to it: a client first makes these relative to another, see `packing`.

Revisions inside a member have 16 digits. A key holds no NUL, so a NUL separates, and sorts first.
"""

from ..deltas import FANOUT, MIN_BYTES

KINDS = ("", "named", "auto", "safety")  # the kind of a checkpoint, by its stored number

NAMES = (
    "head", "live", "index", "expiry", "history", "hindex", "hexpiry", "touched", "commits", "marks", "notes", "tokens",
    "older", "damaged",
)  # fmt: skip

_FLAGGED = NAMES[1:13]  # the parts for which the head has a flag, in this order
_HASHES = ("live", "history", "commits", "notes", "tokens", "older")
_FLAGS = " .. ".join(
    f"(call('{'HLEN' if name in _HASHES else 'ZCARD'}', {name}) > 0 and '1' or '0')" for name in _FLAGGED
)


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

# The functions of a plain commit, and no others: each definition takes time in every call.
_TEXT = """
local function int(n) return string.format('%.0f', n) end
local function pad(n) return string.format('%016.0f', n) end
local function clock() local t = call('TIME'); return t[1] .. string.rep('0', 6 - #t[2]) .. t[2] end
local function split(packed)  -- three numbers as text, and the position of the rest
  local r, t, e, at = string.match(packed or '', '^%*?(%d+) (%d+) (%d+) ()')
  if not at then error('DAMAGED: an entry is not what was written') end
  return r, t, e, at
end
"""

WHOLE = """
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
"""

# In place of WHOLE, for `doctor` and `recover`: they read what is left.
UNCHECKED = """
local function lost() end
local function whole() end
"""

_RECORD = """
local function record()  -- note which parts have members
  local f = call('HMGET', head, 'revision', 'floor', 'touch')
  if not f[1] then return end
  local token, flags = string.match(f[3] or '', '^%S*'), """ + _FLAGS + """
  call('HSET', head, 'touch', token .. ' ' .. flags .. '@' .. f[1] .. ' ' .. (f[2] or ''))
end
"""

_KEPT = """
local function kept(revision)
  local f = call('HMGET', head, 'revision', 'floor')
  if not f[1] and call('EXISTS', unpack(KEYS)) > 0 then error('DAMAGED: the head is not what was written') end
  if revision > tonumber(f[1] or 0) then return false, f[2] or '0' end
  return revision >= tonumber(f[2] or 0) or call('ZCOUNT', marks, int(revision), int(revision)) > 0, f[2] or '0'
end
"""

_BEFORE = """
local function before(key, revision)  -- the last version of a key in the history, up to a revision
  return call('ZREVRANGEBYLEX', hindex, '[' .. key .. '\\0' .. pad(revision), '[' .. key .. '\\0', 'LIMIT', 0, 1)[1]
end
"""

_COMMON = _KEYS + """
local function int(n) return string.format('%.0f', n) end
local function pad(n) return string.format('%016.0f', n) end
local function clock() local t = call('TIME'); return t[1] * 1000000 + t[2] end
local function count() return call('ZCARD', index) - call('ZCOUNT', expiry, '-inf', int(clock())) end
local function less(a, b)  -- in byte order; Lua's < compares by the server's locale
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
  end
  return #a < #b
end
local function split(packed)
  local r, t, e, at = string.match(packed or '', '^%*?(%d+) (%d+) (%d+) ()')
  if not at then error('DAMAGED: an entry is not what was written') end
  return tonumber(r), tonumber(t), tonumber(e), string.sub(packed, at)
end
""" + _KEPT + _BEFORE + """
local pieces, sent, piece_bytes = {}, {}, 0
local function collect(member)  -- add a version and those that it is relative to, which are not in `pieces` yet
  local key = string.sub(member, 1, -17)
  while member and not sent[member] do
    local packed = call('HGET', history, member) or ''
    sent[member], pieces[#pieces + 1], pieces[#pieces + 2] = true, member, packed
    piece_bytes = piece_bytes + #packed
    local base = string.match(packed, '^%*%d+ %d+ %d+ P%d+ (%d+) ')
    member = base and base ~= '0' and key .. pad(tonumber(base))
  end
end
local function size_of(rest) return string.match(rest, '^[PW]%d+ %d+ %d+ (%d+) ') end  -- of a linked version
local function at(key, revision, time)
  -- The entry of a key in a state, packed as in live; false if it has none. Of a linked version, `*` and the size stand
  -- for the value, and its member comes with it: the caller collects it.
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
  local packed = int(tonumber(string.sub(member, -16))) .. ' ' .. int(t) .. ' ' .. int(e) .. ' '
  local size = size_of(rest)
  if size then return '*' .. packed .. size, member end
  return packed .. string.sub(rest, 2)
end
""" + WHOLE

_TRIM = """
local function each(command, name, members)  -- call a command on many members; Lua passes 1,000 at once
  for i = 1, #members, 1000 do call(command, name, unpack(members, i, math.min(i + 999, #members))) end
end
local function trim(floor, goal, limit)
  -- The rules are those of sqlite/schema.py. Members are removed at the end: one command for many members costs less.
  -- Returns the floor, and a set of the keys of which linked versions are left.
  local low, high = '[' .. pad(floor + 1), '(' .. pad(goal + 1)
  local rows = call('ZRANGEBYLEX', touched, low, high, 'LIMIT', 0, limit + 1)
  if #rows > limit then
    goal = math.max(floor + 1, tonumber(string.sub(rows[#rows], 1, 16)) - 1)
    rows = call('ZRANGEBYLEX', touched, low, '(' .. pad(goal + 1))
  end
  local oldest = tonumber(call('ZRANGE', marks, 0, 0, 'WITHSCORES')[2])
  local members, expiring, touches, records, left = {}, {}, {}, {}, {}
  for _, row in ipairs(rows) do
    local r, key = tonumber(string.sub(row, 1, 16)), string.sub(row, 17)
    local member = before(key, r - 1)
    if member then
      local linked, u, e = string.match(call('HGET', history, member) or '', '^(%*?)(%d+) %d+ (%d+)')  -- nil: damaged
      local first = tonumber(string.sub(member, -16))
      if linked == '*' then left[key] = true
      elseif tonumber(u) == r and (not oldest or call('ZCOUNT', marks, int(first), '(' .. int(r)) == 0) then
        members[#members + 1] = member
        touches[#touches + 1] = pad(first) .. key
        if e ~= '0' then expiring[#expiring + 1] = member end
      end
    end
    if not oldest or oldest >= r then
      touches[#touches + 1] = row
      local field = key .. '\\0' .. pad(r)
      local packed = call('HGET', history, field)
      if packed and string.match(packed, '^%d+ %d+ %d+ D$') then
        local rest = call('ZRANGEBYLEX', hindex, '[' .. key .. '\\0', '(' .. field, 'LIMIT', 0, 1001)
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
  return goal, left
end
"""

REFER = """
local function refer(member, by)  -- change the number of versions that are relative to a version
  local packed = call('HGET', history, member)
  local start, kind, refs, rest = string.match(packed, '^(%*%d+ %d+ %d+ )([PW])(%d+)( .*)$')
  if start then
    packed = start .. kind .. int(refs + by) .. rest
  else
    local first, at = string.match(packed, '^(%d+ %d+ %d+ )V()')
    packed = '*' .. first .. 'W' .. int(by) .. ' 0 0 ' .. (#packed - at + 1) .. ' ' .. string.sub(packed, at)
  end
  call('HSET', history, member, packed)
end
"""

_PACK = """
local function pack(key, how, data, live_version)
  -- Replace a whole value by its delta, or mark it as better kept whole. Returns the place of the delta, and whether it
  -- is relative to the live version that is being superseded.
  local q, q_time, base, base_time, value_size = string.match(how, '^P(%d+) (%d+) (%d+) (%d+) ?(%d*)$')
  local former, newer = key .. '\\0' .. pad(q), key .. '\\0' .. pad(base)
  local packed, refs = call('HGET', history, former) or '', '0'
  local u, t, e, at = string.match(packed, '^(%d+) (%d+) (%d+) V()')
  if not u then u, t, e, refs, at = string.match(packed, '^%*(%d+) (%d+) (%d+) W(%d+) 0 0 %d+ ()') end
  if not u or u ~= base or t ~= q_time then return 0 end  -- another lineage may have the same revisions at other times
  local is_live, found = base == live_version.revision, nil
  if is_live then found = string.match(live_version.times, '^%d+')
  else found = string.match(call('HGET', history, newer) or '', '^%*?%d+ (%d+) %d+ [VPW]') end
  if found ~= base_time then return 0 end
  local start, size, place = '*' .. u .. ' ' .. t .. ' ' .. e .. ' ', ' ' .. (#packed - at + 1) .. ' ', 0
  if f[6] ~= '3' then call('HSET', head, 'format', '2') end
  if data == '' then
    call('HSET', history, former, start .. 'W' .. refs .. ' 0 1' .. size .. string.sub(packed, at))
    return 0
  end
  local prior = call('ZREVRANGEBYLEX', hindex, '(' .. former, '[' .. key .. '\\0', 'LIMIT', 0, 1)[1]
  if value_size ~= '' then size = ' ' .. value_size .. ' ' end
  if prior then place = (string.match(call('HGET', history, prior), '^%*%d+ %d+ %d+ P%d+ %d+ (%d+) ') or -1) + 1 end
  call('HSET', history, former, start .. 'P' .. refs .. ' ' .. base .. ' ' .. place .. size .. data)
  if not is_live then refer(newer, 1) end
  return place, is_live
end
"""

COMMIT = _KEYS + _TEXT + """
-- ARGV: options that only some commits have, as JSON, or nothing; the record for the log; the session, and the number
-- of the commit in it; how many revisions to keep. Then for each write: the key; 'TTL TIME', D to delete, or nothing;
-- the value. Before a write, its key may come with 'PREVISION TIME BASE TIME', and the delta of that superseded
-- version, empty if it is better kept whole; after BASE TIME the size of the value, if it is not the size of what is
-- stored. Returns as text the head after the commit, and the keys that need packing,
-- each after N for its newest versions or O for its oldest; or a table that says why the commit was refused.
local options = ARGV[1] ~= '' and cjson.decode(ARGV[1]) or {}
local session, number = ARGV[3], tonumber(ARGV[4])
local f = call('HMGET', head, 'revision', 'time', 'floor', 'lineage', 'touch', 'format')
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
if lineage and (f[6] == '3' or options.of) then  -- before any write: what is sealed is sealed for one place
  if f[6] ~= '3' or options.of ~= lineage or options.keyring or
    options.ring ~= redis.sha1hex(call('HGET', head, 'keyring') or '') then return {'rekey'} end
  if options.sealed_for and options.sealed_for ~= revision + 1 then return {'reseal', int(revision)} end
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
""" + WHOLE + """
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
""" + _KEPT + """
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
local packs, tend = {}, {}  -- by key
""" + f"local min_bytes, fanout = {MIN_BYTES}, {FANOUT}" + """
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
        times = t .. ' ' .. e .. ' ', old = string.sub(old, at)}
    else
      local member = call('ZREVRANGEBYLEX', hindex, '[' .. key .. '\\0' .. pad(revision + 1), '[' .. key .. '\\0',
        'LIMIT', 0, 1)[1]
      local open = false
      if member then
        local packed = call('HGET', history, member)
        local u = split(packed)
        if u == '0' then open = packed end
      end
      plan[#plan + 1] = {key = key, value = value, ttl = ttl, time = time, member = member, old = open}
    end
  end
  if expired_count > 0 then written = {} end
  for i = 6, #ARGV, 3 do
    local key, how, value = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    if how == '' then add(key, value)
    elseif how == 'D' then add(key)
    elseif string.byte(how) == 80 then packs[key] = {how, value}
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
""" + WHOLE + """
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
if options.keyring then call('HSET', head, 'keyring', options.keyring, 'format', '3') end
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
if not writes then
  flags = flags or """ + _FLAGS + """
  call('HSET', head, 'touch', session .. ARGV[4] .. ' ' .. flags .. '@' .. int(revision) .. ' ' .. int(floor))
  return table.concat({int(revision), int(last), size - expired_count, int(floor), lineage}, ' ')
end
revision = revision + 1
local padded = pad(revision)
for _, p in ipairs(plan) do
  local key, start, expired = p.key, r .. ' ', p.revision and p.e ~= '0'
  if p.revision then
    local member = key .. '\\0' .. pad(p.revision)
    local kind = 'V'
    if #p.old >= min_bytes then
      if packs[key] then
""" + REFER + _PACK + """
        local place, is_base = pack(key, packs[key][1], packs[key][2], p)
        if place > 0 and place % fanout == 0 then tend[key] = 'N' end
        if is_base then start, kind = '*' .. start, 'W1 0 0 ' .. #p.old .. ' ' end
      else  -- the eighth version before it is whole too
        local former = call('ZREVRANGEBYLEX', hindex, '(' .. member, '[' .. key .. '\\0', 'LIMIT', 7, 1)[1]
        if former and call('HSTRLEN', history, former) > min_bytes and
          string.match(call('HGET', history, former), '^%d+ %d+ %d+ V') then tend[key] = 'N' end
      end
    end
    call('HSET', history, member, start .. p.times .. kind .. p.old)
    call('ZADD', hindex, '0', member)
    if expired then call('ZADD', hexpiry, p.e, member) end
  elseif p.old then
    call('HSET', history, p.member, (string.gsub(p.old, '^(%*?)%d+', '%1' .. r, 1)))
  end
  if p.value then
    local expires = p.ttl and int(since + p.ttl) or '0'
    call('HSET', live, key, r .. ' ' .. (p.time or stamp) .. ' ' .. expires .. ' ' .. p.value)
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
if due then
  call('HSET', head, 'revision', r, 'time', stamp)
""" + _BEFORE + _TRIM + """
  local left
  floor, left = trim(floor, revision - keep, 200)
  for key in pairs(left) do tend[key] = 'O' end
end
local keys = {}
for key, word in pairs(tend) do keys[#keys + 1] = word .. key end
local low = due and int(floor) or f[3] or '0'
flags = flags or """ + _FLAGS + """
call('HSET', head, 'revision', r, 'time', stamp, 'touch', touch .. ' ' .. flags .. '@' .. r .. ' ' .. low)
-- One commit deletes 100 expired entries. The others are still in the index.
return r .. ' ' .. stamp .. ' ' .. (size - math.max(0, expired_count - 100)) .. ' ' .. low .. ' ' .. lineage .. ' ' ..
  table.concat(keys, '\\0')
"""

PUT_KEYRING = _KEYS + """
-- Store or remove the keyring. ARGV: the document, or nothing; the document that lies there, or nothing. Returns 1; or
-- 0 if there is no namespace, or another document.
local f = call('HMGET', head, 'lineage', 'keyring')
if not f[1] then return 0 end
if (f[2] or '') == ARGV[1] then return 1 end  -- the reply was lost
if (f[2] or '') ~= ARGV[2] then return 0 end
if ARGV[1] ~= '' then call('HSET', head, 'keyring', ARGV[1], 'format', '3')
else call('HDEL', head, 'keyring'); call('HSET', head, 'format', '2') end
return 1
"""
# fmt: on
