"""The commands of scripts, and which scripts only read.

The server runs these under commands that refuse to write: EVAL_RO and EVALSHA_RO.
"""

from __future__ import annotations

import re
from functools import cache

_QUOTED = re.compile(r"'([A-Z]{2,})'")  # in a script: its commands, and their options
_READS = frozenset({
    "EXISTS", "GET", "GETRANGE", "HEXISTS", "HGET", "HGETALL", "HKEYS", "HLEN", "HMGET", "HSCAN", "HSTRLEN", "HVALS",
    "LINDEX", "LLEN", "LRANGE", "MEMORY", "MGET", "PTTL", "SCARD", "SISMEMBER", "SMEMBERS", "STRLEN", "TIME", "TTL",
    "TYPE", "ZCARD", "ZCOUNT", "ZLEXCOUNT", "ZRANGE", "ZRANGEBYLEX", "ZRANGEBYSCORE", "ZRANK", "ZREVRANGE",
    "ZREVRANGEBYLEX", "ZREVRANGEBYSCORE", "ZREVRANK", "ZSCAN", "ZSCORE",
})  # fmt: skip
_OPTIONS = frozenset({"BYLEX", "BYSCORE", "COUNT", "LIMIT", "MATCH", "REV", "USAGE", "WITHSCORES"})


@cache
def is_reading(script: str) -> bool:
    """Return whether every command that a script calls only reads. A command that is not listed counts as a write."""
    return _READS.issuperset(commands_of(script))


@cache
def commands_of(script: str) -> list[str]:
    """Return the commands that a script calls, sorted."""
    return sorted({*_QUOTED.findall(script)} - _OPTIONS)
