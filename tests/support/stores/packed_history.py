"""Superseded values as deltas: values that pack well, and what lies in a store of them."""

from __future__ import annotations

import base64
import json
import random
import re
from pathlib import Path
from typing import NamedTuple

import redis
from plain_sqlite import plain_sqlite

_LINKED = re.compile(rb"\*\d+ \d+ \d+ P(\d+) (\d+) (\d+) (\d+) ", re.DOTALL)


class Kept(NamedTuple):
    """A delta as it lies in the store. `refs` is how many are relative to it, on Redis."""

    base: int
    place: int
    size: int
    data: bytes
    refs: int = 0


class Texts:
    """Values of keys, each mostly like the one before it: lines are added, changed and removed."""

    def __init__(self, chance: random.Random, width: int = 60, least: int = 40) -> None:
        self._chance = chance
        self._width = width
        self._least = least
        self._lines: dict[str, list[str]] = {}

    def next(self, key: str) -> object:
        """The next value of a key; now and then one that is small, or that nothing makes smaller."""
        chance, lines, how = self._chance, self._lines.setdefault(key, []), self._chance.random()
        if how < 0.1:
            return f"small {chance.randrange(10**6)}"
        if how < 0.2:
            return f"{chance.getrandbits(4 * 1500):x}"
        if how < 0.3 and lines:
            lines[chance.randrange(len(lines))] = self._line()
        elif how < 0.4:
            del lines[: chance.randrange(len(lines) // 2 + 1)]
        else:
            lines.append(self._line())
        lines += [self._line() for _ in range(self._least - len(lines))]
        return list(lines)

    def _line(self) -> str:
        return f"{self._chance.randrange(10**9):0{self._width}}"


def deltas(url: str, namespace: str = "ns") -> dict[tuple[str, int], Kept]:
    """All deltas of a store, by key and revision, read past the backend."""
    kind, _, place = url.partition(":")
    if kind == "sqlite":
        with plain_sqlite(Path(place) / namespace / "state.db") as db:
            if db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'packed'").fetchone() is None:
                return {}
            rows = db.execute("SELECT key, revision, base, place, size, data FROM packed").fetchall()
        return {(key, revision): Kept(*fields) for key, revision, *fields in rows}
    if kind == "json":
        found = {}
        for line in (Path(place) / namespace / "history.jsonl").read_text().splitlines():
            record = json.loads(line)
            writes = record.get("set", {}) if "rev" in record else {record["key"]: record} if "key" in record else {}
            for key, item in writes.items():
                if delta := item.get("delta"):
                    kept = Kept(
                        delta.get("base", 0), delta.get("place", 0), delta["size"], base64.b64decode(delta["data"])
                    )
                    found[key, record.get("rev") or record["revision"]] = kept
        return found
    with redis.Redis.from_url(url) as client:
        records = client.hgetall(f"stateview:{{{namespace}}}:history")
    found = {}
    for field, record in records.items():
        if match := _LINKED.match(record):
            key, _, revision = field.rpartition(b"\0")
            refs, base, number, size = map(int, match.groups())
            found[key.decode(), int(revision)] = Kept(base, number, size, record[match.end() :], refs)
    return found


def steps(found: dict[tuple[str, int], Kept], key: str, revision: int) -> int:
    """How many deltas are undone for one version."""
    count = 0
    while (kept := found.get((key, revision))) is not None:
        count += 1
        if not kept.base:
            break
        assert kept.base > revision
        revision = kept.base
    return count


def bytes_of(url: str, namespace: str = "ns") -> int:
    """How many bytes a store takes: the history and what is live, on JSON files without the copies of checkpoints."""
    kind, _, place = url.partition(":")
    if kind in ("json", "sqlite"):
        return sum(path.stat().st_size for path in (Path(place) / namespace).glob("*") if path.is_file())
    with redis.Redis.from_url(url) as client:
        keys = list(client.scan_iter(f"stateview:{{{namespace}}}:*"))
        return sum(client.memory_usage(key, samples=0) for key in keys)
