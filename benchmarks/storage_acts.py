"""What `storage.py` lets a process do, with the stateview on the path of that process: this one or the release before.

The process reads one act a line, `["name", [arguments]]`, and prints its result as JSON. An act that fills a namespace
also reads old states of it, and compares them with what was saved.
"""

from __future__ import annotations

import gc
import json
import random
import string
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from stateview import StateManager
from stateview.backends.protocol import CommitRequest, Write

STEPS_PER_CHECKPOINT = 10
KEYS_PER_COMMIT = {"sqlite": 50_000, "redis": 10_000}  # JSON files: all, since each commit rewrites the file
LARGE_MESSAGES = 300  # of 1 KB each in the value of 300 KB
LEAVES_PER_ROW = 4
_chance = random.Random(12)
_WORDS = ["".join(_chance.choices(string.ascii_lowercase, k=_chance.randint(2, 9))) for _ in range(2000)]
_managers: dict[tuple[str, str], StateManager] = {}


def message(chance: random.Random, size: int) -> dict[str, Any]:
    """Return a message of an agent: words, an id and a time, `size` bytes of JSON."""
    made = {"id": chance.randbytes(8).hex(), "role": "assistant", "at": 1_790_000_000 + chance.randrange(10**7)}
    text = " ".join(chance.choices(_WORDS, k=size // 5))
    return {**made, "content": text[: size - len(msgspec.json.encode({**made, "content": ""}))]}


def messages(steps: int, size: int) -> list[dict[str, Any]]:
    chance = random.Random(size)
    return [message(chance, size) for _ in range(steps)]


def document(chance: random.Random, size: int) -> list[dict[str, Any]]:
    """Return rows of ids, numbers, texts and flags, about `size` bytes of JSON."""
    row_bytes = len(msgspec.json.encode(_row(chance)))
    return [_row(chance) for _ in range(size // row_bytes)]


def _row(chance: random.Random) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for field in ("number", "score", "title", "done"):
        row[field] = _leaf(chance, field)
    return row


def _leaf(chance: random.Random, field: str) -> Any:
    if field == "title":
        return " ".join(chance.choices(_WORDS, k=5))
    return {"number": chance.randrange(10**6), "score": round(chance.random(), 4), "done": chance.random() < 0.5}[field]


def size_of(value: Any) -> int:
    return len(msgspec.json.encode(value))


def space(url: str, name: str) -> dict[str, int]:
    """Return the bytes of a namespace: its files, or the memory of its keys; `copies` are checkpoints' JSON files."""
    if url.startswith("redis"):
        import redis  # half of a process's start, which only this needs

        with redis.Redis.from_url(url) as client:
            keys = client.scan_iter(match=f"stateview:{{{name}}}:*", count=1000)
            return {"store": sum(client.memory_usage(key, samples=0) or 0 for key in keys), "copies": 0}
    folder = Path(url.partition(":")[2]) / name
    copies = folder_bytes(folder / "checkpoints")
    return {"store": folder_bytes(folder) - copies, "copies": copies}


def folder_bytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def grow(url: str, name: str, start: int, steps: int, size: int) -> dict[str, int]:
    """Append one message after the other to a list, and save it each time; a checkpoint every tenth."""
    whole = messages(start + steps, size)
    value, most = whole[:start], 0
    with StateManager(url, name) as state:
        for number in range(start + 1, start + steps + 1):
            value.append(whole[number - 1])
            state.save("messages", value)
            if number % STEPS_PER_CHECKPOINT == 0:
                state.checkpoint(f"step-{number}")
            if number > start + steps - 10:
                most = max(most, space(url, name)["store"])
    with StateManager(url, name) as state:
        middle = (start + steps) // 2 // STEPS_PER_CHECKPOINT * STEPS_PER_CHECKPOINT
        for number in {STEPS_PER_CHECKPOINT, middle or STEPS_PER_CHECKPOINT}:
            assert state.load("messages", at=f"step-{number}") == whole[:number], "history does not read as it was"
    return {"live": size_of(value), "most": most, **space(url, name)}


def change_leaves(url: str, name: str, size: int, share: float, rounds: int) -> dict[str, int]:
    """Save a document again and again, each time with some of its leaves changed."""
    chance = random.Random(2)
    value = document(chance, size)
    first = msgspec.json.encode(value)
    fields = list(value[0])
    with StateManager(url, name) as state:
        state.save("document", value)
        for _ in range(rounds):
            for place in chance.sample(range(len(value) * LEAVES_PER_ROW), int(len(value) * LEAVES_PER_ROW * share)):
                field = fields[place % LEAVES_PER_ROW]
                value[place // LEAVES_PER_ROW][field] = _leaf(chance, field)
            state.save("document", value)
    with StateManager(url, name) as state:
        assert state.load("document", at=1) == msgspec.json.decode(first), "history does not read as it was"
    return {"live": size_of(value), **space(url, name)}


def rewrite_small(url: str, name: str, keys: int) -> dict[str, int]:
    """Write small keys, and write each once again."""
    with StateManager(url, name) as state:
        step = KEYS_PER_COMMIT.get(state.backend.kind, keys)
        for turn in range(2):
            for start in range(0, keys, step):
                numbers = range(start, min(keys, start + step))
                state.backend.commit(
                    CommitRequest({f"key-{n:07}": Write(b'{"n":%d,"t":%d}' % (n, turn)) for n in numbers})
                )
    return space(url, name)


def opened(url: str, name: str) -> StateManager:
    """Return a manager that stays open for the timed acts on a namespace."""
    if (url, name) not in _managers:
        _managers[url, name] = StateManager(url, name)
    return _managers[url, name]


def close() -> None:
    while _managers:
        _managers.popitem()[1].close()


def _small() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield values of 100 bytes, and keys that take turns."""
    chance = random.Random(3)
    number = 0
    while True:
        number += 1
        yield f"key-{number % 100}", message(chance, 100)


_smalls = _small()


def save_small(url: str, name: str, calls: int) -> float:
    state, writes = opened(url, name), [next(_smalls) for _ in range(calls)]
    return _timed(calls, lambda: [state.save(key, value) for key, value in writes])


def load_live(url: str, name: str, calls: int) -> float:
    state = opened(url, name)
    keys = [f"key-{number % 100}" for number in range(calls)]
    if not state.list_keys(prefix="key-99"):
        save_small(url, name, 100)
    return _timed(calls, lambda: [state.load(key) for key in keys])


def _timed(calls: int, act: Any) -> float:
    """Return the seconds of one call."""
    gc.disable()
    try:
        started = time.perf_counter()
        act()
        return (time.perf_counter() - started) / calls
    finally:
        gc.enable()


_large: list[dict[str, Any]] = []
_large_chance = random.Random(4)


def save_large(url: str, name: str, calls: int) -> float:
    """Save a value of 300 KB, of which 1 KB changed since the last save."""
    state = opened(url, name)
    if not _large:
        _large.extend(messages(LARGE_MESSAGES, 1024))
    total = 0.0
    for _ in range(calls):
        _large[_large_chance.randrange(LARGE_MESSAGES)] = message(_large_chance, 1024)
        total += _timed(calls, lambda: state.save("large", _large))
    return total


def load_oldest(url: str, name: str, rounds: int) -> list[list[float]]:
    """Load the oldest version in an open namespace that has not read it yet; decode the same bytes: msgspec, json."""
    times: list[list[float]] = [[], [], []]
    for _ in range(rounds):
        with StateManager(url, name) as state:
            state.load("large")
            state.load("large", at="live~1")
            found: list[Any] = []
            times[0].append(_timed(1, lambda state=state, found=found: found.append(state.load("large", at=1))))
        data = msgspec.json.encode(found[0])
        for place, decode in enumerate((msgspec.json.decode, json.loads), 1):
            times[place].append(_timed(1, lambda decode=decode, data=data: decode(data)))
    return times


def export(url: str, name: str, path: str) -> float:
    with StateManager(url, name) as state:
        return _timed(1, lambda: state.export(path, overwrite=True))


def migrate(url: str, name: str, target: str) -> float:
    """Migrate into another store, in which the namespace is new."""
    with StateManager(target, name) as copy:
        copy.backend.drop()
    with StateManager(url, name) as state:
        return _timed(1, lambda: state.migrate_to(target))


ACTS = {
    act.__name__: act
    for act in (
        grow, change_leaves, rewrite_small, save_small, load_live, save_large, load_oldest, export, migrate, close,
    )
}  # fmt: skip


def main() -> None:
    if "--unpacked" in sys.argv:
        from stateview.backends import deltas

        deltas.MIN_BYTES = 1 << 40  # before a backend's module reads it
    for line in sys.stdin:
        name, given = json.loads(line)
        print(json.dumps(ACTS[name](*given)), flush=True)


if __name__ == "__main__":
    main()
