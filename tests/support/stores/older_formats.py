"""Writers of the layouts that users have from before: what they left on disk and in Redis, byte for byte alike."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

STAMP = "2024-01-01T10:00:00.123456"  # naive UTC, as the older versions wrote it
LATER = "2024-01-02T10:00:00.654321"
NESTED = {"data": [1, {"ü": None}], "big": 10**30}

BEFORE: dict[str, Any] = {"phase": "scout", "old": NESTED}
AFTER: dict[str, Any] = {"phase": "build", "new": ["a", 1.5]}


def write_json(root: Path, namespace: str) -> None:
    """state.json and checkpoints/NAME.json of the sketch."""
    folder = root / namespace
    (folder / "checkpoints").mkdir(parents=True)

    def dump(path: Path, values: dict[str, Any], stamp: str) -> None:
        path.write_text(
            json.dumps({key: {"value": value, "timestamp": stamp} for key, value in values.items()}, indent=2)
        )

    dump(folder / "checkpoints" / "early.json", BEFORE, STAMP)
    dump(folder / "state.json", AFTER, LATER)


def write_sqlite(root: Path, namespace: str) -> None:
    """state.db of the sketch."""
    folder = root / namespace
    folder.mkdir(parents=True)
    with sqlite3.connect(folder / "state.db") as db:
        db.execute("CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, value TEXT, timestamp TEXT)")
        db.execute("CREATE TABLE IF NOT EXISTS checkpoints (name TEXT PRIMARY KEY, state TEXT, created_at TEXT)")
        rows = [(key, json.dumps(value), STAMP) for key, value in BEFORE.items()]
        db.execute("INSERT INTO checkpoints VALUES (?, ?, ?)", ("early", json.dumps(rows), STAMP))
        db.executemany("INSERT INTO state VALUES (?, ?, ?)", [(k, json.dumps(v), LATER) for k, v in AFTER.items()])
    db.close()


def write_redis(client: Any, namespace: str) -> None:
    """Strings `state:NS:KEY`, which expire after a day, and `checkpoint:NS:NAME`."""
    for key, value in AFTER.items():
        client.set(f"state:{namespace}:{key}", json.dumps(value))
        client.expire(f"state:{namespace}:{key}", 86400)
    client.set(f"checkpoint:{namespace}:early", json.dumps(BEFORE))


def write_mvp(root: Path) -> None:
    """One KEY.json a key, checkpoints/NAME/KEY.json."""

    def dump(folder: Path, values: dict[str, Any], stamp: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for key, value in values.items():
            (folder / f"{key}.json").write_text(json.dumps({"value": value, "timestamp": stamp}, indent=2))

    dump(root / "checkpoints" / "early", BEFORE, STAMP)
    dump(root, AFTER, LATER)
