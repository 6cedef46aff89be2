"""Write the stores of this folder: by a release that kept every superseded version whole.

Run it with that release installed: `python make.py FOLDER json sqlite redis://HOST:PORT/DB`, with an empty database.
FOLDER then holds `json.tar.xz`, `sqlite.tar.xz` and `redis.tar.xz`. Each has the store (`store/`), its export
(`export.jsonl`), and the plain export at each revision (`at/REVISION.json`). The store of Redis is `commands.json`: the
commands that write its keys, with bytes as the characters of the same numbers.
"""

from __future__ import annotations

import json
import random
import sys
import tarfile
import time
from pathlib import Path

import redis

from stateview import StateManager

WORDS = ("plan", "build", "test", "fix", "review", "merge", "deploy", "wait", "retry", "read", "write", "tool", "call",
         "error", "file", "line", "token")  # fmt: skip
FAR = 100 * 365 * 86400  # seconds


def fill(state: StateManager) -> None:
    """Write a past of every kind."""
    chance = random.Random(5)
    messages = [{"id": number, "text": " ".join(chance.choices(WORDS, k=20))} for number in range(45)]
    state.save("messages", messages)  # 6 KB
    state.save("small", {"n": 1})
    state.checkpoint("start", note="before “anything”\nhappened")
    for step in range(40):
        messages[step]["text"] = " ".join(chance.choices(WORDS, k=20))
        state.save("messages", messages, reason=f"step {step}" if step % 2 else "")
        if step == 20:
            state.delete("messages")
        if step % 16 == 0:
            state.checkpoint("moving", note=f"step {step}")
    state.save("lease", {"owner": "ä"}, ttl=FAR)
    state.save("brief", "x" * 600, ttl=0.05)
    time.sleep(0.1)
    with state.transaction(reason="several") as several:
        several.save("notes/ü", "y" * 700)
        several.save("small", 10**30)
        several.delete("brief")
    state.delete("notes/ü")
    state.checkpoint("end")
    state.undo()


def dump(url: str) -> list[list[str]]:
    """Return the commands that write all keys of a Redis database."""
    client = redis.Redis.from_url(url, encoding="latin-1", decode_responses=True)
    commands = []
    for key in sorted(client.scan_iter()):
        kind = client.type(key)
        if kind == "hash":
            commands.append(["HSET", key, *(part for pair in client.hgetall(key).items() for part in pair)])
        elif kind == "zset":
            scored = client.zrange(key, 0, -1, withscores=True)
            commands.append(["ZADD", key, *(part for member, score in scored for part in (repr(score), member))])
        else:
            commands.append(["SADD", key, *sorted(client.smembers(key))])
    return commands


def write(store: str, folder: Path) -> None:
    """Write one store and what is read from it into an archive."""
    kind = store.partition(":")[0]
    place = folder / kind
    (place / "at").mkdir(parents=True)
    url = store if kind == "redis" else f"{kind}:{place / 'store'}"
    with StateManager(url, "main", author="a@example.org") as state:
        fill(state)
        state.export(place / "export.jsonl")
        for revision in range(1, state.revision + 1):
            state.export(place / "at" / f"{revision}.json", at=revision)
    if kind == "redis":
        (place / "store").mkdir()
        (place / "store" / "commands.json").write_text(json.dumps(dump(url)))
    with tarfile.open(folder / f"{kind}.tar.xz", "w:xz") as archive:
        for path in sorted(place.rglob("*")):
            if path.is_file() and path.name != "lock":
                archive.add(path, path.relative_to(place))


if __name__ == "__main__":
    for store in sys.argv[2:]:
        write(store, Path(sys.argv[1]))
