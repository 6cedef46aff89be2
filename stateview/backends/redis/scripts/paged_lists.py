"""Lists in pages: the Lua functions for `hindex` and `writes`, in which each version of a key has a member.

A sorted set takes 100 bytes a member beside its text. So a member of these two sets is a page: a run of their members
in byte order, as a text of about `PAGE_BYTES`. Members of `writes` are separated by a NUL, which those of `hindex` need
not: they end with 16 digits after a NUL. Pages do not overlap, so a page is found by its first member. A page of only a
single member is what an earlier release wrote.

A script declares PARTS first.
"""

from __future__ import annotations

PAGE_BYTES = 440  # of a page, if a member is not longer: smaller pages take more memory, larger pages more time

# fmt: off
_ORDER = """
local function less(a, b)  -- in byte order; Lua's < compares by the server's locale
  local at, byte = 1, string.byte
  while true do  -- `byte` of eight costs as much as of one
    local a1, a2, a3, a4, a5, a6, a7, a8 = byte(a, at, at + 7)
    local b1, b2, b3, b4, b5, b6, b7, b8 = byte(b, at, at + 7)
    if a1 ~= b1 then return (a1 or -1) < (b1 or -1) end
    if a2 ~= b2 then return (a2 or -1) < (b2 or -1) end
    if a3 ~= b3 then return (a3 or -1) < (b3 or -1) end
    if a4 ~= b4 then return (a4 or -1) < (b4 or -1) end
    if a5 ~= b5 then return (a5 or -1) < (b5 or -1) end
    if a6 ~= b6 then return (a6 or -1) < (b6 or -1) end
    if a7 ~= b7 then return (a7 or -1) < (b7 or -1) end
    if a8 ~= b8 then return (a8 or -1) < (b8 or -1) end
    if not a8 then return false end
    at = at + 8
  end
end
"""

READ_LISTS = _ORDER + """
local function starts_in(list, page)  -- where its members start; nil if another program wrote the page
  local starts, n, from, find = {}, 0, 1, string.find  -- a pattern takes twice the time
  while from <= #page do
    n, starts[n + 1] = n + 1, from
    local nul = find(page, '\\0', from, true)
    if nul == from or list == hindex and (not nul or nul + 16 > #page) then return nil end
    from = list == hindex and nul + 17 or (nul or #page + 1) + 1
  end
  return starts, n
end
local function split_page(list, page)
  local starts, n = starts_in(list, page)
  if not starts then return {page} end
  local found, gap, sub = {}, list == writes and 2 or 1, string.sub
  for i = 1, n - 1 do found[i] = sub(page, starts[i], starts[i + 1] - gap) end
  found[n] = sub(page, starts[n])
  return found
end
local function page_of(list, member)  -- the only page that may have a member: the last that begins with it or before it
  local bound = '(' .. member .. (list == writes and '\\0\\255' or '\\255')
  return call('ZREVRANGEBYLEX', list, bound, '-', 'LIMIT', 0, 1)[1]
end
local function place_in(found, member, first, stop)  -- the place of the first member, from a place on, that is not less
  local low, high = first or 1, stop or #found + 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    if less(found[middle], member) then low = middle + 1 else high = middle end
  end
  return low
end
local function is_listed(list, member)
  local page = page_of(list, member)
  if not page then return false end
  local found = split_page(list, page)
  return found[place_in(found, member)] == member
end
local function range(list, low, high, limit)
  -- Up to `limit` members from `low` on, before `high`, in order. '' and nil stand for no bound. A member with a NUL at
  -- its end, the least text after that member, may be `low`, but not `high`.
  local out, n = {}, 0
  local function take(page)  -- whether more may follow
    local found = split_page(list, page)
    local last = #found
    local ends = high and not less(found[last], high)
    if ends then last = place_in(found, high) - 1 end
    for i = less(found[1], low) and place_in(found, low) or 1, math.min(last, #found) do
      if n == limit then return false end
      n = n + 1
      out[n] = found[i]
    end
    return n < limit and not ends
  end
  local after = '[' .. low
  if low ~= '' then
    local page = call('ZREVRANGEBYLEX', list, '(' .. low, '-', 'LIMIT', 0, 1)[1]
    if page and not take(page) then return out end
  else
    after = '-'
  end
  local size = limit < 20 and 1 or 20
  while true do
    local pages = call('ZRANGEBYLEX', list, after, high and '(' .. high or '+', 'LIMIT', 0, size)
    for _, page in ipairs(pages) do
      if not take(page) then return out end
    end
    if #pages < size then return out end
    after, size = '(' .. pages[#pages], 20
  end
end
local function range_back(list, low, high, limit)  -- as `range`, from the last member before `high` back to `low`
  local out, n, before, size = {}, 0, high and '(' .. high or '+', limit < 20 and 1 or 20
  while true do
    local pages = call('ZREVRANGEBYLEX', list, before, '-', 'LIMIT', 0, size)
    for _, page in ipairs(pages) do
      local found = split_page(list, page)
      for i = high and place_in(found, high) - 1 or #found, 1, -1 do
        if n == limit or less(found[i], low) then return out end
        n = n + 1
        out[n] = found[i]
      end
    end
    if #pages < size then return out end
    before, size = '(' .. pages[#pages], 20
  end
end
"""

BEFORE = """
local function before(key, revision, is_asked)
  -- The last version of a key in the history, up to a revision; and whether it has a later version, if that is asked.
  local start, padded = key .. '\\0', string.format('%016.0f', revision)
  local page = call('ZREVRANGEBYLEX', hindex, '(' .. start .. padded .. '\\255', '-', 'LIMIT', 0, 1)[1] or ''
  local from, size, found, later = string.find(page, start, 1, true), #start + 16, nil, false
  while from and from > 1 and string.byte(page, from - 17) ~= 0 do  -- in the middle of another key
    from = string.find(page, start, from + 1, true)
  end
  while from and string.sub(page, from, from + #start - 1) == start do
    later = string.sub(page, from + #start, from + size - 1) > padded  -- digits
    if later then break end
    found, from = from, from + size
  end
  if is_asked and not later then  -- the next page may begin with it
    later = call('ZRANGEBYLEX', hindex, '(' .. start .. padded .. '\\255', '(' .. start .. ':', 'LIMIT', 0, 1)[1]
  end
  return found and string.sub(page, found, found + size - 1), later
end
"""

WRITE_LISTS = f"""
local page_bytes = {PAGE_BYTES}
""" + """
local function end_of(list, text, from)  -- the end of the first member whose NUL, or whose end, is not before a place
  local nul = string.find(text, '\\0', from, true)
  return nul and math.min(list == hindex and nul + 16 or nul - 1, #text) or #text
end
local function put_page(list, page, text, is_even)  -- replace a page by the pages of a text, in halves if is_even
  local pages, n, from, gap = {}, 0, 1, list == writes and 2 or 1
  while from <= #text do
    local last, left = #text, #text - from + 1
    if left > page_bytes and is_even then
      local room = math.ceil(left / math.ceil(left / page_bytes))
      last = end_of(list, text, list == hindex and from + room - 17 or from + room)
    elseif left > page_bytes then
      last = end_of(list, text, from)
      local following = end_of(list, text, last + gap)
      while following - from < page_bytes do last, following = following, end_of(list, text, following + gap) end
    end
    pages[n + 1], pages[n + 2], n = '0', string.sub(text, from, last), n + 2
    from = last + gap
  end
  if page and pages[2] == page then
    table.remove(pages, 1); table.remove(pages, 1)
  elseif page then
    call('ZREM', list, page)
  end
  for i = 1, #pages, 1000 do call('ZADD', list, unpack(pages, i, math.min(i + 999, #pages))) end
end
local function end_of_key(page, member, from)
  -- Where the versions of a member's key end in a page of `hindex`, if the member comes after them, and whether it is
  -- the last of them; nil if it comes elsewhere.
  local start, size = string.sub(member, 1, -17), #member
  local at = string.find(page, start, from, true)
  while at and at > 1 and string.byte(page, at - 17) ~= 0 do at = string.find(page, start, at + 1, true) end
  if not at then return nil end
  local last = #page - size + 1
  if string.sub(page, last, -17) == start and (last == at or string.byte(page, last - 17) == 0) then at = #page + 1
  else
    repeat at = at + size until string.sub(page, at, at + size - 17) ~= start
  end
  local newest, padded = string.sub(page, at - 16, at - 1), string.sub(member, -16)
  if newest <= padded then return at, newest == padded end
end
local function merged(list, page, added, first, last)
  -- A page with some members more, and whether any of them lies before its end; nil if another program wrote the page.
  local pieces, n, from, is_middle, starts, count = {}, 0, 1, false, nil, nil
  local separator, sub = list == writes and '\\0' or '', string.sub
  page = page .. separator
  for i = first, last do
    local member, at, is_known = added[i], nil, false
    if list == hindex then at, is_known = end_of_key(page, member, from) end
    if not at then
      if not starts then
        starts, count = starts_in(list, page)
        if not starts then return nil end
        starts[count + 1] = #page + 1
      end
      local low, high = 1, count + 1
      while low < high and not is_known do
        local middle = math.floor((low + high) / 2)
        local other = sub(page, starts[middle], starts[middle + 1] - 1 - #separator)
        if other == member then is_known = true
        elseif less(other, member) then low = middle + 1
        else high = middle end
      end
      at = starts[low]
    end
    if not is_known then
      pieces[n + 1], pieces[n + 2], n = sub(page, from, at - 1), member .. separator, n + 2
      from, is_middle = at, is_middle or at <= #page
    end
  end
  pieces[n + 1] = sub(page, from)
  local text = table.concat(pieces)
  return list == writes and sub(text, 1, -2) or text, is_middle
end
local function bound_of(list, following)  -- the first member of a page
  local nul = string.find(following, '\\0', 1, true) or #following + 1
  return string.sub(following, 1, list == hindex and nul + 16 or nul - 1)
end
local function last_before(added, first, bound)  -- the place of the last member before a bound, near a place
  local step = 1
  while first + step <= #added and less(added[first + step], bound) do step = 2 * step end
  return step == 1 and first or place_in(added, bound, first + step / 2 + 1, math.min(first + step, #added + 1)) - 1
end
local function merge_into(list, page, added, first, last)  -- add members to a page, or make pages of them
  local text, is_middle = nil, false
  if page then text, is_middle = merged(list, page, added, first, last) end
  if not text then page, text = nil, table.concat(added, list == writes and '\\0' or '', first, last) end
  if text == page then return end
  if not page or #text > page_bytes then return put_page(list, page, text, is_middle) end
  call('ZREM', list, page)
  call('ZADD', list, '0', text)
end
local function enlist_many(list, added)  -- members that belong to most pages: neighbouring pages are read at once
  local i, first, pages, at = 1, page_of(list, added[1]), {}, 1
  while i <= #added do
    if not pages[at + 1] then
      local from = pages[at] and '[' .. bound_of(list, pages[at]) or first and '[' .. first or '-'
      pages, at = call('ZRANGEBYLEX', list, from, '+', 'LIMIT', 0, 100), 1
    end
    local following = pages[at + 1]
    local bound = following and bound_of(list, following)
    if not bound or less(added[i], bound) then
      local last = bound and last_before(added, i, bound) or #added
      merge_into(list, pages[at], added, i, last)
      i = last + 1
    end
    at = at + 1
  end
end
local function enlist(list, added)  -- add members, which come in byte order
  local pages = #added >= 100 and call('ZCARD', list) or 0
  if pages > 1 and #added > pages / 2 then return enlist_many(list, added) end
  local i, next_page = 1, #added > 0 and page_of(list, added[1])
  while i <= #added do
    local page, last = next_page or call('ZRANGE', list, 0, 0)[1], i
    next_page = i < #added and page_of(list, added[i + 1])
    if not page or next_page == page or not next_page and i < #added then
      local following = call('ZRANGEBYLEX', list, page and '(' .. page or '-', '+', 'LIMIT', 0, 1)[1]
      last = following and last_before(added, i, bound_of(list, following)) or #added
      next_page = nil
    end
    merge_into(list, page, added, i, last)
    i = last + 1
    if i <= #added then next_page = next_page or page_of(list, added[i]) end
  end
end
local function unlist(list, removed)  -- remove members; returns how many there were
  local gone, count = {}, 0
  for _, member in ipairs(removed) do gone[member] = true end
  for _, member in ipairs(removed) do
    local page = gone[member] and page_of(list, member)
    if page then
      local found, n = {}, 0
      for _, other in ipairs(split_page(list, page)) do
        if gone[other] then gone[other], count = nil, count + 1
        else
          n = n + 1
          found[n] = other
        end
      end
      local text = table.concat(found, list == writes and '\\0' or '')
      if text ~= page then
        call('ZREM', list, page)
        local following = n > 0 and #text < page_bytes / 4 and
          call('ZRANGEBYLEX', list, '(' .. page, '+', 'LIMIT', 0, 1)[1]
        if following and #following < page_bytes / 2 then  -- together with the page that follows
          call('ZREM', list, following)
          text = text .. (list == writes and '\\0' or '') .. following
        end
        if n > 0 then call('ZADD', list, '0', text) end
      end
    end
  end
  return count
end
"""
# fmt: on
