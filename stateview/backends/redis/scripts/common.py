"""The keys of a namespace, and the Lua functions that scripts share.

The scripts use core commands only. They declare every key, and all keys of a namespace lie in one slot. Values are in
their stored form, see `stored_values`: no script looks into a value.

The keys, below the prefix `stateview:{NS}:`:

    head      hash     revision, time, floor, lineage, format, touch, versions; keyring of a sealed namespace
    live      hash     key -> "REVISION TIME EXPIRES VALUE"
    index     zset     the live keys, in byte order, for pages without a scan
    expiry    zset     the live keys with an expiry, by expiry
    history   hash     key NUL REVISION -> "UNTIL TIME EXPIRES V" + value, or D for a delete; UNTIL 0: no later version;
                       or a linked version, see below
    hindex    zset     the fields of history, in pages, see `paged_lists`
    hexpiry   zset     the fields of history with an expiry, by expiry
    writes    zset     REVISION key, in pages: the writes of each revision
    commits   hash     REVISION -> "TIME " + JSON
    marks     zset     NAME@REVISION, by revision
    notes     hash     NAME@REVISION -> "SEQUENCE TIME KIND NOTE", KIND a place in KINDS
    tokens    hash     SESSION -> "NUMBER REVISION", the last commit of each session, so that a retry is applied once
    older     hash     the former content of `tokens`, from when that held 10,000 sessions
    damaged   hash     key -> an unreadable entry or version that `recover` set aside
    touched   string   a number of a format; before format 4 a zset, `writes`

A client sends commits in a session, one after the other, and numbers them. A commit with the number of the session's
last commit was applied already. With a lower number, the client has given it up. A token of the caller is a session of
its own.

The head's `touch` is "TOKEN FLAGS@REVISION FLOOR": the last commit without writes, and for each part from `live` to
`older` whether it has members. A part that had members and has none was evicted, or deleted by another program. An
earlier release writes no flags, so they hold only at that revision and floor. In any case the parts must agree: `live`
with `index`, `history` with the head's `versions`, `marks` with `notes`, and `commits` with the revisions above the
floor.

A linked version is "*UNTIL TIME EXPIRES P" + "REFS BASE PLACE SIZE " + a delta, see `deltas`. Or W and the whole value
stand in place of P and a delta, with the place 1 if the value is better kept whole. REFS counts the versions that are
relative to it.

The base of the newest delta of a key may be the live version, whose REFS are counted when it is superseded. A client
that knows the live version sends its delta with the write that supersedes it. Then no script reads the live value: Lua
takes a millisecond to copy a megabyte. COMMIT takes the delta only while the entry has its length, no expiry, and no
version in the history with its revision.

The head's `format` is 4, with a keyring 5. Values, deltas and texts are sealed for their revision then, so a client
says for which revision it has sealed a commit. The SIZE of a delta is that of the encoded value, the SIZE of a whole
value that of its stored form.

The keyring of a namespace that has data can be made, changed and removed while others go on. A client sends with each
commit the digest of the keyring that it knows, and a client that knows none sends nothing. If another keyring lies
there, COMMIT refuses before it writes anything, the client learns the keyring, and sends the commit in the form that
this one asks for. So all that is stored in another form was there before the keyring was changed. It only ever moves
from `live` to the history. A pass over `live`, `history`, `commits` and `notes`, in this order, meets all of it, see
`resealing`. In between, sealed and plain values lie side by side. A reader that meets what it cannot open, or what
looks sealed, learns the keyring and reads again.

No version goes while others are relative to it: a client first makes these relative to another, see `packing`.

In the formats 1 to 3 each page of a list has a single member, and `writes` is called `touched`. Scripts read such a
namespace as it is. The first write upgrades it, see UPGRADE: in O(1), but for the counts. `compact` merges its pages.
`touched` is a hash from then on. So a client of an earlier release that is still open is refused, before its commit
writes and before it tells what changed. If such a client opens the namespace, it is told to upgrade.

Revisions inside a member have 16 digits. A key holds no NUL, so a NUL separates, and sorts first.
"""

from functools import cache

from .paged_lists import BEFORE, READ_LISTS

KINDS = ("", "named", "auto", "safety")  # the kind of a checkpoint, by its stored number

NAMES = (
    "head", "live", "index", "expiry", "history", "hindex", "hexpiry", "writes", "commits", "marks", "notes", "tokens",
    "older", "damaged", "touched",
)  # fmt: skip

_FLAGGED = NAMES[1:13]  # the parts for which the head has a flag, in this order
_HASHES = ("live", "history", "commits", "notes", "tokens", "older")
FLAGS = " .. ".join(
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
PARTS = """
local head, live, index, expiry, history, hindex, hexpiry, writes, commits, marks, notes, tokens, older, damaged,
  touched = unpack(KEYS)
local call = redis.call
"""

# The functions of a plain commit, and no others: each definition takes time in every call.
TEXT = """
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
  local f = call('HMGET', head, 'revision', 'floor', 'touch', 'versions')
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
  if not f[4] then compare(5, 6)  -- each page has a single member then
  elseif n[5] and n[5] ~= tonumber(f[4]) then out[#out + 1] = 5
  elseif n[5] and n[5] > 0 and n[6] == 0 then out[#out + 1] = 6 end
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

LOST = """
local function is_lost(known, lineage, revision, floor)
  -- Whether the namespace lacks the commit that a client knows. Pruned commits are not looked at.
  if not lineage then return redis.call('EXISTS', unpack(KEYS)) == 0 end  -- else it is damaged, as the script will say
  local of, r, time = string.match(known, '^(%S+) (%d+) (%d+)$')
  if of ~= lineage or tonumber(r) >= revision then return true end
  local record = tonumber(r) > floor and redis.call('HGET', KEYS[9], r)
  return record and string.match(record, '^%d+') ~= time
end
"""

# Every script but COMMIT runs in this frame. The first word of ARGV is the newest answer that the client knows, or
# nothing. The reply is the newest answer that this server can give, and the script's own reply; or a third member
# stands for a lost commit.
_FRAME_START = """
local known = table.remove(ARGV, 1)
local function body()
"""
_FRAME_END = """
end
local f = redis.call('HMGET', KEYS[1], 'lineage', 'revision', 'time', 'floor')
local answer = (f[1] or '') .. ' ' .. (f[2] or '0') .. ' ' .. (f[3] or '0')
if known ~= '' and known ~= answer then
""" + LOST + """
  if is_lost(known, f[1], tonumber(f[2] or 0) or 0, tonumber(f[4] or 0) or 0) then return {answer, 0, 0} end
end
return {answer, body() or false}
"""


@cache
def framed(script: str) -> str:
    """Return a script in the frame that compares what the client knows with what the server has."""
    return _FRAME_START + script + _FRAME_END


# In place of WHOLE, for `doctor` and `recover`: they read what is left.
UNCHECKED = """
local function lost() end
local function whole() end
"""

NOTE_PARTS = """
local function record()  -- note which parts have members
  local f = call('HMGET', head, 'revision', 'floor', 'touch')
  if not f[1] then return end
  local token, flags = string.match(f[3] or '', '^%S*'), """ + FLAGS + """
  call('HSET', head, 'touch', token .. ' ' .. flags .. '@' .. f[1] .. ' ' .. (f[2] or ''), 'versions',
    call('HLEN', history))
end
"""

KEPT = """
local function kept(revision)
  local f = call('HMGET', head, 'revision', 'floor')
  if not f[1] and call('EXISTS', unpack(KEYS)) > 0 then error('DAMAGED: the head is not what was written') end
  if revision > tonumber(f[1] or 0) then return false, f[2] or '0' end
  return revision >= tonumber(f[2] or 0) or call('ZCOUNT', marks, int(revision), int(revision)) > 0, f[2] or '0'
end
"""

COMMON = PARTS + """
if (tonumber(call('HGET', head, 'format') or '') or 4) < 4 then KEYS[8], KEYS[15], writes = touched, writes, touched end
local function int(n) return string.format('%.0f', n) end
local function pad(n) return string.format('%016.0f', n) end
local function clock() local t = call('TIME'); return t[1] * 1000000 + t[2] end
local function count() return call('ZCARD', index) - call('ZCOUNT', expiry, '-inf', int(clock())) end
local function split(packed)
  local r, t, e, at = string.match(packed or '', '^%*?(%d+) (%d+) (%d+) ()')
  if not at then error('DAMAGED: an entry is not what was written') end
  return tonumber(r), tonumber(t), tonumber(e), string.sub(packed, at)
end
""" + KEPT + READ_LISTS + BEFORE + """
local pieces, sent, piece_bytes = {}, {}, 0
local function collect(member)  -- add a version and those that it is relative to, which are not in `pieces` yet
  local key = string.sub(member, 1, -17)
  while member and not sent[member] do
    local packed = call('HGET', history, member)
    if not packed then  -- the live entry, by its key
      member = string.sub(key, 1, -2)
      if sent[member] then return end
      packed = call('HGET', live, member) or ''
    end
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
  -- A copy of a large value takes longer than all else, so the live one is not read if a later version is superseded.
  local member, later
  if revision < 2 ^ 53 then member, later = before(key, revision, true) end
  local packed = not later and call('HGET', live, key)
  if packed then
    local r, e = string.match(packed, '^%*?(%d+) %d+ (%d+) ')
    if not e then error('DAMAGED: an entry is not what was written') end
    r, e = tonumber(r), tonumber(e)
    if r <= revision then
      if e == 0 or e > time then return packed end
      return false
    end
  end
  member = member or revision == 2 ^ 53 and before(key, revision)
  if not member then return false end
  local u, t, e, rest = split(call('HGET', history, member))
  if (u ~= 0 and u <= revision) or string.sub(rest, 1, 1) == 'D' or (e ~= 0 and e <= time) then return false end
  local packed = int(tonumber(string.sub(member, -16))) .. ' ' .. int(t) .. ' ' .. int(e) .. ' '
  local size = size_of(rest)
  if size then return '*' .. packed .. size, member end
  return packed .. string.sub(rest, 2)
end
""" + WHOLE

EACH = """
local function each(command, name, members)  -- call a command on many members; Lua passes 1,000 at once
  for i = 1, #members, 1000 do call(command, name, unpack(members, i, math.min(i + 999, #members))) end
end
"""

TRIM = EACH + """
local function trim(floor, goal, limit)
  -- The rules are those of sqlite/schema.py. Members are removed at the end: one command for many members costs less.
  -- Returns the floor, and a set of the keys of which linked versions are left.
  local low = pad(floor + 1)
  local rows = range(writes, low, pad(goal + 1), limit + 1)
  if #rows > limit then
    goal = math.max(floor + 1, tonumber(string.sub(rows[#rows], 1, 16)) - 1)
    rows = range(writes, low, pad(goal + 1), 2 ^ 53)
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
        local rest = range(hindex, key .. '\\0', field, 1001)
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
  unlist(hindex, members)
  each('ZREM', hexpiry, expiring)
  unlist(writes, touches)
  each('HDEL', commits, records)
  call('HSET', head, 'floor', int(goal))
  return goal, left
end
"""

REFER = """
local function refer(member, by)  -- change the number of versions that are relative to a version
  local packed = call('HGET', history, member)
  if not packed then return end  -- the live version: its count is made when it is superseded
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
# fmt: on
