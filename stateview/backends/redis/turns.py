"""The queue of the writers of one key that came second: whose turn it is to read and commit.

Three kinds of keys beside those of the namespace, each of which expires:

    turns:KEY          zset   waiter -> ticket, the time at which it first asked
    turns_until:KEY    hash   waiter -> "TIME HOLD", the time up to which it counts; "" -> the waiter whose turn it is
    turns_mail:KEYID   list   an item when the turn of the waiter ID has come, which BLPOP waits for

They are advice, and no commit looks at them. Eviction or deletion costs a queue its order, and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.exceptions import NoScriptError

from .connections.server import script_hash

if TYPE_CHECKING:
    from .backend import RedisBackend

KEPT_MILLISECONDS = 2000  # how long a queue stays after the last call
LOOK_SECONDS = 0.05  # after which a waiter asks again
LATE_SECONDS = 0.03  # by which it may be late; it is passed over then, until it asks

QUEUE = """
local queue, until_, me, now = KEYS[1], KEYS[2], ARGV[1], redis.call('TIME')
now = now[1] * 1000000 + now[2]
local function left(id)  -- microseconds for which a waiter still counts
  return tonumber(string.match(redis.call('HGET', until_, id) or '0', '^%d+')) - now
end
local function next()  -- whose turn it is, and whether it was so before
  local holder = redis.call('HGET', until_, '')
  if holder and (holder == me or left(holder) > 0) then return holder, true end
  while true do
    local first = redis.call('ZRANGE', queue, 0, 0)[1]
    if not first or first == me or left(first) > 0 then return first end
    redis.call('ZREM', queue, first)
    redis.call('HDEL', until_, first)
  end
end
local function keep(id, seconds, hold)
  redis.call('HSET', until_, id, string.format('%.0f %.0f', now + seconds, hold))
  redis.call('PEXPIRE', queue, ARGV[2])
  redis.call('PEXPIRE', until_, ARGV[2])
end
"""
# The ticket of a waiter is the time at which it first asked. With its ticket it stands where it stood, if it was passed
# over.
ASK = (
    QUEUE
    + """
local ticket, hold, look = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
if ticket == '0' then ticket = string.format('%.0f', now) end
redis.call('ZADD', queue, 'NX', ticket, me)
keep(me, look, hold)
local turn = next()
if turn == me then
  keep(me, hold, hold)
  redis.call('HSET', until_, '', me)
end
return {turn == me and 1 or 0, redis.call('ZRANK', queue, me), ticket, string.format('%.0f', left(turn))}
"""
)
END = (
    QUEUE
    + """
redis.call('ZREM', queue, me)
redis.call('HDEL', until_, me)
redis.call('DEL', KEYS[3] .. me)
if redis.call('HGET', until_, '') == me then redis.call('HDEL', until_, '') end
local turn, is_old = next()
if turn and not is_old then
  local hold = tonumber(string.match(redis.call('HGET', until_, turn), ' (%d+)$'))
  keep(turn, hold, hold)
  redis.call('HSET', until_, '', turn)
  redis.call('RPUSH', KEYS[3] .. turn, '1')
  redis.call('PEXPIRE', KEYS[3] .. turn, ARGV[2])
end
return redis.call('ZCARD', queue)
"""
)


def wait(backend: RedisBackend, key: str, waiter: str, ticket: int, hold: float) -> tuple[bool, int]:
    """Enter the queue of a key, or ask again; wait a moment for the turn. Return whether it came, and the ticket."""
    micros = (round(seconds * 1e6) for seconds in (hold, LOOK_SECONDS + LATE_SECONDS))
    is_mine, place, found, left = _run(backend, ASK, key, [waiter, KEPT_MILLISECONDS, ticket, *micros])
    if is_mine:
        return True, int(found)
    seconds = LOOK_SECONDS if place > 1 else max(0.001, min(LOOK_SECONDS, int(left) / 1e6))
    mail = f"{_names(backend, key)[2]}{waiter}"
    return backend._with_retry(lambda client: client.blpop([mail], timeout=seconds)) is not None, int(found)


def end(backend: RedisBackend, key: str, waiter: str) -> int:
    """Leave the queue of a key, tell the next waiter, and return how many there are."""
    return int(_run(backend, END, key, [waiter, KEPT_MILLISECONDS]))


def is_wanted(backend: RedisBackend, key: str) -> bool:
    """Return whether writers wait for their turn."""
    return bool(backend._with_retry(lambda client: client.exists(_names(backend, key)[0])))


def _names(backend: RedisBackend, key: str) -> list[str]:
    return [f"{backend._prefix}{part}:{key}" for part in ("turns", "turns_until", "turns_mail")]


def _run(backend: RedisBackend, script: str, key: str, words: list[Any]) -> Any:
    names = _names(backend, key)

    def act(client: Any) -> Any:
        try:
            return client.evalsha(script_hash(script), len(names), *names, *words)
        except NoScriptError:
            return client.eval(script, len(names), *names, *words)

    return backend._with_retry(act)
