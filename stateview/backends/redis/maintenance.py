"""The maintenance of a Redis namespace: list superseded versions, measure memory, prune.

Each script does one step, so that the server answers other clients between two steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from ...errors import tells_what_was_done
from ..deltas import MIN_BYTES
from ..protocol import PAGE_BYTES, DiskUsage, ProgressCount, SupersededVersion
from ..prune_progress import PruneProgress
from . import packing
from .connections.errors import is_unsupported
from .scripts.commit import UPGRADE
from .scripts.common import COMMON, EACH, NAMES, NOTE_PARTS
from .scripts.paged_lists import WRITE_LISTS

if TYPE_CHECKING:
    from .reader import Reader

MEMBERS_PER_SCRIPT = 1000
COMMITS_PER_SCRIPT = 10_000
MEMORY_SAMPLES = 1000  # members of a key by which the server estimates the memory of the key
PAGES_PER_SCRIPT = 2000
MEMBER_OVERHEAD_BYTES = 147  # of a version in `history`, `hindex` and `writes`, beside its value and three keys
_HINDEX, _WRITES = NAMES.index("hindex"), NAMES.index("writes")

# fmt: off
SUPERSEDED = COMMON + """
-- A page of superseded versions. ARGV: the member to continue after; how many versions; how many bytes; 1 to return
-- stored values. Returns for each version: member, size of the stored value, how many bytes it takes, until, whether it
-- is a delete, and the stored value or nothing.
whole(5, 7)
local out, read = {}, 0
for _, member in ipairs(range(hindex, ARGV[1] ~= '' and ARGV[1] .. '\\0' or '', nil, tonumber(ARGV[2]))) do
  local packed = call('HGET', history, member)
  local until_, at = string.match(packed or '', '^%*?(%d+) %d+ %d+ ()')
  if not at then error('DAMAGED: a version is not what was written') end
  local deleted = string.sub(packed, at, at) == 'D'
  local size = size_of(string.sub(packed, at, at + 80))
  out[#out + 1] = member
  out[#out + 1] = tonumber(size) or #packed - at
  out[#out + 1] = #packed - at
  out[#out + 1] = tonumber(until_)
  out[#out + 1] = deleted
  local value = not size and at + 1 or string.match(packed, '^%*%d+ %d+ %d+ W%d+ %d+ %d+ %d+ ()')
  out[#out + 1] = ARGV[4] == '1' and not deleted and value and string.sub(packed, value) or ''
  read = read + #packed
  if read > tonumber(ARGV[3]) then break end
end
return cmsgpack.pack(out)
"""

RAISE = COMMON + NOTE_PARTS + """
-- Raise the floor by a step. ARGV: the goal; by how many revisions at most. Returns the floor.
local f = call('HMGET', head, 'revision', 'floor')
local floor = tonumber(f[2] or 0)
local goal = math.min(tonumber(ARGV[1]), tonumber(f[1] or 0), floor + tonumber(ARGV[2]))
if goal <= floor then return int(floor) end
whole(2, 13)
for low = floor + 1, goal, 1000 do
  local gone = {}
  for r = low, math.min(low + 999, goal) do gone[#gone + 1] = int(r) end
  call('HDEL', commits, unpack(gone))
end
call('HSET', head, 'floor', int(goal))
record()
return int(goal)
"""

SWEEP = COMMON + WRITE_LISTS + NOTE_PARTS + """
-- Remove versions that no kept state shows. ARGV: the floor; the member to continue after; how many members to examine.
-- Returns how many were removed, the last member examined, or nothing at the end, and the keys that need packing.
-- Linked versions are left.
whole(2, 13)
local tend, whole_key, min_bytes = {}, '', """ + str(MIN_BYTES) + """
local goal = tonumber(ARGV[1])
local members = range(hindex, ARGV[2] ~= '' and ARGV[2] .. '\\0' or '', nil, tonumber(ARGV[3]))
local last, full, read, gone, rows = '', false, 0, {}, {}
for _, member in ipairs(members) do
  local packed = call('HGET', history, member)
  local u, _, _, rest = split(packed)
  local linked = string.sub(packed, 1, 1) == '*'
  local first, key = tonumber(string.sub(member, -16)), string.sub(member, 1, -18)
  local unneeded = u ~= 0 and u <= goal and call('ZCOUNT', marks, int(first), '(' .. int(u)) == 0
  local bare_delete = rest == 'D' and first <= goal and call('ZCOUNT', marks, '-inf', '(' .. int(first)) == 0
  if whole_key == key or linked and unneeded then
    if tend[#tend] ~= key then tend[#tend + 1] = key end
  end
  if not linked and not unneeded and #rest > min_bytes then whole_key = key end
  if unneeded and not linked or bare_delete then
    call('HDEL', history, member); call('ZREM', hexpiry, member)
    gone[#gone + 1], rows[#rows + 1] = member, pad(first) .. key
  end
  last, read = member, read + #rest
  if read > 8000000 then full = true; break end
end
if not full and #members < tonumber(ARGV[3]) then last = '' end  -- the end, also while others add versions behind it
unlist(hindex, gone)
unlist(writes, rows)
if #gone > 0 then record() end
return {#gone, last, tend}
"""

UNTOUCH = COMMON + WRITE_LISTS + NOTE_PARTS + """
-- Remove members of writes that are older than every kept state. ARGV: how many at most. Returns how many.
whole(2, 13)
local low = tonumber(call('HGET', head, 'floor') or 0)
local oldest = tonumber(call('ZRANGE', marks, 0, 0, 'WITHSCORES')[2])
if oldest and oldest < low then low = oldest end
local rows = range(writes, '', pad(low + 1), tonumber(ARGV[1]))
unlist(writes, rows)
if #rows > 0 then record() end
return #rows
"""
MERGE_PAGES = COMMON + WRITE_LISTS + EACH + """
-- Merge neighbouring small pages. ARGV: the place of the list in KEYS; the page to continue after; how many pages.
-- Returns the page to continue after; nothing at the end.
local list = KEYS[tonumber(ARGV[1])]
local pages = call('ZRANGEBYLEX', list, ARGV[2] ~= '' and '(' .. ARGV[2] or '-', '+', 'LIMIT', 0, tonumber(ARGV[3]))
local group, size, text = {}, 0, ''
local function merge()
  text = table.concat(group, list == writes and '\\0' or '')
  if #group > 1 then
    each('ZREM', list, group)
    call('ZADD', list, '0', text)
  end
  group, size = {}, 0
end
for _, page in ipairs(pages) do
  if size > 0 and size + #page >= page_bytes then merge() end
  group[#group + 1], size = page, size + #page + 1
end
if size > 0 then merge() end
return #pages == tonumber(ARGV[3]) and text or ''
"""
# fmt: on


def superseded(backend: Reader, after: tuple[str, int], limit: int) -> list[SupersededVersion]:
    """Return a page of superseded versions. One round trip; a page ends soon after `PAGE_BYTES` of stored values."""
    member = f"{after[0]}\0{after[1]:016}" if after[0] else ""
    backend._handshake()
    plain = backend.values.plain
    reply = backend._eval(SUPERSEDED, member, min(limit, MEMBERS_PER_SCRIPT), PAGE_BYTES, int(not plain))
    flat = msgspec.msgpack.decode(reply)
    page = []
    for member, stored_size, taken, until, deleted, stored in zip(*[iter(flat)] * 6, strict=True):
        key, _, revision = member.rpartition("\0")
        space = taken + 3 * len(key.encode()) + MEMBER_OVERHEAD_BYTES
        size = 0 if deleted else stored_size
        if stored and not plain:
            size = backend.values.size(stored.encode(), key, int(revision))
        page.append(SupersededVersion(key, int(revision), int(until), size, deleted, space))
    return page


def disk_usage(backend: Reader) -> DiskUsage | None:
    """Return the bytes that the server reports for the keys; None if it does not report them to this user."""
    _, sizes = measure(backend, (), backend._keys)
    return None if sizes is None else DiskUsage(sum(sizes))


def measure(backend: Reader, hashes: Sequence[str], keys: Sequence[str]) -> tuple[list[int], list[int] | None]:
    """Return how many fields some hashes have, and roughly how many bytes some keys take. One round trip.

    Instead of the bytes it returns None if the server does not report them to this user.
    """

    def read(client: Any) -> list[Any]:
        pipe = client.pipeline(transaction=False)
        for key in hashes:
            pipe.hlen(key)
        for key in keys:
            pipe.memory_usage(key, samples=MEMORY_SAMPLES)
        replies = list(pipe.execute(raise_on_error=False))
        for place, reply in enumerate(replies):
            if isinstance(reply, Exception):
                if place < len(hashes) or not is_unsupported(reply):  # hosted servers rename MEMORY
                    raise reply
                return replies[: len(hashes)]
        return replies

    replies = backend._with_retry(read)
    sizes = [int(size or 0) for size in replies[len(hashes) :]]
    return replies[: len(hashes)], sizes if len(sizes) == len(keys) else None


def compact(backend: Reader, floor: int, progress: ProgressCount | None) -> int:
    """Raise the floor, remove the versions that nothing needs, and return how many."""
    backend._check_open()
    backend._eval(UPGRADE)
    done = PruneProgress(before=backend.head().floor)
    with tells_what_was_done(done.text):
        return _compact(backend, floor, progress, done)


def _compact(backend: Reader, floor: int, progress: ProgressCount | None, done: PruneProgress) -> int:
    reached = -1
    while (current := int(backend._eval(RAISE, floor, COMMITS_PER_SCRIPT))) > reached:
        reached = done.floor = current
    total = int(backend._with_retry(lambda client: client.hlen(backend._keys[4])))
    removed = examined = 0
    last = b""
    while True:
        if progress is not None:
            progress(min(examined, total), total)
        count, last, keys = backend._eval(SWEEP, reached, last, MEMBERS_PER_SCRIPT)
        removed += int(count) + sum(packing.tend(backend, key) for key in keys if backend.values.error is None)
        done.versions = removed
        examined += MEMBERS_PER_SCRIPT
        if not last:
            break
    while int(backend._eval(UNTOUCH, COMMITS_PER_SCRIPT)) == COMMITS_PER_SCRIPT:
        pass
    merge_pages(backend)
    return removed


def merge_pages(backend: Reader) -> None:
    """Merge small pages of the lists: an earlier release, or an import, wrote each member alone."""
    for place in (_HINDEX, _WRITES):
        last = b""
        while last := backend._eval(MERGE_PAGES, place + 1, last, PAGES_PER_SCRIPT):
            pass
