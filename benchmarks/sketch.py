"""The uncached `load` of the three backends of the sketch that stateview grew from, as it stood there."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import redis


class SketchError(Exception):
    """The sketch's StateException."""


class SketchJSON:
    """One file, read and parsed anew by each load."""

    def __init__(self, root: str, namespace: str) -> None:
        self.state_file = Path(root) / namespace / "state.json"
        self.state_file.parent.mkdir(parents=True)

    def fill(self, values: dict[str, Any]) -> None:
        stamp = datetime.now(UTC).isoformat()
        state = {key: {"value": value, "timestamp": stamp} for key, value in values.items()}
        self.state_file.write_text(json.dumps(state, indent=2))

    def _read_state(self) -> dict[str, Any]:
        if self.state_file.exists():
            with self.state_file.open() as file:
                return json.load(file)
        return {}

    def load(self, key: str) -> Any:
        state = self._read_state()
        if key not in state:
            raise SketchError(f"Key not found: {key}")
        return state[key]["value"]


class SketchSQLite:
    """One database, opened and closed by each load."""

    def __init__(self, root: str, namespace: str) -> None:
        self.db_path = Path(root) / namespace / "state.db"
        self.db_path.parent.mkdir(parents=True)
        with self._get_conn() as connection:
            connection.execute("CREATE TABLE state (key TEXT PRIMARY KEY, value TEXT, timestamp TEXT)")

    def fill(self, values: dict[str, Any]) -> None:
        stamp = datetime.now(UTC).isoformat()
        rows = [(key, json.dumps(value), stamp) for key, value in values.items()]
        with self._get_conn() as connection:
            connection.executemany("INSERT INTO state VALUES (?, ?, ?)", rows)

    @contextmanager
    def _get_conn(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self.db_path)
        try:
            yield connection
            connection.commit()
        except Exception as error:
            connection.rollback()
            raise SketchError(f"Database error: {error}") from error
        finally:
            connection.close()

    def load(self, key: str) -> Any:
        with self._get_conn() as connection:
            result = connection.execute("SELECT value FROM state WHERE key = ?", (key,)).fetchone()
            if not result:
                raise SketchError(f"Key not found: {key}")
            return json.loads(result[0])


class SketchRedis:
    """One string a key, asked for by each load."""

    def __init__(self, port: int, namespace: str) -> None:
        self.client = redis.Redis(host="localhost", port=port, decode_responses=True)
        self.key_prefix = f"sketch:{namespace}:"

    def fill(self, values: dict[str, Any]) -> None:
        for key, value in values.items():
            self.client.set(f"{self.key_prefix}{key}", json.dumps(value))

    def load(self, key: str) -> Any:
        value = self.client.get(f"{self.key_prefix}{key}")
        if value is None:
            raise SketchError(f"Key not found: {key}")
        return json.loads(value)
