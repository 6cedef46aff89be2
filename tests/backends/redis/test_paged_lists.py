"""The lists in pages: what their scripts do is what a sorted list does."""

from __future__ import annotations

import random
from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from conftest import REDIS
from stress import stressed

from stateview.backends.redis.scripts.common import COMMON, NAMES
from stateview.backends.redis.scripts.paged_lists import PAGE_BYTES, WRITE_LISTS
from stateview.backends.redis.scripts.recovery import DISORDER

KEYS = [f"stateview:{{n}}:{name}" for name in NAMES]
KEY_TEXTS = ["a", "ab", "a\1", "b", "k/é", "k/1", "0" * 16, "0" * 17, "z" * 300, *(f"item-{n:03}" for n in range(60))]
_ACT = {
    "enlist": "return enlist(list, ARGV)",
    "unlist": "return unlist(list, ARGV)",
    "listed": "return is_listed(list, ARGV[1]) and 1 or 0",
    "range": "return range(list, ARGV[1], ARGV[2] ~= '' and ARGV[2] or nil, tonumber(ARGV[3]))",
    "range_back": "return range_back(list, ARGV[1], ARGV[2] ~= '' and ARGV[2] or nil, tonumber(ARGV[3]))",
    "before": "local member, later = before(ARGV[1], tonumber(ARGV[2]), true) return {member or '', later and 1 or 0}",
}


@pytest.fixture
def client(store_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(store_url) as found:
        yield found


class Pages:
    """One of the two lists on a server, and a model of it."""

    def __init__(self, client: Any, name: str) -> None:
        self.client, self.name, self.model = client, name, list[bytes]()
        start = f"{COMMON}{WRITE_LISTS}local list = {name}\n"
        self._scripts = {act: client.register_script(start + body) for act, body in _ACT.items()}
        self._disorder = client.register_script(DISORDER)

    def call(self, act: str, *words: Any) -> Any:
        return self._scripts[act](KEYS, words)

    def member(self, key: str, revision: int) -> bytes:
        return (f"{key}\0{revision:016}" if self.name == "hindex" else f"{revision:016}{key}").encode()

    def add(self, members: list[bytes]) -> None:
        new = [one for one in members if one not in self.model]
        self.call("enlist", *sorted(members))
        for one in new:
            insort(self.model, one)

    def remove(self, members: list[bytes]) -> None:
        gone = {*members} & {*self.model}
        assert self.call("unlist", *members) == len(gone)
        for one in gone:
            self.model.remove(one)

    def check(self, chance: random.Random) -> None:
        place = KEYS[NAMES.index(self.name)]
        pages = self.client.zrange(place, 0, -1)
        longest = max(map(len, self.model), default=0)
        assert all(len(page) <= PAGE_BYTES + longest + 1 for page in pages)
        assert self._disorder(KEYS, (NAMES.index(self.name) + 1, "", 10_000)) == [0, b""]
        bounds = [b"", *self.model, b"item-", b"item-030\0:", b"\xff", b"%016d" % 5]
        for _ in range(3):
            low, high, limit = chance.choice(bounds), chance.choice(bounds), chance.choice([1, 3, 40, 10_000])
            low += chance.choice([b"", b"\0"]) if low else b""
            first = bisect_left(self.model, low)
            last = bisect_left(self.model, high) if high else len(self.model)
            expected = self.model[first:last]
            assert self.call("range", low, high, limit) == expected[:limit]
            assert self.call("range_back", low, high, limit) == expected[::-1][:limit]
            key, revision = chance.choice(KEY_TEXTS), chance.randrange(300)
            assert self.call("listed", self.member(key, revision)) == (self.member(key, revision) in self.model)
            if self.name == "hindex":
                own = [one for one in self.model if one.startswith(key.encode() + b"\0")]
                found = [one for one in own if one <= self.member(key, revision)]
                assert self.call("before", key, revision) == [found[-1] if found else b"", int(len(found) < len(own))]


@pytest.mark.parametrize("kind", list(REDIS)[:1])
@pytest.mark.parametrize("name", ["hindex", "writes"])
@pytest.mark.parametrize(("seed", "acts"), [(1, 20), *stressed(*((seed, 200) for seed in range(2, 6)))])
def test_pages_are_a_sorted_list(client: Any, name: str, seed: int, acts: int) -> None:
    chance = random.Random(seed)
    pages = Pages(client, name)
    if seed % 2:  # what an earlier release wrote: a page for each member
        pages.model = sorted({pages.member(chance.choice(KEY_TEXTS), number) for number in range(80)})
        client.zadd(KEYS[NAMES.index(name)], dict.fromkeys(pages.model, 0))
    for number in range(acts):
        count = chance.choice([1, 1, 1, 5, 60, 300])
        if chance.random() < 0.6:
            revision = chance.choice([number, chance.randrange(300)])
            keys = chance.sample(KEY_TEXTS, min(count, len(KEY_TEXTS)))
            members = [pages.member(key, revision) for key in keys]
            members += [pages.member(chance.choice(KEY_TEXTS), chance.randrange(300)) for _ in range(count - len(keys))]
            pages.add(sorted({*members}))
        elif pages.model:
            start = chance.randrange(len(pages.model))
            some = pages.model[start : start + count] if chance.random() < 0.5 else chance.choices(pages.model, k=count)
            pages.remove([*some, pages.member("absent", 7)])
        pages.check(chance)
    pages.remove(list(pages.model))
    assert not client.exists(KEYS[NAMES.index(name)])
